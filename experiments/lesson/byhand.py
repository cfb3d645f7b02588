"""A network so small that a step of its descent is worked by hand, and the mistakes that are made at it.

5 examples, 3-4-2: the sizes all differ, so that nothing fits where it does not belong. Everything is what
jaxnn's own functions give, in float64; a mistake is made in what they are given, or is a factor.
"""

import itertools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from jaxnn.activations import sigmoid, tanh
from jaxnn.layers import Dense, Residuals, dense
from jaxnn.letters import cost, equations
from jaxnn.losses import binary_cross_entropy, cross_entropy, squared_error
from jaxnn.passes import passes
from jaxnn.training import start, step

n, N, ALPHA, WITHIN = (3, 4, 2), 5, 0.5, 1e-3  # an answer has three decimals, what it is made of has four
GIVEN = {
    "X": [[1, -0.5, 2], [-1.5, 1, 0.5], [0.5, 2, -1], [2, 0.5, -0.5], [-1, -2, 1.5]],
    "Y": [[1, 0], [0, 1], [0, 1], [1, 0], [0, 1]],
    "W[1]": [[0.5, -1, 0.2], [0.8, 0.3, -0.6], [-0.4, 1.2, 0.7], [1.1, 0.6, 0.9]],
    "b[1]": [[0.1], [-0.2], [0.3], [-0.5]],
    "W[2]": [[1.5, -0.8, 0.6, -1.2], [-0.7, 1, 0.9, 1.4]],
    "b[2]": [[0.4], [-0.3]],
}
PARAMETERS = ("W[2]", "b[2]", "W[1]", "b[1]")


class Step(NamedTuple):
    """A quantity, and what it becomes by each mistake, which says itself in words."""

    name: str
    equation: str
    made_of: list[tuple[str, np.ndarray, np.ndarray]]  # name, array, which of its entries make the one asked
    right: np.ndarray
    mistakes: list[tuple[str, np.ndarray]]
    entry: tuple[int, int]  # that is asked: right and mistakes all differ there
    worked: str  # how it is computed


def gap(arrays, entry: tuple[int, int]) -> float:
    """How far apart the arrays are at an entry, at least; 0 where one of them has no such entry."""
    if any(k >= size for array in arrays for k, size in zip(entry, array.shape, strict=True)):
        return 0.0
    return min(b - a for a, b in itertools.pairwise(sorted(float(array[entry]) for array in arrays)))


def known() -> dict:
    """Every array of the passes, the parameters before a step of descent, and after it; within x64."""
    found = {name: jnp.array(values, float) for name, values in GIVEN.items()}
    params = [Dense(found[f"W[{l}]"], found[f"b[{l}]"]) for l in (1, 2)]
    found |= passes(n, sigmoid, binary_cross_entropy)(params, found["X"], found["Y"])
    found |= {"Ŷ": found["A[2]"], "J": found["J"].reshape(1, 1)}
    return found | {f"{name} :=": stepped(found, name) for name in PARAMETERS}


def stepped(a: dict, name: str, alpha: float = ALPHA, left: float = 1.0):
    """W[l] or b[l] after a step of descent, with so much of it left."""
    sgd = optax.sgd(alpha)
    return step(lambda p: (a["J"], a[f"d{name}"]), sgd)(start(left * a[name], sgd))[0].params


def steps() -> list[Step]:
    """From Z[1] to the new b[1]; within x64."""
    a, loss, made = known(), "binary_cross_entropy", []
    said = equations(1, 2, "sigmoid", loss) | equations(2, 2, "sigmoid", loss) | {"J": cost(loss)}
    said |= {"Ŷ": said["A[2]"]} | {f"{name} :=": f"{name} − α d{name}, α = {ALPHA}" for name in PARAMETERS}
    wrong = forward_mistakes(a) | backward_mistakes(a)
    for name, inputs, letters, worked in MADE_OF:
        right, *mistaken = (np.asarray(array) for array in (a[name], *wrong[name].values()))
        i, j = max(np.ndindex(right.shape), key=lambda entry, all=(right, *mistaken): gap(all, entry))
        made_of = []
        for x, word in zip(inputs, letters.split(), strict=True):
            array = np.asarray(a[x])
            used = np.zeros(array.shape, bool)
            used[tuple({"i": i, "j": j}.get(letter, slice(None)) for letter in word)] = True
            made_of.append((x, array, used))
        how = worked(*(array[used] for _, array, used in made_of))
        mistakes = list(zip(wrong[name], mistaken, strict=True))
        made.append(Step(name, said[name].replace("A[0]", "X"), made_of, right, mistakes, (i, j), how))
    return made


