"""Train the lecture's network on images of handwriting, by gradients written by hand.

With no arguments: 64-17-10, sigmoid, binary cross-entropy, plain gradient descent on `digits`; 97.5 % of
the test images are recognised (seed 0).
"""

import argparse
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path

import jaxnn
from experiments.arguments import (
    DATASETS,
    Parser,
    UserError,
    add_network,
    add_surroundings,
    rate,
    run,
    use_device,
    whole,
)

OPTIMIZERS = {"sgd": 0.5, "adam": 0.001, "adamw": 0.001, "rmsprop": 0.001}  # and their default rates
DEFAULTS = dict.fromkeys(DATASETS, (100, 30)) | {"digits": (8, 60)}  # batch size, epochs


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.train", description=__doc__)
    add_network(p)
    p.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="as in optax; default: %(default)s")
    p.add_argument(
        "--learning-rate",
        type=rate,
        metavar="α",
        help="default: " + ", ".join(f"{default} for {name}" for name, default in OPTIMIZERS.items()),
    )
    p.add_argument(
        "--batch-size", type=whole(1), metavar="B", help="default: 8 for digits, 100 for the others"
    )
    p.add_argument(
        "--epochs", type=whole(1, 1_000_000), metavar="E", help="default: 60 for digits, 30 for the others"
    )
    p.add_argument(
        "--gradient",
        choices=("manual", "autodiff"),
        default="manual",
        help="written by hand, or by jax.grad; default: %(default)s",
    )
    add_surroundings(p)
    p.add_argument(
        "--out", type=Path, metavar="DIR", help="a new folder for settings, metrics and parameters"
    )
    return p


def main(arguments: argparse.Namespace) -> int:
    """Train, and report."""
    device = use_device(arguments.device)

    import jax
    import optax
    from tqdm import tqdm

    from jaxnn import activations, datasets, drawings, losses, runs
    from jaxnn.encoding import flatten, one_hot
    from jaxnn.evaluation import accuracy, confusion_matrix, predict
    from jaxnn.layers import mlp
    from jaxnn.objective import cost, value_and_grad
    from jaxnn.training import epoch, start, step

    if arguments.out:
        runs.check_new(arguments.out)
    data = datasets.load(arguments.dataset, arguments.data_dir, arguments.source_dir)
    N, height, width = data.train.images.shape
    n = (height * width, *arguments.hidden, data.classes)
    batch_size, epochs = DEFAULTS[arguments.dataset]
    settings = vars(arguments) | {
        "learning_rate": arguments.learning_rate or OPTIMIZERS[arguments.optimizer],
        "batch_size": arguments.batch_size or batch_size,
        "epochs": arguments.epochs or epochs,
    }
    if settings["batch_size"] > N:
        raise UserError(
            f"--batch-size: got {settings['batch_size']}, expected at most the {N} training images"
        )

    loss = getattr(losses, arguments.loss)
    net = mlp(*n, g=getattr(activations, arguments.activation))
    if arguments.gradient == "manual":
        gradient = value_and_grad(net, loss)
    else:
        gradient = jax.value_and_grad(cost(net, loss))
    optimizer = getattr(optax, arguments.optimizer)(settings["learning_rate"])

    def encode(images, labels):
        return flatten(images, data.white), one_hot(labels, data.classes)

    def gradient_on_images(params, images, labels):
        return gradient(params, *encode(images, labels))

    def evaluate(params, images, labels):
        X, Y = encode(images, labels)
        confusion = confusion_matrix(labels, predict(net, params, X), data.classes)
        return cost(net, loss)(params, X, Y), accuracy(confusion)

    init_key, shuffle_key = jax.random.split(jax.random.key(arguments.seed))
    state = start(net.init(init_key), optimizer)
    train, test = jax.device_put((data.train, data.test))

    print(f"jaxnn {jaxnn.__version__}, jax {jax.__version__}, Python {platform.python_version()}")
    print(f"device    {device.platform} ({device.device_kind})")
    X, Y = jax.eval_shape(encode, *train)
    print_shapes(data, net, loss, state.params, X, Y, arguments.activation)
    print(
        f"training  {arguments.loss} by {arguments.optimizer}, learning rate {settings['learning_rate']:g},\n"
        f"          batches of {settings['batch_size']}, {settings['epochs']} epochs, "
        f"seed {arguments.seed}, {arguments.gradient} gradient"
    )
    if arguments.out:
        runs.create(arguments.out, describe(settings, n, device))

    clock = time.perf_counter()
    one_epoch = epoch(step(gradient_on_images, optimizer), settings["batch_size"])
    one_epoch = jax.jit(one_epoch, donate_argnums=0).lower(state, shuffle_key, *train).compile()
    evaluate = jax.jit(evaluate).lower(state.params, *test).compile()
    print(f"compiled  in {time.perf_counter() - clock:.2f} s")

    metrics = []
    clock = time.perf_counter()
    for number in tqdm(range(1, settings["epochs"] + 1), unit="epoch", leave=False, disable=None):
        state, J = one_epoch(state, jax.random.fold_in(shuffle_key, number), *train)
        test_J, test_accuracy = evaluate(state.params, *test)
        if not math.isfinite(J):
            raise UserError(f"epoch {number}: the loss is {J}; a smaller --learning-rate usually helps")
        metrics.append(
            {
                "epoch": number,
                "loss": float(J),
                "test_loss": float(test_J),
                "test_accuracy": float(test_accuracy),
            }
        )
        tqdm.write(
            f"epoch {number:3}/{settings['epochs']}   loss {J:.4f}   "
            f"test loss {test_J:.4f}   test accuracy {100 * test_accuracy:.2f} %"
        )
        if arguments.out:
            runs.append_metrics(arguments.out, metrics[-1])
    print(f"trained   in {time.perf_counter() - clock:.2f} s")
    print(f"accuracy  {100 * metrics[-1]['test_accuracy']:.2f} % of {len(test.images)} test images")

    if arguments.out:
        runs.save_params(arguments.out, state.params)
        title = (
            f"{data.name}, {'-'.join(map(str, n))}, {arguments.activation}, {arguments.loss}\n"
            f"{arguments.optimizer}, learning rate {settings['learning_rate']:g}, "
            f"batches of {settings['batch_size']}, seed {arguments.seed}"
        )
        drawings.learning_curves(metrics, title, arguments.out / "learning_curves.png")
        print(f"saved     in {arguments.out}")
    return 0


