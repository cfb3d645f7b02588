"""The pages of runs and sweeps: what stands in them, when they are written, and that nothing breaks them."""

import html.parser
import itertools
import json
import math
import random
import re
import shlex
import shutil
import signal
from statistics import median

import numpy as np
import pytest

from experiments import page, sweep, train
from experiments.common import pages
from experiments.common.continuation import describe
from experiments.common.damage import fuzzed
from jaxnn import datasets
from jaxnn.activations import sigmoid
from jaxnn.datasets import Dataset
from jaxnn.datasets.dataset import Examples
from jaxnn.layers import Dense
from jaxnn.losses import binary_cross_entropy
from jaxnn.runs import record
from jaxnn.seeing.pages import run as of_run
from jaxnn.seeing.pages.sweep import sweep_page
from tests.programs import ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
CURVES = ("loss", "test_loss", "test_accuracy")
SMALL = ("--hidden", "7", "--epochs", "4", "--batch-size", "32")


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    done = ended(train, *SMALL, "--out", folder)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="module")
def a_sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "small"
    line = ("--seeds", "3", "--learning-rates", "0.2", "1", "--widths", "3", "5", "--scales", "0.5", "1")
    done = ended(sweep, *line, "--epochs", "2", "--memory", "1", "--out", folder)
    assert done.status == 0, done.err
    return folder


class Read(html.parser.HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.inside = [], "", ""
        self.feed(text)
        data = [text for name, text in self.scripts if name == "data"]
        self.data = json.loads(data[0], parse_constant=lambda found: pytest.fail(f"{found} is not JSON"))

    scripts: list

    def reset(self):
        super().reset()
        self.scripts = []

    def handle_starttag(self, tag, attrs):
        self.text += " "
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append([dict(attrs).get("id"), ""])

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1][1] += data
        elif self.inside != "style":
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def cells(self):
        return [td["data-say"] for td in self.all("td") if "data-say" in td]


def read(folder):
    return Read((folder / "page.html").read_text("utf-8"))


def settings_of(folder):
    return json.loads((folder / "settings.json").read_text("utf-8"))


def params_of(folder, n):
    return record.load_params(folder / "params.safetensors", n)


def by_numpy(params, X):
    """A[1] and Ŷ of a network with one hidden layer of sigmoids, in float64."""
    (W1, b1), (W2, b2) = ((np.asarray(W, float), np.asarray(b, float)) for W, b in params)
    A = 1 / (1 + np.exp(-X @ W1.T - b1.T))
    return A, 1 / (1 + np.exp(-A @ W2.T - b2.T))


def run_of(folder, **changes):
    settings = settings_of(folder)
    n, data = tuple(settings["n"]), datasets.load("digits")
    told = of_run.Told("", [], "")
    names, params = ("sigmoid", "binary_cross_entropy"), params_of(folder, n)
    metrics = changes.get("metrics", record.load_metrics(folder))
    given = names, sigmoid, binary_cross_entropy, data, metrics, params, len(metrics), True, told
    return of_run.Run(n, *given)._replace(**changes)


def test_outputs_and_confusion_are_those_of_numpy(a_run):
    run = run_of(a_run)
    images, labels = run.data.test
    _, Y_hat = by_numpy(run.params, images.reshape(len(images), 64) / 16)
    predictions, found, confusion = of_run.outputs(run)
    np.testing.assert_allclose(found, Y_hat, rtol=1e-12)
    np.testing.assert_array_equal(predictions, Y_hat.argmax(1))
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, Y_hat.argmax(1)), 1)
    np.testing.assert_array_equal(confusion, counts)
    cells = [
        re.fullmatch(r"(\d), read as (\d): (\d+) of (\d+) \((\S+) %\)", say) for say in read(a_run).cells()
    ]
    assert len(cells) == 100
    for (j, k), cell in zip(itertools.product(range(10), repeat=2), cells, strict=True):
        N = int((labels == j).sum())
        assert (*map(int, cell.groups()[:4]),) == (j, k, counts[j, k], N)
        assert float(cell[5]) == pytest.approx(100 * counts[j, k] / N, abs=0.05)


def test_the_most_confidently_misread_come_first(a_run):
    run = run_of(a_run)
    images, labels = run.data.test
    _, Y_hat = by_numpy(run.params, images.reshape(len(images), 64) / 16)
    wrong = [i for i in range(len(labels)) if Y_hat[i].argmax() != labels[i]]
    assert len(wrong) > 12
    expected = sorted(wrong, key=lambda i: (-Y_hat[i].max(), i))[:12]
    text = (a_run / "page.html").read_text("utf-8")
    shown = re.findall(
        r"a (\d), read as (\d)</figcaption>\s*<img .*? alt=\"test image (\d+), a (\d)\">", text
    )
    assert shown == [(str(labels[i]), str(Y_hat[i].argmax()), str(i), str(labels[i])) for i in expected]
    tables = re.findall(r'<table class="outputs".*?</table>', text, re.S)
    for i, table in zip(expected, tables, strict=True):
        assert re.findall(r"<td>(\d\.\d{3})</td>", table) == [f"{y:.3f}" for y in Y_hat[i]]


