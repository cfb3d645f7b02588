"""What people mistype is answered in one line, which says what to write; and that is then understood."""

import os
import re
import shlex
import time
from importlib import import_module

import pytest

from experiments.common import mistyped, suggestions, synonyms
from experiments.common.arguments import Parser, rate, seconds, whole

# (program, what is typed, what it is told to write)
MISTAKES = [
    ("train", "--lr 0.1", "--learning-rate 0.1"),
    ("train", "-lr 0.1", "--learning-rate 0.1"),
    ("train", "--learning_rate 0.1", "--learning-rate 0.1"),
    ("train", "--learningRate=0.1", "--learning-rate 0.1"),
    ("train", "--lr 1e−3", "--learning-rate 1e-3"),
    ("train", "--lr 0,1", "--learning-rate 0.1"),
    ("train", "--bs 32", "--batch-size 32"),
    ("train", "--batch 32", "--batch-size 32"),
    ("train", "--batchsize 32", "--batch-size 32"),
    ("train", "--epoch 10", "--epochs 10"),
    ("train", "-e 10", "--epochs 10"),
    ("train", "--num-epochs 10", "--epochs 10"),
    ("train", "--n_epochs 10", "--epochs 10"),
    ("train", "--max-iter 10", "--epochs 10"),
    ("train", "—epochs 10", "--epochs 10"),
    ("train", "--epo 1", "--epochs 1"),
    ("train", "--epochs10", "--epochs 10"),
    ("train", "--opt adam", "--optimizer adam"),
    ("train", "--optimiser adam", "--optimizer adam"),
    ("train", "--hidden-size 128", "--hidden 128"),
    ("train", "--hidden_layer_sizes 128 64", "--hidden 128 64"),
    ("train", "--layers 128,64", "--hidden 128 64"),
    ("train", "--random-state 3", "--seed 3"),
    ("train", "--adam", "--optimizer adam"),
    ("train", "--cuda", "--device gpu"),
    ("train", "--mnist", "--dataset mnist"),
    ("train", "--output runs/x", "--out runs/x"),
    ("train", "mnist", "--dataset mnist"),
    ("train", "runs/x", "--out runs/x"),
    ("train", "lr=0.1", "--learning-rate 0.1"),
    ("train", "epochs 10", "--epochs 10"),
    ("train", "--hidden 17,17", "--hidden 17 17"),
    ("train", "--hidden 17, 17", "--hidden 17 17"),
    ("train", "--hidden [17]", "--hidden 17"),
    ("train", "--hidden [17, 5]", "--hidden 17 5"),
    ("train", "--hidden 17-10", "--hidden 17 10"),
    ("train", "--hidden 17x10", "--hidden 17 10"),
    ("train", "--hidden=17 17", "--hidden 17 17"),
    ("train", "--hidden '17 17'", "--hidden 17 17"),
    ("train", "--hidden 17 --hidden 5", "--hidden 17 5"),
    ("train", "--learning-rate 0,5", "--learning-rate 0.5"),
    ("train", "--learning-rate 1e-3,1e-2", "python -m experiments.sweep --learning-rates 1e-3 1e-2"),
    ("train", "--learning-rate 50%", "--learning-rate 0.5"),
    ("train", "--learning-rate 10^-3", "--learning-rate 1e-3"),
    ("train", "--epochs 60 epochs", "--epochs 60"),
    ("train", "--epochs -1", "--epochs 1"),
    ("train", "--epochs 1,000", "--epochs 1000"),
    ("train", "--epochs 1e2", "--epochs 100"),
    ("train", "--epochs = 10", "--epochs 10"),
    ("train", "--save-every 5min", "--save-every 300"),
    ("train", "--dataset MNIST", "mnist"),
    ("train", "--dataset FashionMNIST", "fashion_mnist"),
    ("train", "--device cuda:0", "gpu"),
    ("train", "--activation sigmod", "sigmoid"),
    ("train", "--activation LeakyReLU", "leaky_relu"),
    ("train", "--loss mse", "squared_error"),
    ("train", "--resume yes", "--resume"),
    ("train", "--resume runs/a", "--resume --out runs/a"),
    ("train", "'--hidden 17 5'", "--hidden 17 5"),
    ("train", "--hidden 128_64", "--hidden 128 64"),
    ("train", "--save_every=0,5", "--save-every 0.5"),
    ("train", "--learning-rate 1e -3", "--learning-rate 1e-3"),
    ("train", "--h 5", "--hidden 5"),
    ("train", "64-17-10", "--hidden 64 17 10"),
    ("sweep", "--width 9 17", "--widths 9 17"),
    ("sweep", "--memory 500MB", "--memory 0.5"),
    ("predict", "runs/x --epoch best", "did you mean --best"),
    ("compare_gradients", "--float64", "--dtype float64"),
    ("compare_gradients", "--output x.html", "--html x.html"),
    ("fuzz", "-n 100", "--calls 100"),
    ("train", "--out '~/runs'", "~/runs"),
    ("sweep", "--lr 0.1 1", "--learning-rates 0.1 1"),
    ("sweep", "--learning-rates 0,1 0,5", "--learning-rates 0.1 0.5"),
    ("sweep", "--widths=5,9", "--widths 5 9"),
    ("predict", "--run runs/mnist", "python -m experiments.predict runs/mnist"),
    ("predict", "", "python -m experiments.predict RUN_DIR"),
    ("graph", "--output x.svg", "--out x.svg"),
    ("benchmark", "--contenders 'jaxnn, manual' NumPy", "--contenders jaxnn-manual numpy"),
    ("benchmark", "--measure epochs,family", "--measure epochs family"),
    ("golden", "wirte x.json", "write"),
    ("compare_gradients", "--dtype double", "float64"),
    ("endure", "--runs digits,mnist", "--runs digits mnist"),
    ("gpt", "--epochs 3", "did you mean --steps 3"),
    ("gpt", "--block-size 64", "did you mean --places 64"),
    ("gpt", "--text https://a.b/c.txt", "write curl -LO https://a.b/c.txt first"),
    ("memory", "--layers attn", "attention"),
    ("launch", "-n 3", "python -m experiments.launch -n 3 PROGRAM"),
    ("export", "a --to npz --out d.npz", "python -m experiments.export a d.npz --to npz"),
    ("export", "--out d.npz a --to npz", "python -m experiments.export a d.npz --to npz"),
    ("export", "a", "python -m experiments.export a FILE --to npz"),
    ("export", "a net.safetensors", "python -m experiments.export a net.safetensors --to torch"),
    ("export", "d.npz a --to npz", "python -m experiments.export a d.npz --to npz"),
    ("export", "a d.npz more --to npz", "python -m experiments.export a d.npz --to npz"),
    ("predict", "seven.png a", "python -m experiments.predict a --image seven.png"),
    ("predict", "a seven.png", "python -m experiments.predict a --image seven.png"),
    ("predict", "a new.csv --best", "python -m experiments.predict a --best --data new.csv"),
    ("predict", "a --image b.png --drawings b.png", "write one of them"),
    ("draw", "b.png a", "python -m experiments.draw a --image b.png"),
    ("page", "a p.html", "python -m experiments.page a --out p.html"),
    ("compare_gradients", "--network my.py:net", "python -m experiments.train --network"),
    ("compare_gradients", "--network my.py:net", "python -m experiments.train --network"),
    ("predict", "a --epochs 3", "python -m experiments.train --epochs"),
    ("train", "--to npz", "python -m experiments.export RUN FILE --to npz"),
    ("benchmark", "--batch-size 32,128", "--batch-size 32 128\n"),
    ("train", "--batch-size 32,128", "--batch-size 32"),
    ("train", "--hidden 1,024", "--hidden 1024"),
    ("benchmark", "--picture x.jpg", "x.png"),
    ("graph", "--out x.pdf", "x.svg"),
    ("train", "--dropout 0.5 --epochs 3", "python -m experiments.train --epochs 3"),
    ("train", "--patience 3", "python -m experiments.train"),
    ("train", "--no-shuffle", "each epoch is shuffled, by --seed: write python -m experiments.train"),
    ("train", "--network my.net()", "my.py:net"),
    ("train", "--network my", "my:NAME"),
    ("train", "--data file:///home/me/iris.csv", "write /home/me/iris.csv"),
    ("page", "a --out p.pdf", "p.html"),
    ("export", "a gone/d.npz --to npz", "d.npz"),
    ("train", "--image-size 32 24", "--image-size 32x24"),
    ("train", "--image-size 32,24", "32x24"),
    ("train", "--network ./my.py:net", "my.py:net"),
    ("train", "--network my.net", "my.py:net"),
    ("train", "--network mi.py:net", "my.py:net"),
    ("train", "--data https://example.org/iris.csv", "curl -LO https://example.org/iris.csv"),
    ("train", "--data ~/iris.csv", "~/iris.csv"),
    ("graph", "--argnums x", "0,2"),
    ("verify", "a --best", "python -m experiments.verify a"),
    ("memory", "--layers dense,lstm", "--layers dense lstm"),
    ("benchmark", "--contenders all", "write nothing"),
    ("predict", "a --image c.png", "did you mean b.png"),
]