def print_shapes(data, net, loss, params, X, Y, g: str) -> None:
    """Print what the lecture writes on the board: the shape of every array of this network."""
    import jax

    Z, residuals = jax.eval_shape(net.forward, params, X)
    layers = [(*p, r.Z, r.A) for p, r in zip(params, residuals, strict=True)]
    layers[-1] = (*params[-1], Z, jax.eval_shape(loss.activation.forward, Z))
    n = (X.shape[1], *(W.shape[0] for W, _ in params))

    print(f"data      {data.name}: {len(data.train.images)} training and {len(data.test.images)} test images")
    print(f"          images {data.train.images.shape}, pixels 0..{data.white}, {data.classes} classes")
    print(f"network   {'-'.join(map(str, n))}, {sum(p.size for p in jax.tree.leaves(params)):,} parameters")
    print()
    print(f"     X    {X.shape!s:14} the images, a row each, divided by {data.white}")
    print(f"     Y    {Y.shape!s:14} the labels, one-hot")
    print("     l    W[l]          b[l]       Z[l]           A[l]")
    for l, arrays in enumerate(layers, start=1):
        W, b, Z, A = (str(array.shape) for array in arrays)
        note = g if l < len(layers) else "Ŷ"
        print(f"     {l:<4} {W:13} {b:10} {Z:14} {A:14} {note}")
    print()


def describe(settings: dict, n: tuple[int, ...], device) -> dict:
    """What settings.json holds."""
    packages = ("jax", "jaxlib", "optax", "numpy")
    return {
        **{name: value for name, value in settings.items() if name not in ("out", "data_dir", "source_dir")},
        "n": n,
        "device": f"{device.platform} ({device.device_kind})",
        "versions": {"jaxnn": jaxnn.__version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    run(main, parser())
