"""What can be meant by a name that is none, and by words after an option that does not take them."""

import argparse
import contextlib
import difflib
import itertools
import re
import shlex
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.common import synonyms
from experiments.common.numerals import LONGEST, NUMBER, SEVERAL, plain_text, repaired

LISTED = 12  # names, at most, of what there is


def bare(name: str) -> str:
    """A name in small letters, without what stands between its words.

    >>> bare("--Learning_Rate"), bare("fashion-MNIST"), bare("cuda:0")
    ('learningrate', 'fashionmnist', 'cuda0')
    """
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name[:LONGEST]).casefold())


def near(name: str, names: Iterable[str], known: dict[str, str]) -> list[str]:
    """Which of these names can be meant, the likeliest first; `known` has their synonyms.

    >>> near("sigmod", ["sigmoid", "tanh"], {}), near("swish", ["silu"], {"silu": "swish"})
    (['sigmoid'], ['silu'])
    """
    there = {bare(one): one for one in names}
    for asked in dict.fromkeys((bare(name), bare(name).rstrip("0123456789"))):
        if found := [there[one] for one in (asked, f"{asked}s", asked[:-1]) if one in there]:
            return found[:1]
        if meant := [one for one in known if asked in known[one].split() and one in there.values()]:
            return meant[:1]
    asked = bare(name)
    if len(asked) > 1 and (begun := [one for key, one in there.items() if key.startswith(asked)]):
        return begun[:3]
    also = {word: one for one in known if one in there.values() for word in known[one].split()}
    keys = [*there, *difflib.get_close_matches(asked, [word for word in also if len(word) > 3], 3, 0.84)]
    close = alike(asked, keys)
    if not close and len(asked) > 3:
        close = [key for key in there if asked in key or (len(key) > 3 and key in asked)][:3]
    close = close or difflib.get_close_matches(asked, list(there), 1, 0.65)
    return list(dict.fromkeys(there.get(key) or also[key] for key in close))


def alike(asked: str, names: list[str]) -> list[str]:
    """The names that are most like the one asked for, if any is like it."""
    ratios = {name: difflib.SequenceMatcher(None, name, asked).ratio() for name in names}
    best = max(ratios.values(), default=0.0)
    return sorted((n for n in names if ratios[n] >= max(0.7, best - 0.05)), key=lambda n: -ratios[n])[:3]


def enumerated(names: Iterable[Any]) -> str:
    """So many names as are read at a glance."""
    shown = [*map(str, names)]
    return ", ".join(shown[:LISTED]) + ", ..." * (len(shown) > LISTED)


