"""What counts as equal where no bound is had: two numbers, for all of gradcheck."""

COMPUTED = 1e-9  # of the largest entry: two right computations in float64, some hundred roundings apart
FITTED = (
    1e-6  # a number solved for from such values, by least squares or a quotient: it has half their digits
)