def test_the_charts_hold_the_metrics(a_run):
    metrics = record.load_metrics(a_run)
    found = read(a_run)
    cost, accuracy, dW, db = found.data["charts"]
    for title in ("cost J, log scale", "sizes of dW, log scale", "sizes of db, log scale", "test accuracy"):
        assert f" {title}\n" in found.text
    best = max(range(4), key=lambda k: metrics[k]["test_accuracy"]) + 1
    assert all(chart["best"] == best and chart["x"] == [1, 2, 3, 4] for chart in (cost, accuracy, dW, db))
    for series, name in zip(cost["series"] + accuracy["series"], CURVES, strict=True):
        np.testing.assert_allclose(series["y"], [m[name] for m in metrics], rtol=1e-5)
    for chart, name in ((dW, "dW"), (db, "db")):
        assert [series["name"] for series in chart["series"]] == [f"{name}[1]", f"{name}[2]"]
        for l, series in enumerate(chart["series"]):
            np.testing.assert_allclose(series["y"], [m[name][l] for m in metrics], rtol=1e-5)


def test_the_sizes_of_the_gradients_are_those_of_numpy(a_run):
    (_, _), (W2, _) = params = params_of(a_run, (64, 7, 10))
    images, labels = (array[: record.FEW] for array in datasets.load("digits").train)
    X, Y = images.reshape(len(images), 64) / 16, np.eye(10)[labels]
    A, Y_hat = by_numpy(params, X)
    dZ2 = (Y_hat - Y) / len(X)
    dZ1 = dZ2 @ np.asarray(W2, float) * A * (1 - A)
    assert f"on the first {record.FEW} training images" in " ".join(read(a_run).text.split())
    last = record.load_metrics(a_run)[-1]
    np.testing.assert_allclose(
        last["dW"], [np.sqrt(((dZ.T @ P) ** 2).sum()) for dZ, P in ((dZ1, X), (dZ2, A))], rtol=1e-4
    )
    np.testing.assert_allclose(last["db"], [np.sqrt((dZ.sum(0) ** 2).sum()) for dZ in (dZ1, dZ2)], rtol=1e-4)


def test_the_page_says_what_was_run_and_the_command_repeats_it(a_run):
    found, settings = read(a_run), settings_of(a_run)
    text = " ".join(found.text.split())
    command = re.search(r"python -m experiments\.train .*? --device cpu", text)[0]
    again = train.parser().parse_args(shlex.split(command)[3:])
    asked = {name: value for name, value in settings.items() if hasattr(again, name) and name != "device"}
    assert {name: getattr(again, name) for name in asked} == asked
    assert {"dataset", "hidden", "epochs", "batch_size", "learning_rate", "seed", "gradient"} <= asked.keys()
    for row in ("1 (7, 64) (7, 1) (1438, 7) (1438, 7) sigmoid", "2 (10, 7) (10, 1) (1438, 10) (1438, 10) Ŷ"):
        assert row in text
    assert "535 parameters" in text
    assert "X (1438, 64)" in text
    assert f"jax {settings['versions']['jax']}".replace(" ", "") in text.replace(" ", "")
    assert len([image for image in found.all("img") if image["alt"].startswith("weights of neuron")]) == 7


def test_the_command_of_a_sweep_repeats_it_and_so_does_that_of_its_best(a_sweep):
    settings = settings_of(a_sweep)
    for folder in (a_sweep, a_sweep / "best"):
        words = shlex.split(pages.command(settings_of(folder)))
        assert words[:3] == ["python", "-m", "experiments.sweep"]
        again = sweep.parser().parse_args(words[3:])
        for name in (
            "seed",
            "seeds",
            "learning_rates",
            "scales",
            "widths",
            "epochs",
            "batch_size",
            "optimizer",
        ):
            assert getattr(again, name) == settings[name], name


def test_every_setting_of_a_program_is_in_its_command():
    for program in (train, sweep):
        arguments = program.parser().parse_args([])
        described = describe(arguments, (1, 2), type("Device", (), {"platform": "cpu", "device_kind": "x"}))
        expected = described.keys() - {"n", "device", "versions", "environment"}
        assert expected == {*pages.OPTIONS[program.__name__.split(".")[1]].split()}


