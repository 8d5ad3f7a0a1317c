"""From a parsed text to its units, written as one letter each, and rules that rewrite their sequence.

Short notes ("left guy blue shirt", "2nd from left") are what a dependency parser gets wrong most, so words
are found wherever the tree puts them: each becomes a unit by the table of words, else by its part of speech.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

WORDS = Path(__file__).parent / "assets" / "words.yaml"
_LETTERS = {
    **{"relations": "R", "sides": "S", "side_nouns": "F", "extremes": "E", "most": "E", "superlatives": "U"},
    **{"ordinals": "O", "last": "L", "numbers": "N", "sizes": "Z", "negations": "M", "picture": "P"},
    **{
        "facing": "W",
        "relative": "t",
        "pronouns": "r",
        "prepositions": "p",
        "colors": "a",
        "nothing": "b",
        "verbs": "b",
    },
}
# by the first tag that fits: determiner, adjective, noun, possessive, preposition, pronoun, conjunction
_TAGS = [("DT|PDT|PRP\\$|WP\\$", "d"), ("JJ.?", "a"), ("NN.*|FW|CD", "n"), ("POS", "g"), ("IN|TO", "p")]
_TAGS += [("PRP|EX", "r"), ("CC|,|:", "c"), ("WDT|WP", "t"), ("VB|VBP", "v")]
_OF, _FROM, _FROM_TYPOS = "o", "f", ("from", "frm", "form")
# a noun phrase: "blue and white sign", "lady's head"
NOUN = r"(?:[NOLZSUEa]|(?<=a)c(?=a))*n(?:n|g[Za]*n)*"


class Unit(NamedTuple):
    """Some words that mean one thing: its letter, what the table says it is, and its tokens."""

    letter: str
    value: str
    tokens: tuple[int, ...]
    negated: bool = False


@functools.cache
def words() -> dict[str, dict[str, list[str]]]:
    """Read the table of words: by group and kind; one without kinds has them in a kind of its name."""
    import yaml

    groups = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return {
        name: {str(kind): [str(word) for word in of] for kind, of in group.items()}
        if isinstance(group, dict)
        else {name: list(map(str, group))}
        for name, group in groups.items()
    }


@functools.cache
def _phrases() -> dict[tuple[str, ...], tuple[str, str]]:
    """Return letter and kind of every phrase of the table, and of what phrases begin with an empty letter."""
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for group, letter in reversed(_LETTERS.items()):
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
        if not doc[unit.tokens[0]].is_space and doc[unit.tokens[0]].text != "-":
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
    if token.lower_ == "of":
        return _OF
    if token.lower_ in _FROM_TYPOS:
        return _FROM
    if token.tag_ in ("VBN", "VBD", "VBG"):
        # "striped shirt", also where the tree has it elsewhere; but "lady holding umbrella"
        after = token.nbor().tag_[:2] if token.i + 1 < len(token.doc) else ""
        named = after in ("NN", "JJ") and (token.tag_ != "VBG" or token.dep_ in ("amod", "compound"))
        return "a" if named else "v" if token.i == 0 and token.tag_ != "VBG" else "b"
    return next((letter for tags, letter in _TAGS if re.fullmatch(tags, token.tag_)), "b")


Made = Callable[[Sequence[Unit], Sequence[Unit]], list[Unit]]


def rewritten(units: list[Unit]) -> list[Unit]:
    """Apply every rule, in order, to each place that it fits."""
    for pattern, made in _RULES:
        text, done, out = "".join(unit.letter for unit in units), 0, list[Unit]()
        for match in re.finditer(pattern, text):
            start, end = match.span()
            out += [*units[done:start], *made(units[start:end], units[:start])]
            done = end
        units = [*out, *units[done:]]
    return units


def only(units: Sequence[Unit], letters: str) -> Iterator[Unit]:
    """Yield the units of some letters."""
    return (unit for unit in units if unit.letter in letters)


_MOST = {"left": "leftmost", "right": "rightmost", "top": "topmost", "bottom": "bottommost"}
MOST = {**_MOST, "front": "closest", "back": "farthest"}
# what a relation says that is to nothing, or to the picture: "the one behind", "closest to the camera"
_ALONE = {
    **{kind: ("S", kind) for kind in ("left", "right", "front")},
    **{"above": ("S", "top"), "below": ("S", "bottom"), "behind": ("S", "back")},
    **{"near": ("U", "closest"), "far": ("U", "farthest")},
}
_BESIDE = {"left": "left", "right": "right"}
_BY_PREPOSITION = {"top": "on", "front": "front", "back": "behind"}


def _gone(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    return [Unit("b", "", matched[0].tokens)]


def _as(letter: str) -> Made:
    return lambda matched, _: [unit._replace(letter=letter) for unit in matched]


def _extreme(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    """Make "far left", "left most" a superlative; "closest bed" and "far bed" are ones already."""
    own = next(only(matched, "UER"))
    if (own.letter == "U" and own.value != "farthest") or (own.letter == "R" and own.value != "near"):
        return list(matched)
    return [
        side._replace(letter="U", value=MOST[side.value]) if side.value in MOST else side
        for side in only(matched, "S")
    ]


def _part(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    """Leave out "side" after a side; of a corner of something it is no relation."""
    noun, *of = matched
    return [unit._replace(letter="p") for unit in of] if noun.value == "part" else of


def _side_of(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    """Tell "left of", "on top of", "in front of" something from the left of the picture."""
    sides, preposition = list(only(matched, "S")), next(only(matched, "R"), None)
    of = next(only(matched, "o"))
    if any(only(matched, "P")):
        return sides
    side = sides[0]
    kind = _BESIDE.get(side.value) or (_BY_PREPOSITION.get(side.value) if preposition else None)
    if next(only(matched, "N"), None):
        kind = "between" if side.value == "middle" else kind
    if kind is None or len(sides) > 1:
        return [*sides, of._replace(letter="p"), *only(matched, "N")]
    return [Unit("R", kind, (*side.tokens, *of.tokens)), *only(matched, "N")]


def _counted(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    side = matched[-1]
    kept = list(only(matched, "O"))
    return [*kept, side._replace(letter="K")]


def _one(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    """Take the number of "one on the left" for a noun."""
    return [unit._replace(letter="n") if unit.value == "1" else unit for unit in matched]


def _denied(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    return [*matched[1:-1], matched[-1]._replace(negated=True)]


def _filler(matched: Sequence[Unit], before: Sequence[Unit]) -> list[Unit]:
    """Drop the "right" of "right next to", but not that of "on the right in the car"."""
    side, relation = matched
    free = not before or before[-1].letter not in "pRdSU"
    near = relation.value not in ("on", "inside", "left", "right")
    return [relation] if side.value == "right" and free and near else list(matched)


def _alone(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    relation = matched[0]
    letter, value = _ALONE.get(relation.value, ("b", ""))
    return [Unit("b" if relation.negated else letter, value, relation.tokens)]


def _before_side(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    """Leave the side of "on the left", and nothing of that of "left of center"."""
    relation = matched[0]
    return list(only(matched, "S")) if relation.value in ("on", "inside", "near") else _alone(matched, _)


def _nearest(matched: Sequence[Unit], _: Sequence[Unit]) -> list[Unit]:
    """Make the superlative of "bed nearest the sign" a relation."""
    own = matched[0]
    return [own._replace(letter="R", value="near") if own.value == "closest" else own]


_BREAK = Unit("|", "", ())

_RULES: list[tuple[str, Made]] = [
    ("W[pR]?d?[SPr]|W", _gone),
    # a camera that someone holds is a thing
    ("(?<![oRpfW])(?<![oRpfW]d)(?<!^)P", _as("b")),
    ("^d?P", lambda matched, _: [*matched[:-1], matched[-1]._replace(letter="n")]),
    # "left bald", "in red"
    ("^[dNOSUZL]*a+(?=[Rpfotb]|$)", lambda matched, _: [*matched[:-1], matched[-1]._replace(letter="n")]),
    # notes begin with what is meant, whatever verb it looks like: "hand only", "crown over cross"
    ("^v(?!d)|(?<=R)v", _as("n")),
    ("(?<=[pR])a+(?![an])", _as("n")),
    (f"[UE][pR]?d?S+|S+E|Rd?S+(?!F?{NOUN}|F?o)", _extreme),
    ("(?<=[SU])Fo?", _part),
    ("[pR]d?F(?!n)", _gone),
    ("F", _as("n")),
    ("R?d?S+o(?:d?P|d?N)?", _side_of),
    ("OU|fd?[SU]", _counted),
    ("f", _as("p")),
    (f"(?<=n)N(?!K|{NOUN})", _as("n")),
    (f"N(?!{NOUN})", _one),
    (r"M[pd]*[SU]|MRd?[SU](?![aNZ]*n)", _gone),
    ("M[bad]*R", _denied),
    ("SR", _filler),
    (f"(?<=n)U(?=d{NOUN})", _nearest),
    ("Rd?r", _gone),
    ("Rd?P", _alone),
    # "on left blue shirt" is two notes, "on left bed" one
    ("RS(?=a+n)", lambda matched, _: [matched[1], _BREAK]),
    (f"Rd?S+(?!{NOUN})", _before_side),
    (f"R(?!d*{NOUN})", _alone),
    ("(?<=n)[SU]+", lambda matched, _: [*matched, _BREAK]),
]
