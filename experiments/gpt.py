"""Train a small GPT on a text, character by character, and let it write.

Without --text it learns the manual of the language that every Python ships, pydoc_data.topics. The loss on
its last tenth, which is held out, is then 1.2255 a character, and 95.6 % of the longer words that it writes
stand in the text (seed 0, Python 3.13, jax 0.12). That takes 4 minutes on 2 idle cores.

A block is that of Radford et al., "Language models are unsupervised multitask learners", 2019, section 2.3,
with positions that turn (Su et al., "RoFormer", 2021) and one table at both ends (Press and Wolf, "Using the
output embedding to improve language models", 2017). The backward of each layer is written by hand: neither
the T × T weights of attention nor the logits are ever formed.
"""

import argparse
import math
import textwrap
import time
from typing import Any

from experiments.common import text as texts
from experiments.common.arguments import (
    Parser,
    UserError,
    add_surroundings,
    path,
    rate,
    run,
    run_folder,
    use_device,
    whole,
)
from experiments.common.continuation import add_checkpoints, describe, reopened
from experiments.common.status import doing
from jaxnn.shown import shown

GONE = "not counted: the text is gone, or another one now"
LOOKED = 512  # pieces of what is held out, at most
OPTIONS = (
    ("--layers", whole(1, 100), 4, "blocks"),
    ("--width", whole(2, 16384), 128, "numbers for each character"),
    ("--heads", whole(1, 1024), 4, "of attention; they divide the width, into even parts"),
    ("--places", whole(1, 65536), 128, "characters that are seen at once"),
    ("--batch-size", whole(1, 100_000), 16, "pieces of text in a step"),
    ("--steps", whole(1, 10_000_000), 1500, "of adam"),
    ("--learning-rate", rate, 0.002, "at its highest: it rises for a tenth of the steps, and falls to 0"),
    ("--seed", whole(0, 2**32 - 1), 0, "of weights, pieces of text, and what is written"),
    ("--letters", whole(0, 1_000_000), 1500, "to write at the end"),
    ("--temperature", rate, 0.7, "of writing: below 1 what is likely becomes likelier"),
)


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.gpt", description=__doc__)
    p.add_argument(
        "--text", type=lambda text: str(path(text)), metavar="FILE", help=f"default: {texts.PYTHONS}"
    )
    for name, type, default, said in OPTIONS:
        p.add_argument(name, type=type, default=default, help=f"{said}; default: %(default)s")
    p.add_argument("--prompt", metavar="TEXT", help="what it goes on from; default: the end of a line")
    p.add_argument(
        "--gradient",
        choices=("manual", "autodiff"),
        default="manual",
        help="written by hand, or by jax.grad; default: %(default)s",
    )
    p.add_argument(
        "--sample", type=run_folder, metavar="RUN", help="train nothing: let the network of this run write"
    )
    add_surroundings(p)
    add_checkpoints(p, "settings, metrics and parameters")
    return p


def main(arguments: argparse.Namespace) -> int:
    """Train it, or read a run, and let it write."""
    others = arguments.given - {"sample", "letters", "temperature", "prompt", "seed", "device"}
    if arguments.sample and others:
        option = min(others).replace("_", "-")
        raise UserError(f"--{option}: --sample takes the network as it is; expected one of the two")
    device = use_device(arguments.device)
    return sample(arguments) if arguments.sample else train(arguments, device)


def gpt(V: int, layers: int, width: int, heads: int):
    """The network, from numbers of characters to logits; and what of it is between the two ends."""
    from jaxnn.activations import gelu
    from jaxnn.layers import attention, dense, layer_norm, recomputed, repeated, residual, serial, tied

    if width % heads or width // heads % 2:
        raise UserError(f"--heads: got {heads} for --width {width}, expected width / heads whole and even")
    looks = serial(layer_norm(width), attention(width, heads))
    thinks = serial(layer_norm(width), dense(width, 4 * width, gelu), dense(4 * width, width))
    block = serial(residual(looks), residual(recomputed(thinks)))  # whose wide Z costs one product again
    body = serial(repeated(block, layers), layer_norm(width))
    return tied(V, width, body), body


