"""A GPT that is trained on a text: its gradient, what it writes, and how it is left and goes on."""

import argparse
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import endure, export, gpt, page, predict, verify
from experiments.common import steps
from experiments.common.arguments import UserError
from experiments.common.text import Text, share
from jaxnn.layers import token_cross_entropy
from jaxnn.objective import cost, value_and_grad
from jaxnn.runs import checkpoints
from jaxnn.training import start, step
from tests.programs import ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
SIZES = ("--layers", "1", "--width", "32", "--heads", "2", "--places", "16", "--batch-size", "16")
SHORT = (*SIZES, "--steps", "130", "--learning-rate", "0.01", "--letters", "150")
RHYME = "every good cook likes fresh green beans today; "


@pytest.fixture(scope="module")
def rhyme(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "rhyme.txt"
    file.write_text(8 * RHYME)
    return file


@pytest.fixture(autouse=True)
def _a_look_now_and_then(monkeypatch):
    monkeypatch.setattr(steps, "EVERY", 50)


@pytest.fixture(scope="module")
def whole(rhyme, tmp_path_factory):
    """A run that nothing happens to, and what it prints."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "EVERY", 50)
        done = ended(gpt, "--text", rhyme, *SHORT, "--out", folder)
    assert done.status == 0, done.err
    return folder, done.out


def test_by_hand_and_by_autodiff_the_losses_are_the_same(x64):
    """In float64; the program itself was run for 200 steps."""
    (net, _), loss, optimizer = gpt.gpt(7, 2, 4, 1), token_cross_entropy(), gpt.adam(0.01, 5)
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 7, (5, 3, 12)))
    state, losses = start(jax.jit(net.init)(jax.random.key(0)), optimizer), []
    for gradient in (value_and_grad(net, loss), jax.value_and_grad(cost(net, loss))):
        descend = step(gradient, optimizer)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as optax needs it
            _, J = jax.jit(
                lambda s, t, f=descend: jax.lax.scan(lambda s, t: f(s, t[:, :-1], t[:, 1:]), s, t)
            )(state, tokens)
        losses.append(np.asarray(J))
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(*losses, atol=1e-12)


def test_what_it_prints_fits_a_terminal(whole, rhyme):
    folder, printed = whole
    for long in (folder, rhyme):
        printed = printed.replace(str(long), long.name)
    assert max(map(len, printed[: printed.index("sample  ")].splitlines())) <= 80
    assert f"{8 * len(RHYME)} characters, {len(set(RHYME))} different ones;" in printed
    assert re.findall(r"^step +(\d+)/130   loss", printed, re.M) == ["50", "100", "130"]


def test_it_is_left_at_every_moment_and_loses_nothing(whole, rhyme, tmp_path):
    out = tmp_path / "left"
    for line, text, status, goes_on in (
        (("--text", rhyme, *SHORT), "device ", 76, None),
        ((), "compiled ", 76, None),
        ((), "step     50/130", 76, None),
        ((), "trained ", 76, "50 steps"),
        ((), "sample ", 76, "130 steps"),
        ((), "saved  ", 0, "130 steps"),
    ):
        done = ended(gpt, *line, "--out", out, on={text: lambda: signal.raise_signal(15)})
        assert done.status == status, done.err
        assert goes_on is None or f"goes on   after {goes_on} ({out}/checkpoints/" in done.out
    assert endure.outcome(out) == endure.outcome(whole[0])


def test_what_a_kill_leaves_goes_on(whole, rhyme, tmp_path):
    out, left = tmp_path / "run", tmp_path / "killed"

    def copied():
        while True:
            try:
                return shutil.copytree(out, left)
            except shutil.Error:  # an older checkpoint has gone meanwhile
                shutil.rmtree(left)

    done = ended(
        *(gpt, "--text", rhyme, *SHORT, "--save-every", "0", "--out", out), on={"step    100/130": copied}
    )
    assert done.status == 0, done.err
    assert checkpoints.numbers(left / "checkpoints")
    assert ended(gpt, "--out", left).status == 0
    assert endure.outcome(left) == endure.outcome(whole[0])


def test_a_run_writes_again(whole):
    folder, printed = whole
    again = ended(gpt, "--sample", folder, "--letters", "150")
    assert again.status == 0, again.err
    assert (
        again.out[again.out.index("sample ") :] == printed[printed.index("sample ") : printed.index("saved")]
    )
    assert ended(verify, folder).status == 0


def test_a_text_that_is_gone_is_written_from_and_not_counted(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    file = tmp_path / "run" / "settings.json"
    file.write_text(file.read_text().replace("rhyme.txt", "gone.txt"))
    done = ended(gpt, "--sample", tmp_path / "run", "--letters", "9")
    assert done.status == 0, done.err
    assert done.out.endswith("words     not counted: the text is gone, or another one now\n")


@pytest.mark.parametrize(
    ("program", "words"), [(predict, ()), (export, ("net.npz", "--to", "npz")), (page, ())], ids=str
)
def test_programs_for_images_say_that_it_is_none_of_theirs(program, words, whole):
    done = ended(program, whole[0], *words)
    assert done.status == 2
    assert re.fullmatch(
        r"error: [^\n]*(experiments.gpt --sample|knows the lecture's alone)[^\n]*\n", done.err
    )


def test_it_writes_what_is_likeliest_after_all_that_it_sees():
    """Near temperature 0; written again here with a forward pass of just the characters that are seen."""
    net, _ = gpt.gpt(len(set(RHYME)), 2, 12, 2)
    params = jax.tree.map(lambda p: 3 * p, jax.jit(net.init)(jax.random.key(1)))
    text = Text("", "", "".join(sorted(set(RHYME))))
    told = argparse.Namespace(places=5, prompt="cook", letters=12, temperature=1e-6, seed=5)
    _, _, found, *_ = gpt.written(told, net, params, text)
    expected, forward = "cook", jax.jit(net.forward)
    for _ in range(12):
        seen = jnp.asarray(text.numbers(expected[-5:]))[None]
        Z, _ = forward(params, seen)
        expected += text.letters[int(jnp.argmax(Z.A[0, -1] @ Z.W.T))]
    assert found == expected
    assert len(set(expected)) > 3


def test_it_learns_a_rhyme_by_heart(whole):
    _, printed = whole
    assert 2 * RHYME in printed
    assert float(re.findall(r"held out ([\d.]+),", printed)[-1]) < 0.2
    assert re.search(r"^words     100.0 % of 2\d with 4 letters or more stand in the text", printed, re.M)


def test_words_are_counted_whole():
    assert (
        share("Zebra zebras zebra", "a zebra, Zebra")
        == "50.0 % of 2 with 4 letters or more stand in the text"
    )
    assert share("a cat", "cat") == "0 with 4 letters or more stand in the text"


WRONG = {
    "empty": (b"", r"got 0 characters, 0 of them different; expected 170 at least"),
    "short": (b"abc", r"got 3 characters, 3 of them different; expected 170 at least"),
    "for fewer places": (b"abcd" * 20, r"got 80 characters, .*; expected 170 .*; write --places 7$"),
    "one letter": (500 * b"a", r"got 500 characters, 1 of them different"),
    "binary": (
        b"\x89PNG\r\n\x1a\n" + bytes(500),
        r"byte 0 is not of UTF-8, expected UTF-8; if it is Latin-1: iconv ",
    ),
    "latin": (200 * b"ab" + b"\xe4" + 99 * b"b", r"byte 400 is not of UTF-8"),
    "zeros": (200 * b"ab" + b"\0" + 99 * b"b", r"character 400 is 0; expected a text"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_is_no_text_is_refused(wrong, tmp_path):
    content, said = WRONG[wrong]
    (tmp_path / "text").write_bytes(content)
    done = ended(gpt, "--text", tmp_path / "text", *SIZES, "--out", tmp_path / "new")
    assert done.status == 2
    assert re.fullmatch(rf"error: --text: \S*text: {said}[^\n]*\n", done.err), done.err
    assert not (tmp_path / "new").exists()


def test_other_bad_arguments_are_answered_in_a_line(rhyme, whole, tmp_path):
    for words, said in (
        (("--text", tmp_path), "cannot be read (Is a directory)"),
        (("--text", tmp_path / "no"), "no: no such file; write --text PATH of a file"),
        (("--text", rhyme, *SIZES, "--heads", "5"), "--heads: got 5 for --width 32, expected width / heads"),
        (
            ("--text", rhyme, *SIZES, "--heads", "32"),
            "--heads: got 32 for --width 32, expected width / heads",
        ),
        (("--text", rhyme, *SIZES, "--prompt", "zoo"), "--prompt: got 'z', which is no letter of "),
        (("--text", rhyme, *SIZES, "--width", "16000", "--layers", "90"), "GB of memory"),
        (("--text", rhyme, *SIZES, "--batch-size", "100000", "--width", "4000"), "GB of memory"),
        (("--sample", whole[0], "--steps", "3"), "--steps: --sample takes the network as it is"),
        (("--sample", tmp_path), "settings.json: no such file"),
        (("--sample", whole[0], "--prompt", "zoo"), "--prompt: got 'z', which is no letter of "),
        (("--out", whole[0]), "holds a finished run"),
    ):
        done = ended(gpt, *words)
        assert done.status == 2, words
        assert re.fullmatch(rf"error: [^\n]*{re.escape(said)}[^\n]*\n", done.err), done.err


def test_another_text_under_the_same_name_is_refused(rhyme, tmp_path):
    file, out = tmp_path / "text.txt", tmp_path / "run"
    shutil.copy(rhyme, file)
    on = {"step     50/130": lambda: signal.raise_signal(15)}
    assert ended(gpt, "--text", file, *SHORT, "--out", out, on=on).status == 76
    file.write_text(file.read_text()[::-1])
    done = ended(gpt, "--out", out)
    assert done.status == 2
    assert re.fullmatch(r"error: --out: the run in \S* has other settings: data [^\n]*\n", done.err), done.err


def test_a_loss_that_is_not_finite_ends_the_run():
    def one_step(state, k):
        return state, np.array([np.nan if k == 53 else 1.0])

    told = argparse.Namespace(steps=130, out=None, learning_rate=0.5)
    looks = {
        "in training": ([(1.0, 0.5), (1.0, 0.5)], "step 54: the loss"),
        "then": ([(np.inf, 0.5)], "after step 50"),
    }
    for found, said in looks.values():
        left = iter(found)
        with pytest.raises(UserError, match=f"^{said}.* is the first that is not finite; a smaller"):
            steps.descended(
                0, steps.Done([], 0, []), one_step, lambda _, left=left: next(left), told, lambda *_: None
            )
