"""What to write in place of what was mistyped: options, names, numbers, and words that belong to none."""

import argparse
import contextlib
import difflib
import re
import shlex
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from experiments.common import synonyms
from experiments.common.numerals import DASHES, NUMBER, SEVERAL, plain_text, repaired

LISTED = 12  # names, at most, of what there is
ONE_OF_MANY = {"--learning-rate": "python -m experiments.sweep --learning-rates"}


class Given(NamedTuple):
    """An option of a command line, the words that follow it, and those that are too many for it."""

    action: argparse.Action
    name: str
    words: list[str]
    surplus: list[str]


def answer(parser: argparse.ArgumentParser, words: Iterable[str]) -> str | None:
    """What is wrong with a command line, and what to write; None if all of it is understood."""
    options = {name: action for action in parser._actions for name in action.option_strings}
    free = [action for action in parser._actions if not action.option_strings]
    if commands := [action for action in free if action.nargs == argparse.PARSER]:
        return of_command(commands[0], [*words], parser)  # each of which has options of its own
    given, strays, words = [], [], [*words]
    if "--" in words:
        at = words.index("--")
        strays, words = words[at + 1 :], words[:at]
    while words:
        word = words.pop(0)
        if not is_option(word):
            strays.append(word)
            continue
        name, equals, value = word.partition("=")
        following = values_at(words)
        if name not in options:
            return unknown(name, [value] * bool(equals) + following, parser)
        several = options[name].nargs in ("+", "*")
        most = 0 if equals or options[name].nargs == 0 else len(following) if several else 1
        mine, surplus = [value] * bool(equals) + following[:most], following[most:]
        del words[: len(following)]
        given.append(Given(options[name], name, mine, surplus))
        strays += surplus
    if {"-h", "--help", "--version"} & {one.name for one in given}:
        return None
    found = filter(None, (misfit(one, parser) for one in given))
    return (
        next(found, None)
        or twice(given)
        or stray(strays, given, free, parser)
        or lacking(strays, free, parser)
    )


def of_command(action: argparse.Action, words: list[str], parser) -> str | None:
    """What to say where the first word is none of the commands of a program."""
    there = [*map(str, action.choices or ())]
    if not words or words[0] in (*there, "-h", "--help", "--version"):
        return None if words else f"got no command; write {parser.prog} {' or '.join(there)}"
    found = near(words[0], there, {})
    said = f"got {words[0][:60]!r}, "
    return said + (
        f"did you mean {found[0]}?" if found else f"expected a command; write {' or '.join(there)}"
    )


def is_option(word: str) -> bool:
    """Whether a word begins as an option does; a negative number does not."""
    return len(word) > 1 and word[0] in DASHES and not re.match(rf"[{DASHES}]({NUMBER}|inf|nan)", word)


def values_at(words: list[str]) -> list[str]:
    """The words before the next option."""
    count = next((k for k, word in enumerate(words) if is_option(word)), len(words))
    return words[:count]


def bare(name: str) -> str:
    """A name in small letters, without what stands between its words.

    >>> bare("--Learning_Rate"), bare("fashion-MNIST"), bare("cuda:0")
    ('learningrate', 'fashionmnist', 'cuda0')
    """
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name).casefold())


def near(name: str, names: Iterable[str], known: dict[str, str]) -> list[str]:
    """Which of these names can be meant, the likeliest first; `known` has their synonyms.

    >>> near("sigmod", ["sigmoid", "tanh"], {}), near("swish", ["silu"], {"silu": "swish"})
    (['sigmoid'], ['silu'])
    """
    there = {bare(one): one for one in names}
    for asked in dict.fromkeys((bare(name), bare(name).rstrip("0123456789"))):
        if asked in there:
            return [there[asked]]
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
    close = close or difflib.get_close_matches(asked, list(there), 1, 0.6)
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
    if len(name) == 1 and name.isascii():
        return [action for option, action in there.items() if option[0] == name.lower()]
    if found := near(name, there, synonyms.OPTIONS):
        return [there[option] for option in found]
    parts = {part for part in re.split(r"[\W_]+", name.casefold()) if len(part) > 2}
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
    return found[0] if found else []


def accepted(action: argparse.Action, words: Iterable[str]) -> bool:
    """Whether an option takes these words as they are."""
    with contextlib.suppress(argparse.ArgumentTypeError, ValueError, TypeError):
        values = [action.type(word) if callable(action.type) else word for word in words]
        return all(action.choices is None or value in action.choices for value in values)
    return False


def split(words: list[str]) -> list[str]:
    """The names in words with commas between them."""
    return [part for part in re.split(r"[,;\s]+", " ".join(words).strip("[](){}'\"")) if part]


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


