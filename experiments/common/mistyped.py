"""What to write in place of what was mistyped: options, names, numbers, and words that belong to none."""

import argparse
import os
import re
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from experiments.common import synonyms
from experiments.common.numerals import DASHES, LONGEST, NUMBER, SEVERAL, plain_text
from experiments.common.suggestions import (
    accepted,
    bare,
    command,
    enumerated,
    example,
    fitting,
    held,
    holders,
    holds,
    in_places,
    is_synonym,
    lists,
    meant,
    near,
    offered,
    one_by_one,
    option_exactly,
    option_named,
    split,
    taker,
    told,
    written,
)

ONE_OF_MANY = {"--learning-rate": "python -m experiments.sweep --learning-rates"}
DEFAULTS = {"none", "null", "default", "auto", "automatic", "any", "all", "random"}  # no number, for people


class Given(NamedTuple):
    """An option of a command line, the words that follow it, and those that are too many for it."""

    action: argparse.Action
    name: str
    words: list[str]
    surplus: list[str]


class Line(NamedTuple):
    """A command line: its options, the words that stand alone, and options that there are not."""

    given: list[Given]
    strays: list[str]
    unknown: list[tuple[str, list[str]]]


def answer(parser: argparse.ArgumentParser, words: Iterable[str]) -> str | None:
    """What is wrong with a command line, and what to write; None if all of it is understood."""
    options = {name: action for action in parser._actions for name in action.option_strings}
    free = [action for action in parser._actions if not action.option_strings]
    if commands := [action for action in free if action.nargs == argparse.PARSER]:
        return of_command(commands[0], [*words], parser)  # each of which has options of its own
    words = [*words]
    if any(action.nargs == argparse.REMAINDER for action in free):  # the rest is another program's
        alone = (
            k
            for k, word in enumerate(words)
            if not is_option(word) and (k == 0 or words[k - 1] not in options)
        )
        words = words[: next(alone, len(words)) + 1]
    line = read(words, options)
    if line.unknown:
        return unknown(*line.unknown[0], line, parser)
    if {"-h", "--help", "--version"} & {one.name for one in line.given if not one.words}:
        return None
    found = filter(None, (misfit(one, parser) for one in line.given))
    return (
        next(found, None)
        or twice(line.given)
        or stray(line, free, parser)
        or lacking(line, free, parser)
        or misplaced(line, free, parser)
    )


def read(words: list[str], options: dict[str, argparse.Action]) -> Line:
    """The words of a command line as options and what follows them."""
    given, strays, unknown = [], [], []
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
            unknown.append((name, [value] * bool(equals) + following))
            del words[: len(following)]
            continue
        several = options[name].nargs in ("+", "*")
        most = 0 if equals or options[name].nargs == 0 else len(following) if several else 1
        mine, surplus = [value] * bool(equals) + following[:most], following[most:]
        del words[: len(following)]
        given.append(Given(options[name], name, mine, surplus))
        strays += surplus
    return Line(given, strays, unknown)


def of_command(action: argparse.Action, words: list[str], parser) -> str | None:
    """What to say where the first word is none of the commands of a program."""
    there = [*map(str, action.choices or ())]
    if not words or words[0] in (*there, "-h", "--help", "--version"):
        return None if words else f"got no command; write {parser.prog} {' or '.join(there)}"
    if is_option(words[0]):
        return (
            f"{words[0][:60]}: stands after the command; write {parser.prog} {there[0]} ... {words[0][:60]}"
        )
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