def _sum(*factors) -> str:
    terms = [*zip(*factors[:2], strict=True), *((bias,) for rest in factors[2:] for bias in rest)]
    return " + ".join(" · ".join(f"{v:g}" if v >= 0 else f"({v:g})" for v in np.round(t, 4)) for t in terms)


def _each(form: str):
    return lambda *values: form.format(*(value.item() for value in values))


MADE_OF = (  # name, of what, which entries of that make the one in row i and column j, and how
    ("Z[1]", ("X", "W[1]", "b[1]"), "ip jp j0", _sum),
    ("A[1]", ("Z[1]",), "ij", _each("σ({:.4f})")),
    ("Z[2]", ("A[1]", "W[2]", "b[2]"), "ip jp j0", _sum),
    ("Ŷ", ("Z[2]",), "ij", _each("σ({:.4f})")),
    ("J", ("Ŷ", "Y"), "pq pq", lambda Y_hat, Y: f"−1/{N} Σ of {Y.size} terms"),
    ("dZ[2]", ("Ŷ", "Y"), "ij ij", _each(f"1/{N} ({{:.4f}} − {{:g}})")),
    ("dW[2]", ("dZ[2]", "A[1]"), "pi pj", _sum),
    ("db[2]", ("dZ[2]",), "pi", _sum),
    ("dA[1]", ("dZ[2]", "W[2]"), "ip pj", _sum),
    ("dZ[1]", ("dA[1]", "A[1]"), "ij ij", _each("{0:.4f} · {1:.4f} · (1 − {1:.4f})")),
    ("dW[1]", ("dZ[1]", "X"), "pi pj", _sum),
    ("db[1]", ("dZ[1]",), "pi", _sum),
    *((f"{x} :=", (x, f"d{x}"), "ij ij", _each(f"{{:.4f}} − {ALPHA} · ({{:.4f}})")) for x in PARAMETERS),
)


def forward_mistakes(a: dict) -> dict[str, dict]:
    """What Z, A and J become by mistake, and W and b after the step."""
    Y, Z2, J = a["Y"], a["Z[2]"], a["J"]

    def of_Z(A, W, b):
        return dense(*W.shape[::-1]).forward(Dense(W, b), A)[0]

    def of_J(loss, Z, Y):
        return loss.forward(Z, Y).reshape(1, 1)

    wrong = {}
    for l, A_prev, Z, A in ((1, "X", "Z[1]", "A[1]"), (2, "A[1]", "Z[2]", "Ŷ")):
        W, b = a[f"W[{l}]"], a[f"b[{l}]"]
        wrong[Z] = {f"b[{l}] is forgotten": of_Z(a[A_prev], W, 0 * b)}
        wrong[Z][f"b[{l}] is subtracted"] = of_Z(a[A_prev], W, -b)
        wrong[A] = {
            "σ is missing": a[Z],
            "e^z stands where e^−z belongs": sigmoid.forward(-a[Z]),
            "tanh stands where σ belongs": tanh.forward(a[Z]),
            "σ′ stands where σ belongs": sigmoid.backward(jnp.ones_like(a[Z]), a[Z], a[A]),
        }
    wrong["Z[2]"]["Z[1] stands where A[1] belongs"] = of_Z(a["Z[1]"], a["W[2]"], a["b[2]"])
    wrong["Ŷ"]["softmax stands where σ belongs"] = cross_entropy.activation.forward(Z2)
    wrong["J"] = {
        "1/N is missing": J * N,
        "the minus is missing": -J,
        "the mean is taken over the outputs, too": J / n[2],
        "(1 − Y) log(1 − Ŷ) is forgotten": of_J(binary_cross_entropy, jnp.where(Y == 1, Z2, -1e3), Y),
        "Y and 1 − Y are swapped": of_J(binary_cross_entropy, Z2, 1 - Y),
        "the logarithm is to the base 10, not the natural one": J / math.log(10),
        "squared error stands where cross-entropy belongs": of_J(squared_error, a["Ŷ"], Y),
    }
    for name in PARAMETERS:
        wrong[f"{name} :="] = {
            "+ stands where − belongs, which goes uphill": stepped(a, name, -ALPHA),
            "α is forgotten": stepped(a, name, 1.0),
            "1/N is there twice: it is in dZ[2] already": stepped(a, name, ALPHA / N),
            f"only −α d{name} is taken, without {name}": stepped(a, name, left=0.0),
        }
    return wrong