def test_a_page_is_made_again_from_what_is_on_the_disk(a_run, a_sweep, tmp_path):
    for folder in (a_run, a_sweep, a_sweep / "best"):
        done = ended(page, folder, "--out", tmp_path / "again.html")
        assert done.status == 0, done.err
        assert (tmp_path / "again.html").read_bytes() == (folder / "page.html").read_bytes()
        assert "refresh" not in {meta.get("http-equiv") for meta in read(folder).all("meta")}
    shutil.copytree(a_run, tmp_path / "run")
    (tmp_path / "run" / "page.html").unlink()
    assert f"written   {tmp_path / 'run' / 'page.html'}, " in ended(page, tmp_path / "run", "--best").out
    assert read(tmp_path / "run").cells()


def test_the_page_of_the_best_epoch_says_so_and_has_its_accuracy(a_run, tmp_path):
    shutil.copytree(a_run, tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "params.safetensors", tmp_path / "best.safetensors")
    lines = record.load_metrics(a_run)
    for m, accuracy in zip(lines, (0.25, 0.75, 0.75, 0.5), strict=True):
        m["test_accuracy"] = accuracy
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in lines))
    for options, told, others in (
        (
            (),
            "50.00 % of 359 test images recognised after 4 epochs; at best 75.00 %, first after epoch 2.",
            0,
        ),
        (("--best",), "75.00 % of 359 test images recognised after epoch 2 of 4, whose network is shown", 3),
    ):
        assert ended(page, tmp_path, *options).status == 0
        text = " ".join(read(tmp_path).text.split())
        assert told in text
        assert text.count("; after epoch 2, the best.") == others
    assert "50.00 % after the last." in text


def test_an_old_run_without_sizes_and_times_has_its_page(a_run, tmp_path):
    shutil.copytree(a_run, tmp_path, dirs_exist_ok=True)
    (tmp_path / "timings.json").unlink()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    old = "".join(json.dumps({k: v for k, v in m.items() if k not in ("dW", "db")}) + "\n" for m in lines)
    (tmp_path / "metrics.jsonl").write_text(old)
    assert ended(page, tmp_path).status == 0
    found = read(tmp_path)
    assert [chart["title"] for chart in found.data["charts"]] == ["cost J", "test accuracy"]
    assert len(found.cells()) == 100
    assert "finished" in found.text
    assert "compiled" not in found.text
    assert "; compiled in " in read(a_run).text


def test_a_run_that_is_not_finished_has_a_page_without_what_is_not_known(a_run, tmp_path):
    shutil.copytree(a_run, tmp_path, dirs_exist_ok=True)
    (tmp_path / "params.safetensors").unlink()  # as if killed before this, its last file
    assert ended(page, tmp_path).status == 0
    found = read(tmp_path)
    assert "not finished" in found.text
    assert "is shown when the training is finished" in " ".join(found.text.split())
    assert not found.cells()
    assert not found.all("img")
    assert len(found.data["charts"]) == 4


@pytest.mark.parametrize("damage", ["no loss", "no folder", "no data", "unfinished sweep"])
def test_what_makes_no_page_is_refused_in_one_line(damage, a_run, a_sweep, tmp_path):
    shutil.copytree(a_sweep if "sweep" in damage else a_run, tmp_path / "run")
    change = {"no loss": {"loss": "<script>"}, "no data": {"n": [63, 7, 10]}}.get(damage, {})
    path = tmp_path / "run" / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    if damage == "no data":
        (tmp_path / "run" / "params.safetensors").unlink()
    if "sweep" in damage:
        (tmp_path / "run" / "networks.jsonl").unlink()
    (tmp_path / "run" / "page.html").unlink()
    done = ended(page, tmp_path / ("nothing" if damage == "no folder" else "run"))
    assert done.status == 2
    assert re.fullmatch(r"error: [^\n]+\n", done.err), done.err
    assert not (tmp_path / "run" / "page.html").exists()


def test_an_interrupted_run_says_so_and_goes_on_to_its_end(tmp_path):
    done = ended(train, *SMALL, "--out", tmp_path, on={"epoch   2/4": lambda: signal.raise_signal(15)})
    assert done.status == 76
    found = read(tmp_path)
    assert done.err.strip() in found.text
    assert found.data["charts"][0]["x"] == [1, 2]
    assert not found.cells()
    assert (
        found.text.count("interrupted at epoch 3")
        == Read(page_of(tmp_path)).text.count("interrupted at epoch 3")
        == 1
    )
    assert ended(train, "--out", tmp_path).status == 0
    found = read(tmp_path)
    assert "interrupted" not in found.text
    assert found.data["charts"][0]["x"] == [1, 2, 3, 4]


def page_of(folder):
    assert ended(page, folder).status == 0
    return (folder / "page.html").read_text("utf-8")