def unknown(name: str, values: list[str], line: Line, parser: argparse.ArgumentParser) -> str:
    """What to say of an option that there is not, after which these words stand."""
    said = f"{name!r}"[1:-1][:40] + ": no such option"
    plain, colon, value = name[:LONGEST].lstrip(DASHES).strip().partition(":")
    plain, *inside = plain.split() or [plain]
    values = inside + [word.strip() for word in ([value] * bool(colon) + values)]
    if plain in ("help", "?") or (plain == "h" and not values):
        return f"{said}, did you mean --help?"
    if (
        not values
        and (joined := re.fullmatch(rf"(\D+?)[_-]?({NUMBER})", plain))
        and not offered(plain, parser)
    ):
        plain, values = joined[1], [joined[2]]
    free = [action for action in parser._actions if not action.option_strings][len(line.strays) :]
    free = [action for action in free if action.nargs is None]
    alone = " ".join(str(action.metavar or action.dest) for action in free)
    whole = command([*line.strays, *(v for _, others in line.unknown for v in others)], line.given, parser)
    instead = f"{said}; {alone} stands alone: write {whole}"
    if any(bare(plain) in (bare(action.dest), bare(str(action.metavar))) for action in free):
        return instead
    if re.match("no[-_]", plain) and (advice := absent(plain[3:], parser)):
        return f"{said}; {advice}: write {command(line.strays, line.given, parser)}"
    if re.match("no[-_]", plain) and (off := option_named(plain[3:], parser)) and not off[0].default:
        return f"{said}; write nothing: {off[0].option_strings[-1]} is off where it is not given"
    numbers = [value for value in values if re.fullmatch(NUMBER, plain_text(value))]
    if not held(values, parser) and (advice := absent(plain, parser)):
        return f"{said}; {advice}: write {command(line.strays, line.given, parser)}"
    found = meant(plain, values, numbers, parser)
    another = synonyms.OF_OTHERS.get(bare(plain))
    if another and not any(fitting(one, values) for one in found if values):
        return f"{said} here; write python -m experiments.{another}"
    fits = option_exactly(plain, parser) or numbers or any(fitting(one, values) for one in found if values)
    if not fits and (others := holders(re.sub("^use[-_]?", "", plain), parser) or held(values, parser)):
        return f"{said}, did you mean {others[0]}?"
    if found:
        return f"{said}, did you mean {' or '.join(written(one, values) for one in found)}?{told(found[0])}"
    there = [action.option_strings[-1] for action in parser._actions if action.option_strings]
    if set(there) <= {"--help", "--version"}:
        return f"{said} here; write {whole}"
    return instead if free else f"{said}; expected one of {', '.join(there)}"


def absent(plain: str, parser: argparse.ArgumentParser) -> str:
    """What there is in place of an option that no program has; nothing if this one has it by another name."""
    there = {option.lstrip("-") for option in parser._option_string_actions}
    if any(bare(plain) in words.split() for option, words in synonyms.OPTIONS.items() if option in there):
        return ""
    return next((advice for names, advice in synonyms.ABSENT.items() if bare(plain) in names.split()), "")


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
        return f"{name}: got nothing after it, expected {what}; write {name} {example(action)}{told(action)}"
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
    if holds(wrong, there):
        return f"{said}did you mean {near(wrong, there, synonyms.NAMES)[0]}? (one of {enumerated(there)})"
    if elsewhere := [one for one in holders(wrong, parser) if not one.startswith(f"{name} ")]:
        return f"{said}did you mean {elsewhere[0]}? ({name} is one of {enumerated(there)})"
    options = {option.replace("-", "_"): words for option, words in synonyms.OPTIONS.items()}
    if found := near(wrong, there, options | synonyms.NAMES):
        return f"{said}did you mean {' or '.join(found)}? (one of {enumerated(there)})"
    if bare(wrong) in DEFAULTS:
        return f"{said}expected one of {enumerated(there)}; write nothing for its default"
    if action.dest == "dataset" and taker(wrong, parser) == "--data":
        return f"{said}did you mean --data {shlex.quote(wrong[:200])}?"
    own = "; for one of your own write --data PATH" if "--data" in parser._option_string_actions else ""
    return f"{said}expected one of {enumerated(there)}{own * (action.dest == 'dataset')}"


