"""From a parsed text to its units, written as one letter each, and rules that rewrite their sequence.

Short notes ("left guy blue shirt", "2nd from left") are what a dependency parser gets wrong most, so words
are found wherever the tree puts them: each becomes a unit by the table of words, else by its part of speech.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gl_ris.files import read_table

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

TABLES = [Path(__file__).parent / "assets" / name for name in ("words.yaml", "grammar.yaml")]
# the superlative of each side
MOST = {"left": "leftmost", "right": "rightmost", "top": "topmost", "bottom": "bottommost"}
MOST |= {"front": "closest", "back": "farthest"}


class Unit(NamedTuple):
    """Some words that mean one thing: its letter, what the table says it is, and its tokens."""

    letter: str
    value: str
    tokens: tuple[int, ...]
    negated: bool = False


@functools.cache
def words() -> dict[str, dict[str, list[str]]]:
    """Read the table of words: by group and kind; one without kinds has them in a kind of its name."""
    kinds = {name: of if isinstance(of, dict) else {name: of} for name, of in read_table(TABLES[0]).items()}
    return {name: {str(kind): list(map(str, own)) for kind, own in of.items()} for name, of in kinds.items()}


@functools.cache
def grammar() -> dict[str, Any]:
    """Read letters, tags, and rules, whose patterns are complete."""
    found: dict[str, Any] = read_table(TABLES[1])
    rules = [(pattern.replace("{noun}", found["noun"]), *made) for pattern, *made in found["rules"]]
    return {**found, "rules": rules}


@functools.cache
def _phrases() -> dict[tuple[str, ...], tuple[str, str]]:
    """Return letter and kind of every phrase of the table, and of what phrases begin with an empty letter."""
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for group, letter in reversed(grammar()["letters"].items()):
        for kind, phrases in words()[group].items():
            found |= {tuple(phrase.split()): (letter, kind) for phrase in phrases}
    begun = {phrase[:size] for phrase in found for size in range(1, len(phrase))}
    return dict.fromkeys(begun, ("", "")) | found


def units_of(doc: Doc) -> list[Unit]:
    """Divide a parsed text into units: phrases of the table, the longest first, else single words."""
    found, at = list[Unit](), 0
    while at < len(doc):
        unit = _phrase_at(doc, at) or Unit(_letter(doc[at]), doc[at].lower_, (at,))
        at = unit.tokens[-1] + 1
        if not doc[unit.tokens[0]].is_space and doc[unit.tokens[0]].text not in '-"“”':
            found.append(unit)
    return found


def _phrase_at(doc: Doc, at: int) -> Unit | None:
    """Find the longest phrase that begins at a token; articles and hyphens inside of it are passed over."""
    best, phrase = None, tuple[str, ...]()
    for i in range(at, len(doc)):
        if i > at and (doc[i].text == "-" or doc[i].lower_ in ("the", "a", "an")):
            continue
        phrase += (doc[i].lower_,)
        letter, kind = _phrases().get(phrase, (None, ""))
        if letter is None:
            break
        best = Unit(letter, kind, tuple(range(at, i + 1))) if letter else best
    return best


def _letter(token: Token) -> str:
    before = token.nbor(-1) if token.i else token
    # "that is not dotted"
    if token.tag_ == "VBN" and before.lower_ in words()["negations"]["negations"]:
        return "a"
    # "the two arrows", which look like a verb
    if token.tag_ == "VBZ" and before.tag_ == "CD" and before.lower_ not in ("one", "1"):
        return "n"
    if token.tag_ in ("VBN", "VBD", "VBG"):
        # "striped shirt", also where the tree has it elsewhere; but "lady holding umbrella"
        after = token.nbor().tag_[:2] if token.i + 1 < len(token.doc) else ""
        named = after in ("NN", "JJ") and (token.tag_ != "VBG" or token.dep_ in ("amod", "compound"))
        return "a" if named else "v" if token.i == 0 and token.tag_ != "VBG" else "b"
    return next((letter for letter, tags in grammar()["tags"].items() if re.fullmatch(tags, token.tag_)), "b")


def rewritten(units: list[Unit]) -> list[Unit]:
    """Apply every rule, in order, to each place that it fits."""
    for pattern, made, *meaning in grammar()["rules"]:
        text, done, out = "".join(unit.letter for unit in units), 0, list[Unit]()
        for match in re.finditer(pattern, text):
            start, end = match.span(match.lastindex or 0)
            if not meaning or units[start].value in meaning:
                out += [*units[done:start], *_made(made, units[start:end])]
                done = end
        units = [*out, *units[done:]]
    return units


def _made(made: str, matched: list[Unit]) -> list[Unit]:
    if made in _FUNCTIONS:
        return _FUNCTIONS[made](matched)
    letter, _, value = made.partition(" ")
    return [unit._replace(letter=letter, value=value or unit.value) for unit in matched]


def only(units: Sequence[Unit], letters: str) -> Iterator[Unit]:
    """Yield the units of some letters."""
    return (unit for unit in units if unit.letter in letters)


def first(units: Sequence[Unit], letters: str) -> Unit | None:
    """Return the first unit of some letters, if there is one."""
    return next(only(units, letters), None)


def _extreme(matched: list[Unit]) -> list[Unit]:
    """Make "far left", "left most" a superlative; "closest bed" and "far bed" are ones already."""
    if next(only(matched, "UER")).value not in ("farthest", "near", "extremes", "most"):
        return matched
    sides = [(side, MOST.get(side.value)) for side in only(matched, "S")]
    return [side._replace(letter="U", value=most) if most else side for side, most in sides]


def _part(matched: list[Unit]) -> list[Unit]:
    """Leave out "side" after a side; of a corner of something it is no relation."""
    noun, *of = matched
    return _made("p", of) if noun.value == "part" else of


def _side_of(matched: list[Unit]) -> list[Unit]:
    """Tell "left of", "on top of", "in front of" something from the left of the picture."""
    side, *more = only(matched, "S")
    if first(matched, "P"):
        return [side, *more]
    tables = [of for letter, of in grammar()["side_of"].items() if first(matched, letter)]
    kind = next((of[side.value] for of in tables if side.value in of), None)
    of, number = next(only(matched, "o")), only(matched, "N")
    if kind is None or more:
        return [side, *more, of._replace(letter="p"), *number]
    return [Unit("R", kind, (*side.tokens, *of.tokens)), *number]


def _counted(matched: list[Unit]) -> list[Unit]:
    return [*only(matched, "O"), matched[-1]._replace(letter="K")]


def _denied(matched: list[Unit]) -> list[Unit]:
    return [*only(matched, "bad"), matched[-1]._replace(negated=True)]


def _not(matched: list[Unit]) -> list[Unit]:
    """Deny a size, a side or a superlative; of a corner, which is two sides, nothing is left."""
    own = list(only(matched, "ZSU"))
    return [unit._replace(value=f"not {unit.value}") for unit in own] if len(own) == 1 else []


def _lacking(matched: list[Unit]) -> list[Unit]:
    """Deny a noun, "without dots", or an adjective: "star that is not green" is with no "green star"."""
    at = next(i for i, unit in enumerate(matched) if unit.letter == "M")
    said = [i for unit in only(matched[at:], "ac") for i in unit.tokens]
    noun = Unit("n", "", (*said, *(matched[0].tokens[-1:] if at else ())))
    return [*matched[:at], Unit("R", "with", matched[at].tokens, True), *([noun] if said else [])]


def _filler(matched: list[Unit]) -> list[Unit]:
    side, relation = matched
    return [relation] if relation.value not in ("on", "inside", "left", "right") else [side, relation]


def _alone(matched: list[Unit]) -> list[Unit]:
    """Leave the side of "on the left", and nothing of that of "left of center"."""
    relation, sides = matched[0], list(only(matched, "S"))
    if sides and relation.value in ("on", "inside", "near"):
        return sides
    letter, value = grammar()["alone"].get(relation.value, ("b", ""))
    return [Unit("b" if relation.negated else letter, value, relation.tokens)]


def _parted(matched: list[Unit]) -> list[Unit]:
    return [*only(matched, "SU"), Unit("|", "", ())]


_FUNCTIONS: dict[str, Callable[[list[Unit]], list[Unit]]] = {
    made.__name__[1:]: made
    for made in (_extreme, _part, _side_of, _counted, _denied, _not, _lacking, _filler, _alone, _parted)
}
