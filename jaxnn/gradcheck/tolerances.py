"""What counts as equal where no bound is had: three numbers, for all of gradcheck."""

COMPUTED = 1e-10  # of the largest entry: two right computations in float64, apart by their roundings alone
FITTED = 1e-7  # a number solved for from such values, by least squares or as a quotient of small ones
ROUNDED = 2.0**-20  # of what a mistake does: left by float32 in a buffer or a constant of either side
