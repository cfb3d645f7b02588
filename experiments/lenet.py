"""Train LeNet-5 on MNIST: 99.28 % of the test images are recognised (seed 0, 12 epochs).

That took 278 s on 2 cores, in which twelve other programs had their part (jax 0.12). Fashion-MNIST and KMNIST
are not measured.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 86,
1998, section II.B, with relu in place of tanh, max pooling in place of weighted means, and softmax with
cross-entropy at the end: as it is taught today. The backward of each layer is written by hand.
"""

import argparse

from experiments import train
from experiments.common.arguments import DATASETS, Parser, add_surroundings, rate, run, whole
from experiments.common.continuation import add_checkpoints, reopened
from experiments.common.devices import add_devices, started


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.lenet", description=__doc__)
    p.add_argument("--dataset", choices=DATASETS[1:], default="mnist", help="default: %(default)s")
    p.add_argument("--epochs", type=whole(1, 1000), default=12, metavar="E", help="default: %(default)s")
    p.add_argument("--batch-size", type=whole(1), default=100, metavar="B", help="default: %(default)s")
    p.add_argument(
        "--learning-rate",
        type=rate,
        default=0.002,
        metavar="α",
        help="of the first step; it falls to 0 along a cosine; default: %(default)s",
    )
    p.add_argument(
        "--seed", type=whole(0, 2**32 - 1), default=0, help="of weights and shuffling; default: %(default)s"
    )
    p.add_argument(
        "--gradient",
        choices=("manual", "autodiff"),
        default="manual",
        help="written by hand, or by jax.grad; default: %(default)s",
    )
    add_surroundings(p)
    add_devices(p, ("data", "fsdp"))
    add_checkpoints(p, "settings, metrics and parameters")
    return p


def net():
    """LeNet-5, from rows of 784 pixels to Z[L] of ten classes; its layers under the paper's names."""
    from jaxnn.activations import relu
    from jaxnn.layers import convolution, dense, max_pool, serial

    return serial(
        reshaped(28, 28, 1),
        convolution(1, 6, 5, padding=2, g=relu),  # C1: six maps of 28×28
        max_pool(2),  # S2: 14×14
        convolution(6, 16, 5, g=relu),  # C3: sixteen maps of 10×10
        max_pool(2),  # S4: 5×5
        reshaped(5 * 5 * 16),
        dense(400, 120, relu),  # C5
        dense(120, 84, relu),  # F6
        dense(84, 10),
    )


def reshaped(*shape: int):
    """The layer that gives each example another shape."""
    from jaxnn.layers import Layer

    def forward(params, A_prev, key=None):
        return A_prev.reshape(A_prev.shape[0], *shape), A_prev[:0]  # whose shape is all that backward needs

    def backward(params, empty, dA):
        return (), dA.reshape(len(dA), *empty.shape[1:])

    return Layer(lambda key: (), forward, backward, f"reshaped({'×'.join(map(str, shape))})")


def main(arguments: argparse.Namespace) -> int:
    """Train it, and report: adam, with a learning rate that falls to 0 along a cosine."""
    device, mesh = started(arguments)

    import jax
    import optax

    from experiments.common.task import Task, load, settled, sizes
    from jaxnn.activations import relu
    from jaxnn.losses import cross_entropy
    from jaxnn.objective import cost, value_and_grad

    arguments, lock, checkpoint = reopened(arguments, parser(), "params.safetensors")
    data = load(arguments)
    arguments = settled(argparse.Namespace(**vars(arguments), **FIXED), data)
    layers = net()
    by_hand, autodiff = value_and_grad(layers, cross_entropy), jax.value_and_grad(cost(layers, cross_entropy))
    gradient = by_hand if arguments.gradient == "manual" else autodiff
    steps = arguments.epochs * (len(data.train.images) // arguments.batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(arguments.learning_rate, steps))
    task = Task(data, sizes(data, ()), relu, layers, cross_entropy, gradient, optimizer)
    return train.trained(task, arguments, device, mesh, lock, checkpoint)


FIXED = {
    "network": "experiments/lenet.py:net",
    "hidden": [],
    "activation": "relu",
    "loss": "cross_entropy",
    "optimizer": "adam",
    "reproducible": False,
    "trust_gradient": True,  # the tests hold it
}  # of the settings of `train`


if __name__ == "__main__":
    run(main, parser())