def option_named(name: str, parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The options that can be meant by a name."""
    there = {
        string.removeprefix("--"): action
        for action in parser._actions
        for string in action.option_strings
        if string.startswith("--")
    }
    if len(name) == 1 and (begun := [action for option, action in there.items() if option[0] == name]):
        return begun
    if found := near(name, there, synonyms.OPTIONS):
        return [there[option] for option in found]
    parts = {part for part in re.split(r"[\W_]+", name[:LONGEST].casefold()) if len(part) > 2} - {
        "size",
        "dir",
        "every",
    }
    shared = {option: len(parts & set(option.split("-"))) for option in there}
    best = max(shared.values(), default=0)
    return [there[option] for option, count in shared.items() if count == best > 0][:3]


def holders(word: str, parser: argparse.ArgumentParser, exactly: bool = True) -> list[str]:
    """The options that offer a name, with it: --dataset mnist."""
    asked, found = bare(word).rstrip("0123456789"), []
    for action in parser._actions:
        if action.choices and action.option_strings:
            there = [*map(str, action.choices)]
            if exactly:
                names = [one for one in there if bare(one) in (asked, bare(word))]
                names += [one for one in there if asked in synonyms.NAMES.get(one, "").split()]
            else:
                names = difflib.get_close_matches(asked, there, 1, 0.75)
            found += [f"{action.option_strings[-1]} {name}" for name in names[:1]]
    return found


def written(action: argparse.Action, words: list[str]) -> str:
    """An option as it is to be written, with these words if it takes them, or with what it takes."""
    name = action.option_strings[-1]
    if action.nargs == 0:
        return name
    if words and (mended := fitting(action, words)):
        return f"{name} {' '.join(map(shlex.quote, mended))}"
    if action.choices and words:
        return f"{name} with one of {enumerated(action.choices)}"
    return f"{name} {example(action)}"


def fitting(action: argparse.Action, words: list[str]) -> list[str]:
    """The words, mended where that is needed, if an option takes them; else none."""
    if action.nargs not in ("+", "*") and len(words) > 1:
        words = words[:1]
    if accepted(action, words):
        return words
    if action.choices:
        found = [near(word, map(str, action.choices), synonyms.NAMES)[:1] for word in split(words)]
        return [one for (one,) in found] if all(found) else []
    found = [*lists(action, words), *one_by_one(action, words)]
    if action.nargs not in ("+", "*"):
        found = one_by_one(action, words)
    return found[0] if found else []


def accepted(action: argparse.Action, words: Iterable[str]) -> bool:
    """Whether an option takes these words as they are."""
    with contextlib.suppress(argparse.ArgumentTypeError, ValueError, TypeError):
        values = [action.type(word) if callable(action.type) else word for word in words]
        return all(action.choices is None or value in action.choices for value in values)
    return False


def split(words: list[str]) -> list[str]:
    """The names in words with commas between them."""
    return [part for part in re.split(r"[,;\s]+", " ".join(words)[:LONGEST].strip("[](){}'\"")) if part]


def example(action: argparse.Action) -> str:
    """What an option takes, to be written after it."""
    if action.choices:
        return str(next(iter(action.choices)))
    if shown := getattr(action.type, "example", None):
        default = action.default[0] if isinstance(action.default, list | tuple) else action.default
        return f"{default:g}" if isinstance(default, int | float) else shown
    return str(action.metavar or action.dest.upper())


def told(action: argparse.Action) -> str:
    """What an option is for, in brackets."""
    help = (action.help or "") % {**vars(action), "prog": ""}
    help = help.split(";")[0]
    return f" ({help})" if help and not help.startswith("default") and len(help) < 70 else ""


def meant(plain: str, values: list[str], numbers: list[str], parser) -> list[argparse.Action]:
    """The options that can be meant by a name with these values: those that take them, if some do."""
    found = option_named(plain, parser)
    found = [one for one in found if numbers and hasattr(one.type, "expected")] or found
    return [one for one in found if values and one.nargs != 0 and accepted(one, values)] or found


def held(values: list[str], parser) -> list[str]:
    """The options that are called as the first value, or offer it."""
    if not values or not values[0]:
        return []
    flags = [action.option_strings[-1] for action in parser._actions if action.nargs == 0]
    return [flag for flag in flags if bare(flag) == bare(values[0])] + holders(values[0], parser)


def is_synonym(word: str) -> bool:
    """Whether some option is called so elsewhere."""
    return any(word in words.split() for words in synonyms.OPTIONS.values())


def option_exactly(name: str, parser: argparse.ArgumentParser) -> bool:
    """Whether an option has that name, but for dashes and large letters."""
    return any(bare(o) == bare(name) for action in parser._actions for o in action.option_strings)


def holds(word: str, names: list[str]) -> bool:
    """Whether a word is one of these names, but for large letters and what stands between its parts."""
    return any(bare(word) in (bare(one), *synonyms.NAMES.get(one, "").split()) for one in names)


def lists(action: argparse.Action, words: list[str]) -> list[list[str]]:
    """The numbers that stand in words with commas, dashes or brackets, if each can be taken."""
    text = plain_text(" ".join(words))
    if not SEVERAL.fullmatch(text):
        return []
    found = re.findall(NUMBER, text)
    return [found] if all(accepted(action, [one]) for one in found) else []


def one_by_one(action: argparse.Action, words: list[str]) -> list[list[str]]:
    """Each word as a number, mended, if that can be done with all."""
    found = [
        next((mended for mended in repaired(word, action.type) if accepted(action, [mended])), None)
        for word in words
    ]
    return [found] if all(one is not None for one in found) else []  # pyright: ignore[reportReturnType]


def offered(name: str, parser: argparse.ArgumentParser) -> bool:
    """Whether some option offers this name."""
    return any(bare(name) == bare(str(one)) for action in parser._actions for one in action.choices or ())


def taker(word: str, parser: argparse.ArgumentParser) -> str | None:
    """The option that a file or folder can be meant for, by how its name ends."""
    end = re.search(r"\.(\w{1,11})$", word)
    there = parser._option_string_actions
    if end and (
        found := [o for o, ends in synonyms.ENDINGS.items() if o in there and end[1].lower() in ends.split()]
    ):
        return found[0]
    fits = "--out" in there and accepted(there["--out"], [word])
    return "--out" if fits and (end or "/" in word or "\\" in word) else None


def files_near(path: Path, ending: str = "") -> list[Path]:
    """The files and folders beside a path, which is none, that can be meant by it."""
    there: dict[str, Path] = {}
    with contextlib.suppress(OSError):
        beside = itertools.islice(path.parent.iterdir(), 1000)
        there = {one.name: one for one in beside if one.name.isprintable() and one.name.endswith(ending)}
    name = re.split(r"[\\/]", path.name)[-1]  # of another system's path
    exact = [there[one] for one in there if bare(one) == bare(name)]
    exact = exact or [there[one] for one in there if bare(Path(one).stem) == bare(name)]
    return exact or [there[name] for name in difflib.get_close_matches(path.name[:LONGEST], there, 1, 0.8)]


def in_places(words: list[str], free: list[argparse.Action]) -> list[str | None]:
    """As many of the words as have a place, each in the one that takes it, if that can be; None for none."""

    def fitting(order: Iterable[str | None]) -> int:
        return sum(word is not None and accepted(one, [word]) for one, word in zip(free, order, strict=True))

    padded = [*words[: max(4, len(free))], *[None] * (len(free) - len(words))]
    return [*max(itertools.permutations(padded, len(free)), key=fitting)]


def command(words: list[str], given: Iterable[Any], parser: argparse.ArgumentParser) -> str:
    """The whole command with these words and options, and what it needs beside them."""
    free = [action for action in parser._actions if not action.option_strings and action.nargs is None]
    placed = in_places(words, free)
    named = [
        str(one.metavar or one.dest) if word is None else shlex.quote(word)
        for one, word in zip(free, placed, strict=True)
    ]
    options = [word for one in given for word in (one.name, *map(shlex.quote, one.words))]
    passes_on = any(action.nargs == argparse.REMAINDER for action in parser._actions)  # what follows a word
    said = [*options, *named] if passes_on else [*named, *options]
    there = {one.action.dest for one in given}
    for action in parser._actions:
        if action.option_strings and action.required and action.dest not in there:
            endings = (word.rpartition(".")[2] for word in words if "." in word)
            near_it = [
                name for end in endings for name in near(end, map(str, action.choices or ()), synonyms.NAMES)
            ]
            said += [action.option_strings[-1], *(near_it[:1] or [example(action)])]
    for word in words:
        if word not in placed and (option := taker(word, parser)):
            said += [option, shlex.quote(word)]
    return " ".join([parser.prog.replace(" [options]", ""), *said])[:400]


def runs_near(folder: Path) -> list[str]:
    """The folders of runs that can be meant by a path, which is none: around it, or else beside it."""

    def runs(place: Path) -> dict[str, str]:
        with contextlib.suppress(OSError):
            inside = (path.parent for path in itertools.islice(place.glob("*/settings.json"), 200))
            return {path.name: str(path) for path in inside if str(path).isprintable()}
        return {}

    around = [place for place in folder.parents if (place / "settings.json").is_file()]
    inside = runs(folder)
    if around or inside:
        return [str(place) for place in around[:1]] or sorted(inside.values())[:3]
    there = runs(Path("runs")) | runs(folder.parent)
    return [there[name] for name in near(folder.name, there, {})]
