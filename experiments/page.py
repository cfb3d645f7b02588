"""Write the page of a run, or of a sweep, from what is in its folder."""

import argparse

from experiments.common.arguments import Parser, add_surroundings, new_page, run, run_folder, use_device
from experiments.common.status import doing
from jaxnn.shown import shown


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.page", description=__doc__)
    p.add_argument("run_dir", type=run_folder, metavar="RUN", help="the folder that --out named")
    p.add_argument("--out", type=new_page, metavar="FILE", help="default: page.html in that folder")
    p.add_argument(
        "--best", action="store_true", help="with the weights of its best epoch; default: the last"
    )
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Write it, and say where."""
    use_device(arguments.device)

    from experiments.common import own, pages, saved
    from jaxnn.runs import record

    where = arguments.run_dir
    doing("drawing the page")
    settings, timings = record.load_settings(where), record.load_timings(where)
    own.lecture_only(settings, where, "a page")
    own.unchanged(settings, where)
    if "learning_rates" in settings and "shuffle_seed" not in settings:
        rows = record.load_networks(where, settings)
        html = pages.of_sweep(settings, list, timings, 0, rows)
    else:
        metrics, params = record.load_metrics(where, settings), None
        name = "best.safetensors" if arguments.best else "params.safetensors"
        if arguments.best or (where / name).exists():
            params = record.load_params(where / name, settings["n"])
        elif timings.get("state") == "finished":  # it was killed before its last file
            timings = {}
        data = saved.data_of(arguments, settings)
        html = pages.of_run(settings, data, timings, 0, metrics, params, arguments.best)
    out = arguments.out or where / "page.html"
    record.replace(out, html)
    print(f"written   {shown(out)}, {len(html.encode()):,} bytes")
    return 0


if __name__ == "__main__":
    run(main, parser())