def backward_mistakes(a: dict) -> dict[str, dict]:
    """What dZ, dW, db and dA become by mistake."""
    names = ("X", "Y", "Ŷ", "Z[1]", "A[1]", "Z[2]", "W[1]", "W[2]", "dZ[2]", "dW[2]", "dA[1]", "dZ[1]")
    X, Y, Y_hat, Z1, A1, Z2, W1, W2, dZ2, dW2, dA1, dZ1 = (a[name] for name in names)

    def back(dZ, A_prev, W):
        (dW, db), dA_prev = dense(*W.shape[::-1]).backward(Dense(W, W), Residuals(A_prev, None, None), dZ)
        return dW, db, dA_prev

    wrong = {
        "dZ[2]": {
            "1/N is missing": dZ2 * N,
            "the mean is taken over the outputs, too": dZ2 / n[2],
            "σ′ is multiplied in: it is in Ŷ − Y already": sigmoid.backward(dZ2, Z2, Y_hat),
            "Z[2] stands where Ŷ belongs": squared_error.backward(Z2, Y),
            "Y is forgotten": binary_cross_entropy.backward(Z2, 0 * Y),
        },
        "dA[1]": {"dW[2] stands where W[2] belongs": back(dZ2, A1, dW2)[2]},
        "dZ[1]": {
            "σ′ = A[1] ⊙ (1 − A[1]) is missing": dA1,
            "σ′ is there twice": sigmoid.backward(dZ1, Z1, A1),
            "σ′ is taken at A[1], where Z[1] belongs": sigmoid.backward(dA1, A1, A1),
            "1 − A[1]², the slope of tanh, stands there": tanh.backward(dA1, jnp.arctanh(A1), A1),
            "Z[1] stands where A[1] belongs": dA1 * Z1 * (1 - Z1),
            "1 − A[1] is forgotten": dA1 * A1,
            "A[1] is forgotten": dA1 * (1 - A1),
        },
        "dW[2]": {"Z[1] stands where A[1] belongs": back(dZ2, Z1, W2)[0], "it is transposed": dW2.T},
        "db[2]": {"Ŷ stands where dZ[2] belongs": back(Y_hat, A1, W2)[1]},
        "dW[1]": {"σ′ is missing": back(dA1, X, W1)[0], "it is transposed": a["dW[1]"].T},
        "db[1]": {"σ′ is missing": back(dA1, X, W1)[1]},
    }
    for name, dZ in (("db[1]", dZ1), ("db[2]", dZ2)):
        wrong[name]["the sum goes along the row, not over the examples"] = back(dZ.T, dZ.T, dZ)[1]
        wrong[name]["a mean stands where a sum belongs: 1/N is in dZ[2] already"] = a[name] / N
    for name in ("dW[2]", "dA[1]", "dW[1]"):
        wrong[name]["1/N is there twice: it is in dZ[2] already"] = a[name] / N
    for name in wrong:
        wrong[name]["the sign is wrong"] = -a[name]
    return wrong
