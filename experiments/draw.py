"""Write a page on which to draw a digit, have a saved run read it, and let it go on learning.

FILE#20 as its address opens it with the twentieth of its test images chosen.
"""

import argparse
import importlib.util
import shutil
import statistics
import tempfile
from pathlib import Path

from experiments.common.arguments import (
    Parser,
    UserError,
    add_surroundings,
    given_file,
    new_page,
    run,
    run_folder,
    use_device,
)
from experiments.common.status import doing
from jaxnn.shown import shown

MOST = 4_000_000  # parameters that a page can hold
MEASURE = """
const times = [];
clear();
strokes = [[[0.3, 0.3], [0.7, 0.3], [0.5, 0.8]].map((point) => point.map((x) => x * S))];
choose(7);
for (let k = 0; k < arguments[0] + arguments[1]; k++) {
  const start = performance.now();
  redraw();
  document.body.getBoundingClientRect(); // the layout, too
  times.push(performance.now() - start);
}
return times.slice(arguments[1]);
"""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.draw", description=__doc__)
    p.add_argument(
        "run_dir", type=run_folder, metavar="RUN", help="the folder that --out of a training named"
    )
    p.add_argument("--out", type=new_page, metavar="FILE", help="default: RUN/draw.html")
    p.add_argument(
        "--image", type=given_file, metavar="FILE", help="begin with this picture of a digit on the pad"
    )
    p.add_argument("--best", action="store_true", help="the network of its best epoch; default: of its last")
    p.add_argument("--measure", action="store_true", help="time the redraws of a drawing, too, in chromium")
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Write the page, and say where it is."""
    browser = found_browser() if arguments.measure else None
    use_device(arguments.device)

    import jax.numpy as jnp

    from experiments.common import own, saved
    from jaxnn.centring import centred
    from jaxnn.runs import record
    from jaxnn.scan import ScanError, ink
    from jaxnn.seeing.pages.pad import ON_PAD, pad

    it = saved.load(arguments)
    own.lecture_only(it.settings, arguments.run_dir, "the pad", own.PIECES)
    if it.data.origin:
        raise UserError(
            f"{arguments.run_dir}: got a run on one's own data, expected one on handwriting; for this one: "
            f"python -m experiments.predict {shown(arguments.run_dir)} --data PATH"
        )
    size = sum(W.size + b.size for W, b in it.params)
    if size > MOST:
        raise UserError(f"{arguments.run_dir}: got {size:,} parameters, expected at most {MOST:,} in a page")
    try:
        first = None if arguments.image is None else centred(jnp.asarray(ink(arguments.image)), ON_PAD)
    except ScanError as error:
        raise UserError(f"--image: {error}") from error
    said = (
        f"Trained on {it.data.name}, {it.settings['activation']}, {it.settings['loss']}: "
        f"{100 * it.score:.2f} % of {len(it.data.test.labels):,} test images."
    )
    html = pad(it.settings, it.params, examples(it), it.data.white, said, first)
    out = arguments.out or arguments.run_dir / "draw.html"
    record.replace(out, html)
    print(f"wrote     {shown(out)}, {len(html.encode()) / 1000:.0f} KB; open it in a browser")
    if browser:
        doing("drawing in chromium")
        times = measured(out, *browser)
        print(f"redraw    {statistics.median(times):.1f} ms, the median of {len(times)}")
    return 0


def examples(it):
    """Test images: two of each class that are read rightly, and the ten that are misread most surely."""
    import jax.numpy as jnp
    import numpy as np

    from jaxnn.datasets import Examples
    from jaxnn.encoding import flatten

    images, labels = it.data.test
    Z, _ = it.net.forward(it.params, flatten(jnp.asarray(images), it.data.white))
    Y_hat = np.asarray(it.loss.activation.forward(Z))
    guess = np.asarray(Z).argmax(axis=1)
    right = [k for c in range(it.data.classes) for k in np.flatnonzero((guess == c) & (labels == c))[:2]]
    wrong = np.flatnonzero(guess != labels)
    wrong = wrong[np.argsort(-Y_hat.max(axis=1)[wrong], kind="stable")][:10]
    chosen = np.concatenate([right, wrong]).astype(int)
    return Examples(images[chosen], labels[chosen])


def found_browser() -> tuple[str, str]:
    """Where chromium and its driver are."""
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    if not importlib.util.find_spec("selenium") or not browser or not driver:
        raise UserError("--measure: expected chromium, chromedriver and selenium (pip install '.[browser]')")
    return browser, driver


def measured(page: Path, browser: str, driver: str, times: int = 200) -> list[float]:
    """The milliseconds of each of so many redraws in chromium, after a few to warm up."""
    from selenium import webdriver  # pyright: ignore[reportMissingImports]
    from selenium.common.exceptions import WebDriverException  # pyright: ignore[reportMissingImports]
    from selenium.webdriver.chrome.service import Service  # pyright: ignore[reportMissingImports]

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        try:
            with webdriver.Chrome(options=options, service=Service(driver)) as window:
                window.get(page.resolve().as_uri())
                return window.execute_script(MEASURE, times, 50)
        except WebDriverException as error:
            why = " ".join(str(error.msg).partition(";")[0].split())[:200]
            raise UserError(f"--measure: {browser} cannot be used ({why})") from error


if __name__ == "__main__":
    run(main, parser())