def unknown(name: str, values: list[str], parser: argparse.ArgumentParser) -> str:
    """What to say of an option that there is not."""
    said = f"{name!r}"[1:-1][:40] + ": no such option"
    plain = name.lstrip(DASHES)
    if plain in ("help", "h", "?"):
        return f"{said}, did you mean --help?"
    if not values and (joined := re.fullmatch(rf"(\D+?)[:_-]?({NUMBER})", plain)):
        plain, values = joined[1], [joined[2]]
    if ":" in plain:
        plain, _, value = plain.partition(":")
        values = [value, *values]
    plain, values = plain.strip(), [value.strip() for value in values]
    numbers = [value for value in values if re.fullmatch(NUMBER, plain_text(value))]
    found = option_named(plain, parser)
    found = [one for one in found if numbers and hasattr(one.type, "expected")] or found
    fits = option_exactly(plain, parser) or numbers or (found and values and fitting(found[0], values))
    if not fits and (offered := holders(re.sub("^use[-_]?", "", plain), parser)):
        return f"{said}, did you mean {offered[0]}?"
    if found:
        return f"{said}, did you mean {' or '.join(written(one, values) for one in found)}?{told(found[0])}"
    if free := [str(a.metavar or a.dest) for a in parser._actions if not a.option_strings]:
        return f"{said}; {', '.join(free)} stands alone: write {parser.prog} {' '.join(values or free)}"
    there = [action.option_strings[-1] for action in parser._actions if action.option_strings]
    return f"{said}; expected one of {', '.join(there)}"


def is_synonym(word: str) -> bool:
    """Whether some option is called so elsewhere."""
    return any(word in words.split() for words in synonyms.OPTIONS.values())


def option_exactly(name: str, parser: argparse.ArgumentParser) -> bool:
    """Whether an option has that name, but for dashes and large letters."""
    return any(bare(o) == bare(name) for action in parser._actions for o in action.option_strings)


def misfit(one: Given, parser: argparse.ArgumentParser) -> str | None:
    """What is wrong with the words after an option."""
    action, name, words, surplus = one
    if action.nargs == 0:
        if words:
            return f"{name}: got {words[0]!r}, but takes no value; write {name}"
        return None
    if not words:
        what = getattr(action.type, "expected", None)
        what = what or (f"one of {enumerated(action.choices)}" if action.choices else example(action))
        return f"{name}: got nothing after it, expected {what}; write {name} {example(action)}"
    if accepted(action, words):
        return None
    if action.choices:
        return of_names(action, name, words, parser)
    if expected := getattr(action.type, "expected", None):
        return of_numbers(action, name, words + surplus, expected, parser)
    for word in words:
        try:
            action.type(word)  # pyright: ignore[reportCallIssue, reportOptionalCall]
        except argparse.ArgumentTypeError as error:
            return f"{name}: {error}"
        except (ValueError, TypeError):
            return f"{name}: got {word[:40]!r}, expected {example(action)}"
    return None


def of_names(action: argparse.Action, name: str, words: list[str], parser) -> str:
    """What to say where a name is none of those that an option offers."""
    there = [*map(str, action.choices or ())]
    wrong = next(word for word in words if word not in there)
    if len(words) > 1 or split(words) != words:
        parts = words if all(holds(word, there) for word in words) else split(words)
        mended = [near(word, there, synonyms.NAMES)[:1] for word in parts]
        if action.nargs in ("+", "*") and all(mended) and mended:
            instead = " ".join(dict.fromkeys(one for (one,) in mended))
            return f"{name}: got {' '.join(words)[:80]!r}, write {name} {instead}"
    said = f"{name}: got {wrong[:40]!r}, "
    if elsewhere := [one for one in holders(wrong, parser) if not one.startswith(f"{name} ")]:
        return f"{said}did you mean {elsewhere[0]}? ({name} is one of {enumerated(there)})"
    if found := near(wrong, there, synonyms.NAMES):
        return f"{said}did you mean {' or '.join(found)}? (one of {enumerated(there)})"
    own = "; for one of your own write --data PATH" if "--data" in parser._option_string_actions else ""
    return f"{said}expected one of {enumerated(there)}{own * (action.dest == 'dataset')}"


def holds(word: str, names: list[str]) -> bool:
    """Whether a word is one of these names, but for large letters and what stands between its parts."""
    return any(bare(word) in (bare(one), *synonyms.NAMES.get(one, "").split()) for one in names)