def test_a_diverged_run_says_so(tmp_path):
    line = (*SMALL, "--activation", "relu", "--save-every", "1e8", "--out", tmp_path)
    assert ended(train, *line, on={"epoch   2/4": lambda: signal.raise_signal(15)}).status == 76
    done = ended(train, "--out", tmp_path, "--learning-rate", "1e30", "--override", "learning_rate")
    assert done.status == 2
    assert "is the first that is not finite" in read(tmp_path).text


@pytest.mark.parametrize(
    ("elapsed", "share", "since", "taken", "spent", "expected"),
    [
        (4.9, 0.001, 99, 0, 0, False),  # too early to know
        (5.0, 0.083, 99, 0, 0, True),  # 60.2 s
        (5.0, 0.084, 99, 0, 0, False),  # 59.5 s
        (600, 0.5, 1.9, 0, 1, False),
        (600, 0.5, 2.0, 0, 1, True),
        (600, 0.5, 2.0, 0.04, 1, True),  # 50 times 0.04 s
        (600, 0.5, 2.0, 0.05, 1, False),
        (600, 0.5, 2.5, 0.05, 1, True),
        (600, 0.5, 99, 0.5, 11.5, True),  # 2 % of 600 s
        (600, 0.5, 99, 0.5, 11.6, False),
        (600, 0.993, 99, 0, 1, True),  # 4.2 s are left
        (600, 0.994, 99, 0, 1, False),  # 3.6 s
    ],
)
def test_when_the_page_of_a_run_that_goes_on_is_due(elapsed, share, since, taken, spent, expected):
    assert pages.due(elapsed, share, since, taken, spent) is expected


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


def watched(monkeypatch, tmp_path, epochs, an_epoch, a_page):
    """When pages begin, of a run in which an epoch and a page take so long."""
    clock, begun = Clock(), []

    def draw(timings, refresh, epoch):
        begun.append((clock.now, refresh, timings["state"], epoch))
        clock.now += a_page
        return f"{epoch}"

    monkeypatch.setattr(pages, "time", clock)
    view = pages.View(tmp_path, 0.5, draw, 0)
    with view:
        for epoch in range(1, epochs + 1):
            clock.now += an_epoch
            view(epoch / epochs, epoch)
        view.write("finished")
    return begun, clock.now


def test_a_short_run_writes_its_page_once(monkeypatch, tmp_path):
    begun, _ = watched(monkeypatch, tmp_path, 590, 0.1, 0.01)
    assert [(refresh, state, epoch) for _, refresh, state, epoch in begun] == [(0, "finished", 590)]
    assert (tmp_path / "page.html").read_text() == "590"
    assert record.load_timings(tmp_path)["trained"] == pytest.approx(59)


@pytest.mark.parametrize("a_page", [0.001, 0.3, 1.1])
def test_a_long_one_is_kept_current_and_takes_little(monkeypatch, tmp_path, a_page):
    begun, end = watched(monkeypatch, tmp_path, 1000, 0.31, a_page)
    moments = [moment for moment, refresh, *_ in begun if refresh]
    assert moments[0] == pytest.approx(5.27)  # the first epoch after five seconds
    gaps = np.diff(moments)
    assert gaps.min() >= max(2, 50 * a_page)
    assert gaps[1:].max() < max(2, 50 * a_page) + 0.31 + 2 * a_page
    assert len(moments) * a_page <= 0.02 * end
    assert [refresh for _, refresh, *_ in begun[:-1]] == [5] * len(moments)
    assert begun[-1][1:] == (0, "finished", 1000)


def test_a_page_that_cannot_be_written_is_warned_of_and_costs_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr(of_run, "outputs", lambda run: {}["no\nbody"])
    done = ended(train, *SMALL, "--out", tmp_path)
    said = rf"warning: {tmp_path}/page.html: no page is written \(KeyError: [^\n]+\)\n"
    assert done.status == 0
    assert re.fullmatch(said, done.err), done.err
    assert record.load_params(tmp_path / "params.safetensors", (64, 7, 10))
    assert not (tmp_path / "page.html").exists()


def test_a_folder_in_the_place_of_a_page_is_warned_of_once_and_at_the_end(monkeypatch, tmp_path, capsys):
    (tmp_path / "page.html").mkdir()
    watched(monkeypatch, tmp_path, 1000, 0.31, 0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"warning: \S+page.html: .+cannot be written.+", line) for line in lines)


def test_in_training_the_page_is_written_once(monkeypatch, tmp_path):
    written, replace = [], record.replace
    monkeypatch.setattr(
        record, "replace", lambda path, text: written.append(path.name) or replace(path, text)
    )
    assert ended(train, *SMALL, "--out", tmp_path).status == 0
    assert written.count("page.html") == 1


