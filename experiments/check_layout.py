"""Check that devices split a training exactly: a network of small integers, the same bits in every layout.

Its sums are exact in float32, so that there is one right answer, worked out here with NumPy in float64, and
no tolerance. Run it on your cluster before you trust it. Exit status 0 if every layout is right, 2 if not.
"""

import argparse
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments.common.arguments import Parser, UserError, run
from experiments.common.devices import WHAT, add_devices, add_processes, in_lines, layout_of, started
from experiments.common.status import through
from experiments.common.together import GROUP

RATE = 2.0**-7  # W − α dW is exact, too
EXACT = 2**24  # whole numbers up to it are in float32


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.check_layout", description=__doc__)
    add_devices(p, tuple(WHAT))
    add_processes(p)
    p.add_argument(
        "--device", choices=("auto", "cpu", "gpu", "tpu"), default="auto", help="default: %(default)s"
    )
    return p


def main(arguments: argparse.Namespace) -> int:
    """Check one layout, or all that the devices allow, and print a line for each."""
    device, mesh = started(arguments)

    from jaxnn.devices.collectives import in_words, totals
    from jaxnn.devices.mesh import mesh_of

    devices = [*mesh.devices.flat]
    layouts = [dict(mesh.shape)] if arguments.layout else [*products(len(devices))]
    problem = integers(len(devices))
    right = truth(problem)
    print(f"devices   {len(devices)} × {device.platform} ({device.device_kind})")
    print(f"network   {'-'.join(map(str, problem.n))}, {problem.P:,} parameters, {len(problem.X)} rows; relu")
    wrong = 0
    for sizes in through(layouts, "layout", len(layouts)):
        here = mesh_of(devices, **sizes)
        found, operations = computed(problem, here)
        same = bits(found) == bits([right] * problem.K if here.shape["members"] > 1 else [right])
        least = expected(problem, here)
        few = least is None or totals(least) == totals(operations)
        wrong += not (same and few)
        said = ("same" if few else "sends") if same else "differs"
        print(in_lines(f"{said:9} {layout_of(here)}: a step sends {in_words(operations)}"), flush=True)
        if not few:
            print(in_lines(f"          expected {in_words(least or [])}"))
    if wrong:
        raise UserError(f"{wrong} of {len(layouts)} layouts: other bits, or other bytes sent, than expected")
    print(f"all       {len(layouts)} layouts have the same bits, those that NumPy works out")
    return 0


def products(n: int) -> Iterator[dict[str, int]]:
    """Every layout of n devices; of families those whose other devices split the batch."""
    sizes = [k for k in range(1, n + 1) if n % k == 0]
    for members, data, fsdp, model in itertools.product(sizes, repeat=4):
        if members * data * fsdp * model == n and (members == 1 or fsdp == model == 1):
            yield {"members": members, "data": data, "fsdp": fsdp, "model": model}


class Problem(NamedTuple):
    """A network of small integers, and a batch."""

    n: tuple[int, ...]
    params: list  # (W, b) of each layer
    X: Any
    Y: Any
    K: int  # members of a family

    @property
    def P(self) -> int:
        """How many parameters there are."""
        return sum(W.size + b.size for W, b in self.params)


def integers(devices: int) -> Problem:
    """One that so many devices can split in every layout; of rows there is a power of two, to divide by."""
    import numpy as np

    rng, n = np.random.default_rng(0), (16, 4 * devices, 4 * devices, 8)

    def some(low, high, shape, part=1.0):
        return (rng.integers(low, high + 1, shape) * (rng.random(shape) < part)).astype(np.float32)

    params = [(some(-1, 1, (m, k), 6 / k), some(-2, 2, (m, 1))) for k, m in itertools.pairwise(n)]
    N = 2 ** math.ceil(math.log2(max(8 * devices, 64)))
    return Problem(n, params, some(0, 3, (N, n[0])), some(-2, 2, (N, n[-1])), devices)


def truth(problem: Problem) -> list:
    """J and the parameters after one step, in float64, where every number below is exact."""
    import numpy as np

    N, A = len(problem.X), [problem.X.astype(float)]
    for l, (W, b) in enumerate(problem.params, 1):
        Z = A[-1] @ W.T + b.T
        A.append(np.maximum(Z, 0) if l < len(problem.params) else Z)
    J = np.sum((A[-1] - problem.Y) ** 2) / 2 / N
    dZ, found = (A[-1] - problem.Y) / N, []
    largest = J * 2 * N
    for (W, b), A_prev in zip(problem.params[::-1], A[-2::-1], strict=True):
        dW, db = dZ.T @ A_prev, dZ.sum(0)[:, None]
        found = [W - RATE * dW, b - RATE * db, *found]
        sums = np.abs(dZ).T @ A_prev, np.abs(found[0]) / RATE, np.abs(found[1]) / RATE, np.abs(dZ) @ np.abs(W)
        largest = max(largest, *(array.max() * N for array in sums))
        dZ = (dZ @ W) * (A_prev > 0)
    if largest > EXACT:
        raise UserError(f"{len(problem.X)} rows: got sums of {largest:.3g}, which float32 does not hold")
    return [J, *found]


def expected(problem: Problem, mesh) -> list | None:
    """What a step sends where batches alone are split: of each member a gradient and J, all in one."""
    from jaxnn.devices.collectives import Sent

    members, data = mesh.shape["members"], mesh.shape["data"]
    if members * data < mesh.size:
        return None
    here = problem.K // members if members > 1 else 1
    return [Sent("all-reduce", (4 * problem.P + 4) * here)] * (data > 1)


def bits(found: list) -> list[bytes]:
    """The bits of the arrays as float32; what is not exact there would be rounded."""
    import numpy as np

    return [np.asarray(array, np.float32).tobytes() for one in found for array in one]


def computed(problem: Problem, mesh):
    """The same on these devices, of every member of a family; and what the program sends."""
    import jax
    import numpy as np
    import optax

    from jaxnn.activations import relu
    from jaxnn.devices.collectives import sent
    from jaxnn.devices.layout import stored
    from jaxnn.devices.mesh import MEMBERS, placed
    from jaxnn.devices.split import step, steps_on
    from jaxnn.families import together
    from jaxnn.layers import Dense, mlp
    from jaxnn.losses import squared_error
    from jaxnn.objective import value_and_grad
    from jaxnn.training import start

    optimizer = optax.sgd(RATE)
    gradient = value_and_grad(mlp(*problem.n, g=relu), squared_error)
    program = steps_on(mesh, step(gradient, optimizer, mesh), len(problem.X), 1)
    state = start([Dense(W, b) for W, b in problem.params], optimizer)
    if mesh.shape["members"] > 1:
        program = together(program, mesh)
        state = jax.tree.map(lambda array: np.broadcast_to(array, (problem.K, *array.shape)), state)
        state = placed(mesh, state, MEMBERS)
    else:
        state = placed(mesh, state, stored(mesh, state, state.params))
    rest = placed(mesh, (jax.random.key(0), np.int32(0), problem.X, problem.Y))
    ready = jax.jit(program).lower(state, *rest).compile()
    (params, _), J = GROUP.whole(ready(state, *rest))
    found = [np.asarray(array, np.float32) for array in (J[..., 0], *jax.tree.leaves(params))]
    found = [*zip(*found, strict=True)] if mesh.shape["members"] > 1 else [found]
    return found, sent(ready.as_text())


if __name__ == "__main__":
    run(main, parser())
