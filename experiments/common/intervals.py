"""Rates that were measured, and how sure of them one can be."""


def interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval for a rate of which k of n were seen."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = beta.ppf(tail, k, n - k + 1) if k else 0.0
    high = beta.ppf(1 - tail, k + 1, n - k) if k < n else 1.0
    return float(low), float(high)


def rate(words: str, k: int, n: int) -> str:
    """One line: what, how many of how many, the rate and its interval."""
    if not n:
        return f"{words:<58} none"
    low, high = interval(k, n)
    return f"{words:<58} {k:>6} of {n:<6} {k / n:9.3%}   [{low:.3%}, {high:.3%}]"
