"""How good a network is, in words: by the part that it recognises, or by its error in predicting a number."""

import math

from experiments.common.arguments import few_digits


def name(metrics: dict) -> str:
    """Which score an epoch has."""
    return "test_accuracy" if "test_accuracy" in metrics else "test_error"


def merit(metrics: dict) -> float:
    """What is larger the better an epoch is, as in `jaxnn.runs.record`; of an error that is no number least.

    >>> merit({"test_accuracy": 0.5}), merit({"test_error": 2.0}), merit({"test_error": math.nan})
    (0.5, -2.0, -inf)
    """
    found = metrics["test_accuracy"] if "test_accuracy" in metrics else -metrics["test_error"]
    return -math.inf if math.isnan(found) else found


def short(name: str, merit: float) -> str:
    """A score by itself.

    >>> short("test_accuracy", 0.5), short("test_error", -0.5)
    ('50.00 %', '0.5000')
    """
    return f"{100 * merit:.2f} %" if name == "test_accuracy" else few_digits(-merit)


def after_epoch(metrics: dict) -> str:
    """The score of an epoch.

    >>> after_epoch({"test_accuracy": 0.5}), after_epoch({"test_error": 0.5})
    ('test accuracy 50.00 %', 'test error 0.5000')
    """
    return f"{name(metrics).replace('_', ' ')} {short(name(metrics), merit(metrics))}"


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
        f"          mean squared error {few_digits(score**2)};",
        f"          the labels' standard deviation in training is {few_digits(data.unit)}",
    ]
