"""What counts as equal where no bound is had: two numbers, for all of gradcheck."""

COMPUTED = 1e-10  # of the largest entry: two right computations in float64, apart by their roundings alone
FITTED = 1e-7  # a number solved for from such values, by least squares or as a quotient of small ones