def parser_of(program):
    return import_module(f"experiments.{program}").parser()


@pytest.mark.parametrize(("program", "line", "write"), MISTAKES)
def test_what_is_mistyped_is_answered_with_what_to_write(program, line, write, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "settings.json").touch()  # as far as a run is looked at
    (tmp_path / "b.png").touch()
    (tmp_path / "my.py").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as end:
        parser_of(program).parse_args(shlex.split(line))
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]{1,400}\n", err), err
    assert re.search(r"did you mean|\bwrite\b", err)
    assert re.search(rf"(^|\s|\W){re.escape(os.path.expanduser(write))}(\s|\W|$)", err), err
    assert sorted(tmp_path.rglob("*")) == before
    if write.startswith("--"):  # what it says is understood
        parser_of(program).parse_args(write.split())


GOOD = [
    ("train", "--hidden 17 17 --epochs 3 --learning-rate .5 --resume --out x --seed 0"),
    ("train", "--hidden=17 --dataset=mnist --override epochs device --out=x"),
    ("train", "--learning-rate 1e-3 --save-every 0"),
    ("predict", "runs/x --best"),
    ("predict", "--best -- runs/x"),
    ("graph", "mine.py:loss mine.py:arguments --gradient mine.py:gradient --argnums 0,2"),
    ("graph", "--hidden 5"),
    ("golden", "write x.json --clock 20"),
    ("golden", "compare a.json b.json"),
]


