"""Read a run that `experiments.train --out RUN_DIR` wrote, and test its network again."""

import argparse

from experiments.common.arguments import Parser, UserError, add_surroundings, folder, kind_of, run, use_device


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.predict", description=__doc__)
    p.add_argument("run_dir", type=folder, metavar="RUN_DIR", help="the folder that --out named")
    p.add_argument("--best", action="store_true", help="of its best epoch; default: of its last")
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Report the test accuracy and the confusion matrix."""
    device = use_device(arguments.device)

    import jax

    from experiments.common.task import sizes
    from jaxnn import activations, datasets
    from jaxnn.encoding import flatten
    from jaxnn.evaluation import accuracy, confusion_matrix, predict
    from jaxnn.layers import mlp
    from jaxnn.runs import record

    settings = record.load_settings(arguments.run_dir)
    name = "best.safetensors" if arguments.best else "params.safetensors"
    params = record.load_params(arguments.run_dir / name, settings["n"])
    curve = [metrics["test_accuracy"] for metrics in record.load_metrics(arguments.run_dir)]
    reported = max(curve) if arguments.best else curve[-1]
    data = datasets.load(settings["dataset"], arguments.data_dir, arguments.source_dir)
    n_x, classes = sizes(data, ())
    if (settings["n"][0], settings["n"][-1]) != (n_x, classes):
        expected = f"expected {n_x} inputs and {classes} outputs for {data.name}"
        raise UserError(f"{arguments.run_dir}: got a network {settings['n']}, {expected}")
    net = mlp(*settings["n"], g=getattr(activations, settings["activation"]))

    @jax.jit
    def evaluate(params, images, labels):
        confusion = confusion_matrix(labels, predict(net, params, flatten(images, data.white)), data.classes)
        return accuracy(confusion), confusion

    measured, confusion = evaluate(params, *data.test)
    N = len(data.test.images)
    print(f"device    {kind_of(device)}")
    print(f"run       {arguments.run_dir}: {data.name}, {'-'.join(map(str, settings['n']))}")
    print(f"accuracy  {100 * measured:.2f} % of {N} test images")
    if round(float(measured) * N) == round(reported * N):  # a mean may differ in its last bit
        print("          as training reported")
    else:
        print(f"          training reported {100 * reported:.2f} %")
    print("\nConfusion matrix: a row for each true class, a column for each predicted one\n")
    width = len(str(confusion.max())) + 2
    print("     " + "".join(f"{k:{width}}" for k in range(data.classes)))
    for k, row in enumerate(confusion):
        print(f"{k:3}  " + "".join(f"{count:{width}}" for count in row))
    return 0


if __name__ == "__main__":
    run(main, parser())