def of_numbers(action: argparse.Action, name: str, words: list[str], expected: str, parser) -> str:
    """What to say where something is no number that an option takes."""
    several = action.nargs in ("+", "*")
    words = [word for word in words if word != "="] or words
    mine = words if several else words[:1]
    parts = all(re.fullmatch(r"\d{3}", word) for word in words[1:])  # 10 000
    parts |= not re.fullmatch(r"[\d.]+", words[0])  # 1e -3
    if not several and not accepted(action, mine) and parts and accepted(action, ["".join(words)]):
        return f"{name}: got {' '.join(words)[:60]!r}, with a space; write {name} {''.join(words)}"
    if accepted(action, mine):
        return f"{name}: got '=' with spaces; write {name} {' '.join(mine)}"
    wrong = next(word for word in mine if not accepted(action, [word]))
    got = " ".join(mine) if several and len(mine) < 9 else wrong
    said = f"{name}: got {got[:60]!r}, expected {expected}"
    one_each, many = one_by_one(action, mine), lists(action, mine)
    if many and any(re.match(r"0\d", part) for part in many[0]):
        many = []  # 1,024 is no list
    whole = getattr(action.type, "kind", None) is int and "," in " ".join(mine)
    if many and several and whole:
        one_each = []  # 32,128 is
    if several and (found := [*many, *(each for each in one_each if each not in many)]):
        said += ", with spaces between them" * bool(many)
        return f"{said}; write {' or '.join(' '.join([name, *each]) for each in found[:2])}"
    if one_each and not (many and whole):
        return f"{said}; did you mean {name} {one_each[0][0]}?"
    if many and len(numbers := many[0]) > 1:
        if one_each:
            return f"{said}, one alone; write {name} {numbers[0]} or {name} {one_each[0][0]}"
        more = f"; several: {ONE_OF_MANY[name]} {' '.join(numbers)}" if name in ONE_OF_MANY else ""
        return f"{said}, one alone; write {name} {numbers[0]}{more or told(action)}"
    if bare(wrong) in DEFAULTS:
        return f"{said}; leave {name} out for its default, or write {name} {example(action)}"
    if elsewhere := holders(wrong, parser):
        return f"{said}; did you mean {elsewhere[0]}?"
    return f"{said}; write {name} {example(action)}, for example"


def twice(given: list[Given]) -> str | None:
    """What to say where an option that takes a list stands there twice; of others the last counts."""
    first: dict[str, Given] = {}
    for one in given:
        before = first.setdefault(one.action.dest, one)
        if one.action.nargs in ("+", "*") and before.words != one.words:
            return f"{one.name}: given twice; write {one.name} {' '.join([*before.words, *one.words])}"
    return None


def lacking(line: Line, free: list[argparse.Action], parser) -> str | None:
    """What to say where a word or an option that a program needs is not there."""
    alone = [action for action in free if action.nargs is None]
    needed = [one for one, word in zip(alone, in_places(line.strays, alone), strict=True) if word is None]
    there = {one.action.dest for one in line.given}
    options = [
        one for one in parser._actions if one.option_strings and one.required and one.dest not in there
    ]
    if not needed and not options:
        return None
    names = [" ".join(str(action.metavar or action.dest) for action in needed)] * bool(needed)
    names += [action.option_strings[-1] for action in options]
    why = told((needed or options)[0])
    return f"got no {' and no '.join(names)}{why}; write {command(line.strays, line.given, parser)}"


def misplaced(line: Line, free: list[argparse.Action], parser) -> str | None:
    """What to say where words stand in the places of one another."""
    if len(line.strays) != len(free) or len(free) < 2:
        return None
    taken = [accepted(action, [word]) for action, word in zip(free, line.strays, strict=True)]
    best = in_places(line.strays, free)
    fits = (word and accepted(action, [word]) for action, word in zip(free, best, strict=True))
    if all(taken) or not all(fits):
        return None
    whole = command(line.strays, line.given, parser)
    return f"got {' '.join(line.strays)[:80]!r}, in another order; write {whole}"


