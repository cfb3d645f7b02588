"""Hold the gradient written by hand against jax.grad, parameter by parameter.

Exit status 0 if they agree, 1 if they do not.
"""

import argparse

from experiments.arguments import Parser, add_network, add_surroundings, run, use_device, whole


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.compare_gradients", description=__doc__)
    add_network(p)
    p.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: %(default)s")
    p.add_argument("--examples", type=whole(1), default=256, metavar="N", help="default: %(default)s")
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Compare, and print a row for each parameter."""
    device = use_device(arguments.device)

    import jax

    with jax.enable_x64(True):
        return compare(arguments, device)


def compare(arguments: argparse.Namespace, device) -> int:
    """Compare, where jax has float64."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxnn import activations, datasets, losses
    from jaxnn.encoding import flatten, one_hot
    from jaxnn.layers import mlp
    from jaxnn.objective import cost, value_and_grad

    data = datasets.load(arguments.dataset, arguments.data_dir, arguments.source_dir)
    images, labels = (jnp.asarray(array[: arguments.examples]) for array in data.train)
    n = (images[0].size, *arguments.hidden, data.classes)
    loss = getattr(losses, arguments.loss)
    net = mlp(*n, g=getattr(activations, arguments.activation))

    # One point, and the gradient there three times: by hand, by jax.grad, and by jax.grad in float64.
    params, X = net.init(jax.random.key(arguments.seed)), flatten(images, data.white)
    point = jax.tree.map(
        lambda array: jnp.asarray(array, arguments.dtype), (params, X, one_hot(labels, data.classes))
    )
    point64 = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), point)
    _, manual = jax.jit(value_and_grad(net, loss))(*point)
    autodiff = jax.jit(jax.grad(cost(net, loss)))(*point)
    exact = jax.jit(jax.grad(cost(net, loss)))(*point64)

    tolerance = 1000 * jnp.finfo(arguments.dtype).eps
    print(f"device    {device.platform} ({device.device_kind})")
    print(f"network   {'-'.join(map(str, n))}, {arguments.activation}, {arguments.loss}")
    print(f"at        {len(images)} images of {data.name}, seed {arguments.seed}, {arguments.dtype}")
    print()
    print("                      by hand − jax.grad                 error against float64")
    print("          shape        absolute relative at               by hand  jax.grad")
    wrong = []
    for l, (by_hand, by_autodiff, truth) in enumerate(zip(manual, autodiff, exact, strict=True), start=1):
        for letter, *arrays in zip("Wb", by_hand, by_autodiff, truth, strict=True):
            m, a, t = (np.asarray(array, np.float64) for array in arrays)
            scale = np.abs(t).max()
            difference = np.abs(m - a)
            worst = np.unravel_index(np.argmax(difference), m.shape)
            at = str([int(i) for i in worst])
            print(
                f"d{letter}[{l}]     {m.shape!s:12} {difference.max():.1e}  {difference.max() / scale:.1e}  "
                f"{at:16} {np.abs(m - t).max():.1e}  {np.abs(a - t).max():.1e}"
            )
            if not difference.max() <= tolerance * scale:
                wrong.append(f"d{letter}[{l}]{at}: by hand {m[worst]:.9g}, jax.grad {a[worst]:.9g}")
    print("\nrelative: to the largest entry of the parameter's gradient")
    if wrong:
        print("They differ:\n  " + "\n  ".join(wrong))
        return 1
    print(f"They agree, within {tolerance:.1e} of the largest entry.")
    return 0


if __name__ == "__main__":
    run(main, parser())