def a_large_run(epochs, n=(784, 17, 10), N=99):
    """As of MNIST, of noise, which no compression makes small."""
    rng = np.random.default_rng(0)
    examples = Examples(rng.integers(0, 256, (N, 28, 28), np.uint8), np.arange(N) % 10)
    params = [
        Dense(rng.normal(size=(n_l, n_prev)), rng.normal(size=(n_l, 1)))
        for n_prev, n_l in itertools.pairwise(n)
    ]
    metrics = [
        {name: float(rng.random()) for name in CURVES}
        | {name: [*rng.random(len(params))] for name in ("dW", "db")}
        for _ in range(epochs)
    ]
    data = Dataset("mnist", examples, examples, 10, 255)
    told = of_run.Told("train", [], "")
    names = "x", "y"
    return of_run.Run(n, names, sigmoid, binary_cross_entropy, data, metrics, params, epochs, True, told)


@pytest.mark.parametrize(
    ("epochs", "n"), [(1, (784, 17, 10)), (5000, (784, 17, 10)), (5000, (784, 600, 500, *[30] * 9, 10))]
)
def test_a_page_is_small(epochs, n):
    found = of_run.run_page(a_large_run(epochs, n))
    assert len(found.encode()) <= (300_000 if len(n) == 3 else 600_000)
    charts = Read(found).data["charts"]
    assert len(charts) == 4
    for chart in charts:
        assert chart["x"][0] == 1
        assert chart["x"][-1] == epochs
        assert chart["best"] in chart["x"]
        assert all(len(series["y"]) == len(chart["x"]) <= 502 for series in chart["series"])
        assert len(chart["series"]) <= 6


def test_of_many_layers_the_first_and_the_last_are_shown():
    assert (of_run.shown(2), of_run.shown(9)) == ([1, 2], [1, 2, 3, 7, 8, 9])


@pytest.mark.parametrize("value", [math.inf, math.nan, "1", None, True, [1.0], 1, -1.0, 1e300, 5e-324])
def test_a_gap_stands_for_what_no_axis_can_show(value):
    assert of_run.number(value) is None
    assert (of_run.number(1 / 3), of_run.number(0.0), of_run.number(1e299)) == (0.333333, 0.0, 1e299)


def test_a_network_that_misreads_nothing(monkeypatch):
    run = a_large_run(1)
    Y = np.eye(10)[run.data.test.labels]
    monkeypatch.setattr(of_run, "outputs", lambda _: (run.data.test.labels, Y, np.diag(Y.sum(0))))
    assert "It misreads none of them." in of_run.run_page(run)


def test_a_class_without_test_images_has_its_row():
    run = a_large_run(1)
    images, labels = run.data.test
    kept = Examples(images[labels != 3], labels[labels != 3])
    found = Read(of_run.run_page(run._replace(data=run.data._replace(test=kept))))
    cells = found.cells()
    assert len(cells) == 100
    assert cells[30:40] == [f"3, read as {k}: 0 of 0 (0.0 %)" for k in range(10)]


HOSTILE = (
    "<script>alert(1)</script>", '"onmouseover="alert(1)', "'><img src=x onerror=alert(1)>", "</script><b>",
    "{{7*7}}", "]]>", "<!--", "\ud800\x00\u202e", "x" * 5000, "$(rm -rf ~)", "javascript:alert(1)", 10**30,
    True, None, -1.5, ["<i>", {"a": "<u>"}], {"<b>": "<i>", "onclick": '"'}, math.nan, math.inf, [], {}, "",
)  # fmt: skip


def skeleton(found):
    """All but the text: what elements there are, with which attributes, beside rows, cells and breaks."""
    return {(tag, *sorted(attributes)) for tag, attributes in found.elements}


@pytest.mark.parametrize("seed", range(3))
def test_hostile_settings_are_text(seed, a_run, a_sweep, tmp_path):
    rng = random.Random(seed)
    for folder in (a_run, a_sweep):
        clean = skeleton(read(folder))
        shutil.copytree(folder, tmp_path / folder.parent.name)
        path = tmp_path / folder.parent.name / "settings.json"
        settings = json.loads(path.read_text())
        kept = {"dataset", "n", "activation", "loss", "learning_rates", "epochs", "seeds", "scales", "widths"}
        kept |= {"network"}  # with a colon in it one's own, which has no page
        strange = {name: rng.choice(HOSTILE) for name in sorted(settings.keys() - kept)}
        strange |= {name: rng.choice(HOSTILE) for name in HOSTILE if isinstance(name, str)}
        path.write_text(json.dumps(settings | strange))
        (path.parent / "timings.json").write_text(
            json.dumps({"state": rng.choice(HOSTILE[:5]), "compiled": 1.0, "trained": 2.0})
        )
        found = Read(page_of(path.parent))
        assert skeleton(found) <= clean
        assert len(found.all("script")) == 2
        if any(value == HOSTILE[0] for value in strange.values()):
            assert HOSTILE[0] in found.text
        assert len((path.parent / "page.html").read_bytes()) < 300_000