def train(arguments: argparse.Namespace, device) -> int:
    """Train, and report."""
    import jax
    import jax.numpy as jnp

    from experiments.common import steps
    from jaxnn.layers import token_cross_entropy
    from jaxnn.objective import cost, value_and_grad
    from jaxnn.runs import record
    from jaxnn.training import start, step

    arguments, lock, checkpoint = reopened(arguments, parser(), "params.safetensors")
    T, B = arguments.places, arguments.batch_size
    text = texts.read(arguments.text, least=10 * (T + 1))
    text.numbers(arguments.prompt or "")
    tokens, V = text.numbers(text.whole), len(text.letters)
    learned, held_out = tokens[: -len(tokens) // 10], tokens[-len(tokens) // 10 :]

    net, body = gpt(V, arguments.layers, arguments.width, arguments.heads)
    loss = token_cross_entropy()
    by_hand, autodiff = value_and_grad(net, loss), jax.value_and_grad(cost(net, loss))
    gradient = by_hand if arguments.gradient == "manual" else autodiff
    optimizer = adam(arguments.learning_rate, arguments.steps)
    descend = step(gradient, optimizer)
    init_key, batch_key = jax.random.split(jax.random.key(arguments.seed))

    def begin():
        return start(net.init(init_key), optimizer)

    def one_step(state, k, learned):
        first = jax.random.randint(jax.random.fold_in(batch_key, k), (B, 1), 0, len(learned) - T)
        pieces = learned[first + jnp.arange(T + 1)[None]]
        state, J = descend(state, pieces[:, :-1], pieces[:, 1:])  # Y: the character after each of X
        return state, J[None]

    check_room(arguments, body, jax.eval_shape(begin), device)
    settings = describe(arguments, (V, arguments.width, V), device) | {
        "network": "experiments/gpt.py:gpt",
        "activation": "gelu",
        "dataset": None,
        "data": str(text),
        "characters": text.letters,
    }
    pause, state, done = steps.resumed(arguments, settings, begin, lock, checkpoint)
    print_head(arguments, text, net, state, pause.settings)
    clock = time.perf_counter()
    doing("compiling")
    learned, pieces = jax.device_put((learned, texts.pieces(held_out, T, LOOKED)))
    one_step = jax.jit(one_step).lower(state, jnp.int32(0), learned).compile()
    look = jax.jit(looking(net, loss)).lower(state.params, pieces).compile()
    print(f"compiled  in {time.perf_counter() - clock:.2f} s")
    if checkpoint:
        print(f"goes on   after {done.step} steps ({shown(checkpoint.folder)})")
    with pause:  # signals wait from now on
        state, done = steps.descended(
            *(state, done, lambda state, k: one_step(state, k, learned)),
            *(lambda state: look(state.params, pieces), arguments, pause),
        )
        pause.save(state, done)
        print(f"trained   in {pause.seconds():.2f} s")
        pause.leave_at_once()
        print(*written(arguments, net, state.params, text), sep="\n")
        if arguments.out:
            record.write_metrics(arguments.out, done.metrics)
            pause.finish()
            record.save_params(arguments.out / "params.safetensors", state.params)
            print(f"saved     in {shown(arguments.out)}")
    return 0


def adam(highest: float, steps: int):
    """Adam, with gradients of norm 1 at most; its rate rises for a tenth of the steps, and falls to 0."""
    import optax

    rise = min(math.ceil(steps / 10), steps - 1)
    rate = optax.schedules.warmup_cosine_decay_schedule(highest / 100, highest, rise, steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))


def looking(net, loss):
    """A look at what is held out: (params, pieces) -> its loss, and the share of it that is foretold."""
    import jax
    import jax.numpy as jnp

    def of_piece(params, piece):
        X, Y = piece[None, :-1], piece[None, 1:]
        Z, _ = net.forward(params, X)
        return loss.forward(Z, Y), jnp.mean(jnp.argmax(Z.A @ Z.W.T, axis=-1) == Y)

    def look(params, pieces):
        found = jax.lax.map(lambda piece: of_piece(params, piece), pieces, batch_size=16)
        return [jnp.mean(each) for each in found]

    return look


def check_room(arguments: argparse.Namespace, body, state, device) -> None:
    """Raise UserError, before an array is made, where the memory is not enough."""
    import jax
    import jax.numpy as jnp

    from experiments.common import memory
    from jaxnn.shapes import shapes

    B, T, n = arguments.batch_size, arguments.places, arguments.width
    kept = shapes(body, jax.ShapeDtypeStruct((B, T, n), jnp.result_type(float))).kept
    what = f"--width {n} with {arguments.layers} layers, and {B} times {T} characters,"
    memory.check(what, memory.needed(state, (), 0) + kept, 0.9 * memory.free(device))