@pytest.mark.parametrize(("program", "line"), GOOD)
def test_what_is_right_is_not_asked_about(program, line):
    assert mistyped.answer(parser_of(program), shlex.split(line)) is None


def test_what_is_said_to_be_absent_is_so():
    for names in synonyms.ABSENT:
        there = parser_of("train")._option_string_actions
        assert not {suggestions.bare(option) for option in there} & {*names.split()}


def test_what_is_said_to_be_another_program_s_is_so():
    for name, written in synonyms.OF_OTHERS.items():
        options = [suggestions.bare(option) for option in re.findall(r"--[\w-]+", written)]
        assert name in options
        there = [suggestions.bare(option) for option in parser_of(written.split()[0])._option_string_actions]
        assert name in there


NUMBERS = [
    (rate, "0,5", "0.5"),
    (rate, "5e−4", "5e-4"),
    (rate, "1/8", "0.125"),
    (rate, "2×10⁻³", "2e-3"),
    (rate, "3%", "0.03"),
    (rate, "'0.5'", "0.5"),
    (rate, "0.5f", "0.5"),
    (whole(1), "60.0", "60"),
    (whole(1), "6O", "60"),
    (whole(1), "2**10", "1024"),
    (whole(1), "0x10", "16"),
    (whole(1), "60k", "60000"),
    (whole(1), "1 000 000", "1000000"),
    (seconds, "2h", "7200"),
    (seconds, "0.5s", "0.5"),
]


@pytest.mark.parametrize(("kind", "typed", "number"), NUMBERS)
def test_numbers_are_read_as_people_write_them(kind, typed, number, capsys):
    parser = Parser(prog="python -m program")
    parser.add_argument("--number", type=kind)
    with pytest.raises(SystemExit):
        parser.parse_args(["--number", typed])
    assert re.search(rf"did you mean --number {re.escape(number)}\?\n", capsys.readouterr().err)


def test_nothing_is_meant_that_is_not_like_it():
    assert suggestions.near("cifar10", ["digits", "mnist"], {}) == []
    assert suggestions.near("mnits", ["mnist", "kmnist", "digits"], {}) == ["mnist"]


LONG = ["9", "a", "-", ",", "1,", "1e", " ", "1 ", "0x", "..", "é", "10^"]


@pytest.mark.parametrize("piece", LONG)
@pytest.mark.parametrize(
    "option", ["", "--", "--hidden ", "--epochs ", "--learning-rate ", "--dataset ", "--override "]
)
def test_what_nobody_types_is_answered_soon_and_briefly(option, piece, capsys):
    words = [*option.split(), piece * 50_000] if option != "--" else ["--" + piece * 50_000]
    clock = time.process_time()
    with pytest.raises(SystemExit):
        parser_of("train").parse_args(words)
    assert time.process_time() - clock < 2
    assert re.fullmatch(r"error: [^\n]{1,700}\n", capsys.readouterr().err)


@pytest.mark.parametrize("line", ["--hidden 5\x1b[2J", "--\x1b[31mx", "b\nerror: forged", "--hidden 1\x07"])
def test_no_control_character_is_shown(line, capsys):
    with pytest.raises(SystemExit):
        parser_of("train").parse_args(line.split(" "))
    assert re.fullmatch(r"error: [^\x00-\x1f]*\n", capsys.readouterr().err)