@pytest.mark.parametrize("name", ["settings.json", "metrics.jsonl", "timings.json", "networks.jsonl"])
def test_files_of_random_content_give_a_page_or_a_line(name, a_run, a_sweep, tmp_path):
    folder = a_sweep if name == "networks.jsonl" else a_run
    clean = skeleton(read(folder))
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "params.safetensors").unlink(missing_ok=True)
    good, rng, pages_made = (folder / name).read_bytes(), random.Random(name), 0
    for _ in range(15 if name == "timings.json" else 60):  # those are nearly always a page
        (tmp_path / name).write_bytes(fuzzed(good, rng))
        done = ended(page, tmp_path)
        if done.status == 0:
            pages_made += 1
            found = read(tmp_path)
            assert skeleton(found) <= clean
            assert len(found.all("script")) == 2
        else:
            assert re.fullmatch(r"error: [^\n]+\n", done.err), done.err
    assert pages_made > 0


@pytest.mark.parametrize("name", ["loss", "test_loss", "dW", "db", "epoch", "<b>"])
def test_hostile_metrics_are_gaps(name, a_run):
    recorded = record.load_metrics(a_run)
    for value in [*random.Random(name).sample(HOSTILE, 5), math.nan, -1.5, 5e-324, 1.7e308, 0.0]:
        metrics = [{**m, name: value} if k == 1 else m for k, m in enumerate(recorded)]
        curves = {key: [m[key] for m in metrics] for key in (*CURVES, "dW", "db")}
        series = [s["y"] for chart in of_run.charts(curves, [1, 2]) for s in chart["series"]]
        expected = {"loss": [0], "test_loss": [1], "dW": [3, 4], "db": [5, 6]}.get(name, [])
        if value == 0 and isinstance(value, float) and len(expected) == 1:
            expected = []
        assert [k for k, y in enumerate(series) if y[1] is None] == expected, value
    assert HOSTILE[0] not in of_run.run_page(run_of(a_run, metrics=metrics, params=None))


def rows_of(folder):
    return record.load_networks(folder)


def test_the_heat_maps_hold_medians_and_spreads(a_sweep):
    rows, found = rows_of(a_sweep), read(a_sweep)
    said = [
        re.fullmatch(
            r"learning rate (\S+), hidden (\d+), scale (\S+): median (\S+) %, (\S+) to (\S+) %", say
        ).groups()
        for say in found.cells()
    ]
    assert [cell[:3] for cell in said] == [
        (a, n, s) for s in ("0.5", "1") for n in ("3", "5") for a in ("0.2", "1")
    ]
    for rate, n, scale, *numbers in said:
        values = [
            100 * row["final_test_accuracy"]
            for row in rows
            if (row["learning_rate"], row["hidden"], row["scale"]) == (float(rate), [int(n)], float(scale))
        ]
        assert len(values) == 3
        for number, value in zip(numbers, (median(values), min(values), max(values)), strict=True):
            assert float(number) == pytest.approx(value, abs=0.051)
    best = max(rows, key=lambda row: row["final_test_accuracy"])
    text = " ".join(found.text.split())
    assert f"The best network recognises {100 * best['final_test_accuracy']:.2f} %" in text
    curves = [s["y"] for chart in found.data["charts"] for s in chart["series"]]
    for curve, name in zip(curves, CURVES, strict=True):
        np.testing.assert_allclose(curve, best["curves"][name], rtol=1e-5)


def network(accuracy=0.5, loss=0.25, **changes):
    curves = {"loss": [2.0, loss], "test_loss": [2.5, loss], "test_accuracy": [0.1, accuracy]}
    return {"seed": 0, "learning_rate": 0.5, "scale": 1.0, "hidden": [17], "curves": curves} | changes


@pytest.mark.parametrize(
    ("rows", "titles", "rows_and_columns"),
    [
        ([network()], ["hidden 17"], [(1, 1)]),
        ([network(seed=k) for k in range(4)], ["hidden 17"], [(1, 1)]),
        ([network(learning_rate=a) for a in (0.1, 1.0, 9.0)], ["hidden 17"], [(1, 3)]),
        ([network(scale=s) for s in (0.5, 1.0)], ["hidden 17"], [(2, 1)]),
        ([network(hidden=h) for h in ([5], [5, 5], [17, 9, 5])], ["scale 1"], [(3, 1)]),
        (
            [
                network(hidden=[n], scale=s, learning_rate=a)
                for n in (1, 2, 3, 4) for s in (0.5, 1.0) for a in (0.1, 0.2, 0.5, 1.0)
            ],
            ["scale 0.5", "scale 1"],
            [(4, 4), (4, 4)],
        ),
    ],
)  # fmt: skip
def test_the_heat_maps_of_any_family(rows, titles, rows_and_columns):
    found = Read(sweep_page("digits", rows, of_run.Told("", [], "")))
    text = sweep_page("digits", rows, of_run.Told("", [], ""))
    assert re.findall(r"<h3>(.*?)</h3>", text) == titles
    maps = re.findall(r'<table class="heat">.*?</table>', text, re.S)
    assert [(m.count('scope="row"'), m.count('scope="col"') - 1) for m in maps] == rows_and_columns
    assert len(found.cells()) == sum(r * c for r, c in rows_and_columns)