def print_head(arguments: argparse.Namespace, text: texts.Text, net, state, settings: dict) -> None:
    """Print where, what and how is trained."""
    import jax

    B, T, n = arguments.batch_size, arguments.places, len(text.whole)
    parameters = sum(p.size for p in jax.tree.leaves(state.params))
    print(f"device    {settings['device']}")
    print(f"text      {shown(text.name)}: {n:,} characters, {len(text.letters)} different ones;")
    print("          the last tenth is held out")
    print(f"          X ({B}, {T}) is a batch of pieces of it")
    print(f"          Y ({B}, {T}) is the character after each of X")
    times = arguments.steps * B * T / (0.9 * n)
    said = f"{net}; {parameters:,} parameters"
    print(textwrap.fill(said, 80, initial_indent="network   ", subsequent_indent=10 * " "))
    print(
        f"training  cross-entropy by adam, learning rate up to {arguments.learning_rate:g},\n"
        f"          {arguments.steps:,} steps, {times:.1f} times through what is learned,\n"
        f"          seed {arguments.seed}, {arguments.gradient} gradient"
    )
    for name, value in settings["environment"].items():
        print(f"set       {name}={shown(value)}")


def writing(net, T: int, count: int, temperature: float):
    """One character after the other: (params, tokens, n, key) -> count more after the n first of T tokens."""
    import jax
    import jax.numpy as jnp

    def write(params, tokens, n, key):
        def one_more(carry, key):
            tokens, n = carry
            Z, _ = net.forward(params, tokens[None])
            token = jax.random.categorical(key, Z.A[0, n - 1] @ Z.W.T / temperature)
            tokens = jnp.where(n == T, jnp.roll(tokens, -1), tokens)  # the first one falls out of sight
            n = jnp.minimum(n + 1, T)
            return (tokens.at[n - 1].set(token), n), token

        return jax.lax.scan(one_more, (tokens, n), jax.random.split(key, count))[1]

    return write


def written(arguments: argparse.Namespace, net, params, text: texts.Text) -> list[str]:
    """What the network writes, in lines, and how many of its words stand in the text, if that is at hand."""
    import jax
    import numpy as np

    if not arguments.letters:
        return ["sample    none: --letters 0"]
    doing("writing")
    T, prompt = arguments.places, arguments.prompt or ("\n" if "\n" in text.letters else text.letters[0])
    begin = text.numbers(prompt)[-T:]
    write = jax.jit(writing(net, T, arguments.letters, arguments.temperature))
    tokens, key = np.pad(begin, (0, T - len(begin))), jax.random.key(arguments.seed)
    sample = prompt + "".join(text.letters[k] for k in np.asarray(write(params, tokens, len(begin), key)))
    counted = texts.share(sample, text.whole) if text.whole else GONE
    said = f"sample    {arguments.letters:,} characters, at temperature {arguments.temperature:g}"
    return [said, "", *map(shown, sample.split("\n")), "", f"words     {counted}"]


def sample(arguments: argparse.Namespace) -> int:
    """Let the network of a run write."""
    import jax

    from jaxnn.datasets import DatasetError
    from jaxnn.runs import fields, record

    where = arguments.sample
    settings = record.load_settings(where)
    sizes: dict[str, Any] = {name: settings.get(name) for name in ("layers", "width", "heads", "places")}
    letters, file = settings.get("characters"), settings.get("text")
    good = all(fields.is_whole(size, 1, 65536) for size in sizes.values()) and isinstance(file, str | None)
    if not (good and letters and isinstance(letters, str)):
        raise UserError(f"{where}: not a run of this program; expected the folder that its --out named")
    net, _ = gpt(len(letters), sizes["layers"], sizes["width"], sizes["heads"])
    template = jax.eval_shape(net.init, jax.random.key(0))
    params = record.load_like(where / "params.safetensors", template)
    text = texts.Text(file or texts.PYTHONS, "", letters)
    try:
        there = texts.read(file, least=1)
    except (UserError, DatasetError):
        there = text
    text = there if str(there) == settings["data"] else text
    print(f"run       {shown(where)}: {shown(text.name)}")
    print(*written(argparse.Namespace(**vars(arguments) | sizes), net, params, text), sep="\n")
    return 0


if __name__ == "__main__":
    run(main, parser())
