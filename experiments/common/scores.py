"""How good a network is, in words: by the part that it recognises, or by its error in predicting a number."""

import math

from experiments.common.arguments import few_digits


def after_epoch(metrics: dict) -> str:
    """The score of an epoch.

    >>> after_epoch({"test_accuracy": 0.5}), after_epoch({"test_error": 0.5})
    ('test accuracy 50.00 %', 'test error 0.5000')
    """
    if "test_accuracy" in metrics:
        return f"test accuracy {100 * metrics['test_accuracy']:.2f} %"
    return f"test error {few_digits(metrics['test_error'])}"


def beside(data, score: float, reported: float) -> str:
    """What is said of a score that is measured again, beside the one that training reported."""
    N = len(data.test.labels)
    if data.classes:  # a mean may differ in its last bit
        same = round(score * N) == round(reported * N)
        return "as training reported" if same else f"training reported {100 * reported:.2f} %"
    same = math.isclose(score, reported, rel_tol=1e-4)
    return "as training reported" if same else f"training reported {few_digits(reported)}"


def at_end(data, score: float, test: str = "test ") -> list[str]:
    """The score of a network on the test examples of a data set, in lines."""
    N = len(data.test.labels)
    if data.classes:
        return [f"accuracy  {100 * score:.2f} % of {N} {test}{data.what}"]
    return [
        f"error     {few_digits(score)}: the root mean squared error of {N} {test}{data.what}",
        f"          mean squared error {few_digits(score**2)}; the labels' standard deviation in training is "
        f"{few_digits(data.unit)}",
    ]