def test_of_many_rows_columns_and_scales_the_first_are_shown():
    rows = [network(hidden=[1 + k], learning_rate=0.01 * (1 + k), scale=1.0 + k % 7) for k in range(300)]
    text = sweep_page("digits", rows, of_run.Told("", [], ""))
    assert text.count('scope="row"') == text.count('scope="col"') - 6 == 6 * 40
    assert text.count("The first 40 of 300 rows and 40 of 300 columns.") == 6
    assert text.count("Of 7 scales the first 6 are shown.") == 1
    assert " rows and " not in sweep_page("digits", rows[:6], of_run.Told("", [], ""))


def test_diverged_networks_are_told_in_words_and_left_out():
    rows = [
        network(0.9), network(0.8, None, seed=1), network(0.7, seed=2), network(0.99, None, learning_rate=9.0)
    ]  # fmt: skip
    found = Read(sweep_page("digits", rows, of_run.Told("", [], "")))
    assert [say.split(": ")[1] for say in found.cells()] == [
        "median 80.00 %, 70.0 to 90.0 %, 1 of 3 diverged", "1 of 1 diverged",
    ]  # fmt: skip
    text = " ".join(found.text.split())
    assert "The best network recognises 90.00 %" in text
    assert "2 of 4 diverged, and are left out" in text
    nothing = Read(sweep_page("digits", [network(0.9, None)], of_run.Told("", [], "")))
    assert "Every network diverged" in nothing.text
    assert nothing.data["charts"] == []


@pytest.mark.parametrize("name", ["seed", "learning_rate", "scale", "hidden", "curves"])
def test_hostile_networks_are_refused(name, tmp_path):
    right = {
        "seed": [-1.5, 10**30],
        "learning_rate": [-1.5],
        "scale": [-1.5],
        "hidden": [-1.5, []],
        "curves": [-1.5],
    }
    for value in (value for value in HOSTILE if value not in right[name]):
        lines = [json.dumps(network()), json.dumps(network(**{name: value}))]
        (tmp_path / "networks.jsonl").write_text("\n".join(lines))
        said = r"networks.jsonl: line 2: expected a network's settings and curves$"
        with pytest.raises(record.RunError, match=said):
            record.load_networks(tmp_path)


def test_a_network_without_a_hidden_layer_is_one_too(tmp_path):
    (tmp_path / "networks.jsonl").write_text(json.dumps(network(hidden=[])))
    assert record.load_networks(tmp_path)[0]["hidden"] == []


NO_TIMES = (
    "", "{", "[]", '{"state": "x"}', "[" * 9999, '{"state": 1, "compiled": 1.0, "trained": 1.0}',
    '{"state": "x", "compiled": NaN, "trained": 1.0}',
)  # fmt: skip


