"""The lecture, executed: from the single neuron to the update of the parameters, a screen at a time.

Each shape is asked for before it is shown, and every number is computed on the spot. `--html FILE` writes
it as one page, in which a tiny network is worked by hand, too.
"""

import argparse
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

from experiments.common.arguments import (
    DATASETS,
    Parser,
    UserError,
    add_surroundings,
    new_page,
    run,
    use_device,
    whole,
)
from experiments.common.status import doing
from jaxnn.shown import shown

WIDTH = 78
HIDDEN, DEEPER, ALPHA, EPOCHS, NUDGE = 17, 12, 0.5, 10, 1e-3


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.lecture", description=__doc__)
    p.add_argument("--dataset", choices=DATASETS, default="mnist", help="default: %(default)s")
    p.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, help="of the first weights; default: 0")
    p.add_argument("--yes", action="store_true", help="ask nothing, and show all; so does a pipe")
    p.add_argument("--html", type=new_page, metavar="FILE", help="write it as one page instead")
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Go through the lecture, or write it as a page."""
    use_device(arguments.device)

    import jax

    from experiments.common.task import load
    from experiments.lesson import screens as lesson
    from jaxnn.datasets import DatasetError
    from jaxnn.runs import files

    try:
        data = load(arguments)
    except DatasetError as error:
        if arguments.dataset == "digits":
            raise
        raise UserError(f"{error}. Or take --dataset digits, which is bundled") from error
    doing("computing")
    with jax.enable_x64(True):
        screens = lesson.screens(facts(data, arguments.seed))
        if not arguments.html:
            alone = arguments.yes or not (sys.stdin.isatty() and sys.stdout.isatty())
            go_through(screens, None if alone else answer)
            return 0
        page = lesson.html(f"The lecture, executed on {data.name}", list(screens))
    files.replace(arguments.html, page.encode())
    print(f"wrote {shown(arguments.html)}")
    return 0


def answer(prompt: str) -> str | None:
    """The line that is typed in; None at the end of the input."""
    print(prompt, end="", flush=True)
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError:
        return "?"
    if not line:
        print()
    return line or None


def go_through(screens, ask: Callable[[str], str | None] | None) -> None:
    """Print screen after screen, and wait for Enter after each one; without `ask` nothing is asked."""
    from jaxnn.seeing.graphs.text import columns, listing

    for k, screen in enumerate(screens, 1):
        heading = f"{k}. {screen.title}"
        print(f"\n{heading}\n{'-' * len(heading)}")
        for part in screen.parts:
            print()
            if part.text:
                print(textwrap.fill(part.text, WIDTH, break_on_hyphens=False))
            elif part.lines:
                print(textwrap.indent(part.lines, "    "))
            elif part.graph:
                whole = any(node.id == "dW[1]" for node in part.graph.scene.nodes)
                print((columns if whole else listing)(part.graph.scene))
            elif not solved(part.question, ask):
                return
        if ask and ask("\n[Enter] ") is None:
            return


def solved(question, ask: Callable[[str], str | None] | None) -> bool:
    """Ask for a shape until it is right, or has been wrong twice, and show it; False at the end of input."""
    from experiments.lesson.screens import missed

    if ask:
        for _ in range(2):
            said = ask(f"The shape of {question.name}, rows and columns: ")
            if said is None:
                return False
            wrong = missed(question, said.strip())
            print(textwrap.fill(wrong or "Right.", WIDTH, break_on_hyphens=False))
            if not wrong:
                break
    print(f"{question.name} has the shape {question.shape}.")
    return True


def facts(data, seed: int) -> dict:
    """What the lecture's text names, of this data set. What takes long is a function, computed once."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from experiments.common.task import sizes
    from experiments.lesson import byhand
    from jaxnn.activations import sigmoid
    from jaxnn.layers import mlp
    from jaxnn.losses import binary_cross_entropy as loss
    from jaxnn.objective import cost
    from jaxnn.passes import passes

    n = sizes(data, [HIDDEN])
    params = mlp(*n, g=sigmoid).init(jax.random.key(seed))

    def every(n, params, *train):
        X, Y = encode(data, *train)
        return {"Y": Y} | named(params) | passes(n, sigmoid, loss)(params, X, Y)

    def J(params, *train):
        return cost(mlp(*n, g=sigmoid), loss)(params, *encode(data, *train))

    @cache
    def shapes(*n):
        params = jax.eval_shape(mlp(*n, g=sigmoid).init, jax.random.key(seed))
        found = jax.eval_shape(lambda *given: every(n, *given), params, *data.train)
        return {name: array.shape for name, array in {"X": found["A[0]"], **found}.items()}

    def table(*n):
        layers = range(1, len(n))
        return [(l, n[l], *(str(shapes(*n)[f"{x}[{l}]"]) for x in ("W", "b", "Z", "A"))) for l in layers]

    @cache
    def computed():
        but_X = jax.jit(lambda *given: every(n, *given) | {"A[0]": None})
        return jax.tree.map(np.asarray, but_X(params, *data.train))

    @cache
    def autodiff():
        return named(jax.tree.map(np.asarray, jax.jit(jax.grad(J))(params, *data.train)), "d")

    @cache
    def terms():
        one = jax.vmap(lambda Z, Y: loss.forward(Z.reshape(1, 1), Y.reshape(1, 1)))
        return np.asarray(one(computed()["Z[2]"][0], computed()["Y"][0]))

    @cache
    def nudged():
        (i, j), W = steepest(computed()["dW[2]"]), params[1].W
        more = W.at[i, j].add(NUDGE)
        both = float(computed()["J"]), float(jax.jit(J)([params[0], params[1]._replace(W=more)], *data.train))
        return SimpleNamespace(i=i, j=j, weights=(W[i, j], more[i, j]), J=both, by=NUDGE)

    N, height, width = images = data.train.images.shape
    return {"N": N, "height": height, "width": width, "images": images, "n": n, "data": data} | {
        "deeper": sizes(data, [HIDDEN, DEEPER]),
        "count": f"{sum(p.size for p in jax.tree.leaves(params)):,}",
        "shape": shapes(*n),
        "table": table,
        "at": lambda name: computed()[name],
        "middle": lambda row: row.reshape(height, width)[height // 2, width // 2 - 3 : width // 2 + 3],
        "apart": lambda x: np.abs(computed()[x] - autodiff()[x]).max() / np.abs(computed()[x]).max(),
        "terms": terms,
        "nudged": nudged,
        "descent": cache(lambda: descent(params, computed()["dW[1]"], data)),
        "slopes": slopes(jnp.linspace(-4, 4, 5)),
        "tiny": byhand.known(),
    }


def encode(data, images, labels) -> list:
    """X and Y in float64."""
    from experiments.common import task

    return [array.astype(float) for array in task.encode(data, images, labels)]


def named(params, prefix: str = "") -> dict:
    """W[1], b[1], W[2] and so on, by their names."""
    return {f"{prefix}{x}[{l}]": p for l, layer in enumerate(params, 1) for x, p in layer._asdict().items()}


def steepest(gradient) -> tuple[int, int]:
    """The place of the largest entry, up or down."""
    return divmod(int(abs(gradient).argmax()), gradient.shape[1])


def slopes(z) -> SimpleNamespace:
    """σ and its slope, by hand and by jax.grad."""
    import jax

    from jaxnn.activations import sigmoid as g

    A, autodiff = g.forward(z), jax.vmap(jax.grad(g.forward))(z)
    return SimpleNamespace(z=z, A=A, rest=1 - A, slope=g.backward(z**0, z, A), autodiff=autodiff)


def descent(params, dW, data) -> SimpleNamespace:
    """Some epochs of one step each, on all images; and the weight of W[1] whose derivative is the largest."""
    import jax
    import optax

    from jaxnn.activations import sigmoid
    from jaxnn.evaluation import predict
    from jaxnn.layers import mlp
    from jaxnn.losses import binary_cross_entropy as loss
    from jaxnn.objective import value_and_grad
    from jaxnn.training import start, step

    net = mlp(len(params[0].W[0]), *(len(W) for W, _ in params), g=sigmoid)
    by_hand, sgd = value_and_grad(net, loss), optax.sgd(ALPHA)
    descend = jax.jit(step(lambda params, *train: by_hand(params, *encode(data, *train)), sgd))

    @jax.jit
    def read(params, images, labels):
        return (predict(net, params, encode(data, images, labels)[0]) == labels).mean()

    states, J = [start(params, sgd)], []
    for _ in range(EPOCHS + 1):
        state, J_before = descend(states[-1], *data.train)
        states, J = [*states, state], [*J, float(J_before)]
    i, j = steepest(dW)
    numbers = params[0].W[i, j], ALPHA, dW[i, j], states[1].params[0].W[i, j]
    percent = [100 * float(read(states[k].params, *data.test)) for k in (0, EPOCHS)]
    return SimpleNamespace(place=(i + 1, j + 1), numbers=numbers, J=J, read=percent)


if __name__ == "__main__":
    run(main, parser())