def of_numbers(action: argparse.Action, name: str, words: list[str], expected: str, parser) -> str:
    """What to say where something is no number that an option takes."""
    several = action.nargs in ("+", "*")
    words = [word for word in words if word != "="] or words
    mine = words if several else words[:1]
    if accepted(action, mine):
        return f"{name}: got '=' with spaces; write {name} {' '.join(mine)}"
    wrong = next(word for word in mine if not accepted(action, [word]))
    got = " ".join(mine) if several and len(mine) < 9 else wrong
    said = f"{name}: got {got[:60]!r}, expected {expected}"
    one_each, many = one_by_one(action, mine), lists(action, mine)
    if several and (found := [*many, *(each for each in one_each if each not in many)]):
        said += ", with spaces between them" * bool(many)
        return f"{said}; write {' or '.join(' '.join([name, *each]) for each in found[:2])}"
    if many and len(numbers := many[0]) > 1:
        more = f"; several: {ONE_OF_MANY[name]} {' '.join(numbers)}" if name in ONE_OF_MANY else ""
        fractions = " or ".join(f"{name} {each[0]}" for each in one_each[:1])
        return f"{said}, one alone; write {fractions or f'{name} {numbers[0]}'}{more or told(action)}"
    if one_each:
        return f"{said}; did you mean {name} {one_each[0][0]}?"
    if elsewhere := holders(wrong, parser):
        return f"{said}; did you mean {elsewhere[0]}?"
    return f"{said}; write {name} {example(action)}, for example"


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


def twice(given: list[Given]) -> str | None:
    """What to say where an option stands there twice, with other words."""
    first: dict[str, Given] = {}
    for one in given:
        before = first.setdefault(one.action.dest, one)
        if before.words != one.words:
            words = [*before.words, *one.words]
            if one.action.nargs in ("+", "*"):
                return f"{one.name}: given twice; write {one.name} {' '.join(words)}"
            both = " and ".join(words)
            return f"{one.name}: given twice, {both}, expected it once; write {one.name} {words[-1]}"
    return None


def lacking(words: list[str], free: list[argparse.Action], parser) -> str | None:
    """What to say where a word that a program needs is not there."""
    needed = [action for action in free if action.nargs is None][len(words) :]
    if not needed:
        return None
    names = " ".join(str(action.metavar or action.dest) for action in needed)
    return f"got no {names}{told(needed[0])}; write {parser.prog} {' '.join([*words, names])}"


def stray(words: list[str], given: list[Given], free: list[argparse.Action], parser) -> str | None:
    """What to say of words that belong to no option; None if the program takes them."""
    many = any(action.nargs in ("*", "+") for action in free)
    if not words or many or len(words) <= len(free):
        return None
    word, *more = words if not free else words[len(free) :]
    said = f"got {word[:60]!r}, which belongs to no option"
    after = next((one for one in given if word in one.surplus), None)
    name, equals, value = word.partition("=")
    values = [value] if equals else more
    if after and bare(word).rstrip("s") == bare(after.name).rstrip("s"):
        return f"{said}; write {after.name} {' '.join(after.words)}"
    if re.fullmatch("[-/]?(help|[?])", word):
        return f"{said}; write --help"
    if bare(name) and (option_exactly(name, parser) or is_synonym(bare(name))):
        found = option_named(name, parser)
        if not equals and not more and given and not given[0].action.option_strings:
            values = []
        if found:
            return f"{said}; did you mean {written(found[0], values)}?{told(found[0])}"
    if after:
        return surplus(after)
    if free:
        taken = ", ".join(str(action.metavar or action.dest) for action in free)
        before = " ".join(words[: len(free)])
        return f"got {word[:60]!r} after {taken}, expected nothing; write {parser.prog} {before[:60]}"
    return f"{said}; {elsewhere(word, words, parser)}"


def surplus(one: Given) -> str:
    """What to say of more words after an option than it takes."""
    words = [*one.words, *one.surplus]
    got = f"{one.name}: got {' '.join(words)[:60]!r}"
    if one.action.nargs == 0:
        return f"{got}, but takes no value; write {one.name}"
    if one.action.nargs in ("+", "*"):
        return f"{got}; write {one.name} {' '.join(words)}"
    more = f"; several: {ONE_OF_MANY[one.name]} {' '.join(words)}" if one.name in ONE_OF_MANY else ""
    return f"{got}, but takes one value; write {one.name} {one.words[0]}{more}"


def elsewhere(word: str, words: list[str], parser: argparse.ArgumentParser) -> str:
    """With which option a word can be meant that stands alone."""
    options = {name: action for action in parser._actions for name in action.option_strings}
    if found := holders(word, parser):
        return f"did you mean {found[0]}?"
    if re.fullmatch(NUMBER, plain_text(word)) or SEVERAL.fullmatch(plain_text(word)):
        named = [n for n, action in options.items() if hasattr(action.type, "expected")]
        return f"a number stands after its option: one of {enumerated(named)}"
    if "/" in word or "\\" in word or re.search(r"\.\w{1,5}$", word):
        name = "--data" if "--data" in options and re.search(r"\.(csv|npz|tsv|txt)$", word) else "--out"
        if name in options:
            return f"did you mean {name} {shlex.quote(word)}?"
    if found := holders(word, parser, exactly=False):
        return f"did you mean {found[0]}?"
    if found := option_named(word, parser):
        return f"did you mean {written(found[0], words[1:2])}?"
    return f"expected one of {', '.join(name for name in options if name.startswith('--'))}"