def stray(line: Line, free: list[argparse.Action], parser) -> str | None:
    """What to say of words that belong to no option; None if the program takes them."""
    given, words, _ = line
    many = any(action.nargs in ("*", "+") for action in free)
    if not words or many or len(words) <= len(free):
        return None
    word, *more = words if not free else words[len(free) :]
    said = f"got {word[:60]!r}, which belongs to no option"
    after = next((one for one in given if word in one.surplus), None)
    name, equals, value = word.partition("=")
    name, *inside = name.split() or [name]
    values = [value] if equals else inside + more
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
    if bare(word) == bare(parser.prog.rpartition(".")[2]):
        return f"got {word[:60]!r} twice; write {parser.prog} without it"
    if free:
        taken = ", ".join(str(action.metavar or action.dest) for action in free)
        best = in_places(words, free)
        extra = [one for one in words if one not in best] or [word]
        if option := taker(extra[0], parser):
            return (
                f"got {extra[0][:60]!r}, which stands after {option}; write {command(words, given, parser)}"
            )
        whole = command([one for one in best if one is not None], given, parser)
        return f"got {extra[0][:60]!r} beside {taken}, expected nothing; write {whole}"
    if all(re.fullmatch(r"[\w./]+:[\w.]+", one) for one in words):
        return f"{said}; write python -m jaxnn.gradcheck {' '.join(words)[:200]}"
    return f"{said}; {elsewhere(word, words, parser)}"


def surplus(one: Given) -> str:
    """What to say of more words after an option than it takes."""
    words = [*one.words, *one.surplus]
    got = f"{one.name}: got {' '.join(words)[:60]!r}"
    if one.action.nargs == 0:
        out = f" --out {shlex.quote(words[-1])}" * (one.name == "--resume" and "/" in words[-1])
        return f"{got}, but takes no value; write {one.name}{out}"
    if one.action.nargs in ("+", "*"):
        return f"{got}; write {one.name} {' '.join(words)}"
    if os.path.lexists(" ".join(words)):
        return f"{got}, but takes one value; write {one.name} {shlex.quote(' '.join(words))}"
    joined = "x".join(words)
    if accepted(one.action, [joined]) and all(word.isdigit() for word in words):  # 32 24
        return f"{got}, but takes one value; write {one.name} {joined}"
    more = f"; several: {ONE_OF_MANY[one.name]} {' '.join(words)}" if one.name in ONE_OF_MANY else ""
    return f"{got}, but takes one value; write {one.name} {one.words[0]}{more}"


def elsewhere(word: str, words: list[str], parser: argparse.ArgumentParser) -> str:
    """With which option a word can be meant that stands alone."""
    options = {name: action for action in parser._actions for name in action.option_strings}
    if found := holders(word, parser):
        return f"did you mean {found[0]}?"
    lists_of = [
        action for action in parser._actions if action.nargs == "+" and hasattr(action.type, "expected")
    ]
    if SEVERAL.fullmatch(plain_text(word)) and lists_of and (found := lists(lists_of[0], [word])):
        return f"did you mean {lists_of[0].option_strings[-1]} {' '.join(found[0])}?{told(lists_of[0])}"
    if re.fullmatch(NUMBER, plain_text(word)) or SEVERAL.fullmatch(plain_text(word)):
        named = [n for n, action in options.items() if hasattr(action.type, "expected")]
        return f"a number stands after its option: one of {enumerated(named)}; write {named[0]} {word[:20]}"
    if option := taker(word, parser):
        return f"did you mean {option} {shlex.quote(word)}?"
    if found := holders(word, parser, exactly=False):
        return f"did you mean {found[0]}?"
    if found := option_named(word, parser):
        return f"did you mean {written(found[0], words[1:2])}?"
    return f"write {parser.prog} without it, or after one of {', '.join(n for n in options if n[:2] == '--')}"