@pytest.mark.parametrize("content", NO_TIMES)
def test_times_that_cannot_be_read_are_not_known(content, tmp_path):
    (tmp_path / "timings.json").write_text(content)
    assert record.load_timings(tmp_path) == {}


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page; afterwards it has asked for nothing, and complained about nothing."""

    def open_(text, **options):
        (tmp_path / "page.html").write_text(text, "utf-8")
        browser.open(tmp_path / "page.html", **options)
        return browser

    yield open_
    assert browser.errors() == []
    assert browser.requests() == []


@pytest.mark.parametrize("width", [390, 800, 1600])
def test_pages_fit_into_the_window(opened, a_run, a_sweep, width):
    for folder in (a_run, a_sweep):
        browser = opened((folder / "page.html").read_text("utf-8"), width=width, dark=width == 800)
        assert browser.overflow() <= 0
        assert browser.js("return document.querySelectorAll('svg .curve').length") in (3, 7)
        assert browser.js("return document.querySelector('.command').innerText") == pages.command(
            settings_of(folder)
        )
        lines = """const lines = (e) => {
              const range = document.createRange();
              range.selectNodeContents(e);
              return new Set([...range.getClientRects()].map((box) => box.top)).size;
            };
            return [...document.querySelectorAll(".command span, .facts dd")]
              .filter((e) => !e.textContent.includes(" ") && lines(e) > 1).map((e) => e.textContent)"""
        assert browser.js(lines) == []
        cut = """return [...document.querySelectorAll(arguments[0])]
            .filter((e) => e.scrollWidth > e.clientWidth).length"""
        assert browser.js(cut, ".wide:has(> svg)") == (width == 390 and folder == a_run)
        assert browser.js(cut, ".wide:has(> .numbers)") == 0


@pytest.mark.parametrize("width", [390, 1600])
def test_a_long_word_does_not_stand_out(opened, a_run, width):
    told = of_run.Told("python --loss " + "x" * 4000 + " --epochs 1", [("long", "y" * 4000)], "")
    browser = opened(of_run.run_page(run_of(a_run, told=told, params=None)), width=width)
    assert browser.overflow() <= 0
    wide = "const e = document.querySelector('.command'); return e.scrollWidth - e.clientWidth"
    assert browser.js(wide) == 0


def test_values_are_told_at_the_pointer_and_by_keys(opened, a_run):
    browser, metrics = opened((a_run / "page.html").read_text("utf-8")), record.load_metrics(a_run)
    key = """const [at, key] = arguments, found = document.querySelectorAll(".chart svg, .heat td")[at];
        found.focus();
        found.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        const own = document.activeElement.closest(".chart, .map");
        return own.querySelector(".say").textContent"""
    loss, test_loss = (f"{float(f'{metrics[0][name]:.4g}'):g}" for name in ("loss", "test_loss"))
    assert browser.js(key, 0, "Home") == f"epoch 1: training {loss}, test {test_loss}"
    assert browser.js(key, 0, "ArrowRight").startswith("epoch 2: training ")
    assert browser.js(key, 0, "End").startswith("epoch 4: ")
    assert browser.js(key, 0, "ArrowRight").startswith("epoch 4: ")
    assert browser.js(key, 4, "ArrowDown").startswith("1, read as 0: ")
    assert browser.js(key, 4, "ArrowLeft").startswith("0, read as 0: ")
    told = """const svg = document.querySelectorAll(".chart svg")[1], box = svg.getBoundingClientRect();
        const curve = svg.querySelector(".curve").getBoundingClientRect(), say = svg.nextElementSibling;
        svg.dispatchEvent(new PointerEvent("pointermove", {clientX: curve.left + curve.width * 0.3}));
        const here = say.textContent;
        svg.dispatchEvent(new PointerEvent("pointerleave"));
        return [here, say.textContent]"""
    here, left = browser.js(told)
    accuracies = [m["test_accuracy"] for m in metrics]
    assert here == f"epoch 2: test {float(f'{100 * accuracies[1]:.2f}'):g} %"
    assert left.startswith(f"epoch {accuracies.index(max(accuracies)) + 1}, the best: test ")


@pytest.mark.parametrize(
    "values",
    [[0.5], [0.0] * 3, [1e-30, 0.0, 1.0], [1e300, 1e-300], [None, None], [None, 2.0, None], [1.0] * 1000],
)
def test_charts_of_any_numbers_are_drawn_inside_their_frame(opened, a_run, values):
    metrics = [
        {"loss": v, "test_loss": v, "test_accuracy": min(v or 0.0, 1.0)} | {d: [v, v] for d in ("dW", "db")}
        for v in values
    ]
    browser = opened(of_run.run_page(run_of(a_run, metrics=metrics, params=None)))
    inside = """return [...document.querySelectorAll(".chart")].map((figure) => {
        const frame = figure.getBoundingClientRect();
        const seen = (e) => getComputedStyle(e).display !== "none";
        return [...figure.querySelectorAll("svg *")].filter(seen).every((e) => {
          const box = e.getBoundingClientRect();
          return box.left >= frame.left && box.right <= frame.right && box.top >= frame.top
            && box.bottom <= frame.bottom
            && ![...e.attributes].some((a) => /NaN|Infinity|undefined/.test(a.value));
        });
      })"""
    assert browser.js(inside) == [True] * 4


def test_a_running_page_reloads_itself_and_a_hostile_one_runs_nothing(opened, a_run):
    strange = {f"{k}": value for k, value in enumerate(HOSTILE)}
    told = pages.told(strange, {}, HOSTILE[2])
    browser = opened(
        of_run.run_page(run_of(a_run, names=("<i>", "<u>"), told=told, finished=False), refresh=5)
    )
    assert browser.js("return document.querySelector('meta[http-equiv=refresh]').content") == "5"
    assert browser.js("return document.images.length") == 8  # of weights alone
    assert browser.js("return document.querySelectorAll('[onmouseover], [onerror], script').length") == 2
    assert HOSTILE[0] in browser.js("return document.body.innerText")
