"""What an expression says, beside its words: whom it means, what it speaks of, where that stands."""

from __future__ import annotations

import functools
import hashlib
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from gl_ris import grammar, text
from gl_ris.errors import UserError
from gl_ris.files import cache_folder, decode, file_hash, plain, to_json, write_json
from gl_ris.grammar import MOST, Unit, first, only, rewritten, units_of, words
from gl_ris.hashes import sha256_of
from gl_ris.text import documents, noun_phrase, noun_phrases

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

_T = TypeVar("_T")
_PARSED_BY = ("spacy", "thinc", "numpy")
_SAID = ("places", "relations", "superlatives", "ordinal", "size", "count")


@dataclass(frozen=True)
class Relation:
    """Something that an expression says of its head, or of an anchor, and another anchor."""

    # left right above below near between inside on bigger smaller front behind; with, of what is denied alone
    kind: str
    anchor: int  # number of the anchor it is related to
    # whether it is denied: "not next to the dog"; "far from the dog" is denied nearness, too;
    # "without dots" is with dots, denied; "star that is not green" with a "green star"
    negated: bool = False
    of: int | None = None  # number of the anchor that stands in the relation; None for the head


@dataclass(frozen=True)
class Parsed:
    """A referring expression, taken apart."""

    text: str
    head: str  # the noun phrase of what is meant, without what other fields say; all if it names nothing
    anchors: tuple[str, ...] = ()  # the other noun phrases, in order
    # "between" has an entry for each of its two anchors; one for "between two stars"
    relations: tuple[Relation, ...] = ()
    # in the picture: left right top bottom middle front back; a corner is two of them; denied: "not left"
    places: tuple[str, ...] = ()
    # leftmost rightmost topmost bottommost biggest smallest closest farthest, or e.g. "not biggest"
    superlatives: tuple[str, ...] = ()
    # the side that is counted from (left right top bottom) or, as in "second largest", from the biggest,
    # smallest, closest or farthest; and the number from 1
    ordinal: tuple[str, int] | None = None
    size: str | None = None  # big, small or medium, or e.g. "not small"
    count: int | None = None  # how many are meant, where a number says so

    def said(self) -> dict[str, Any]:
        """Return what is not empty, but the text, as JSON has it; of a relation also that of its fields."""
        shown = {name: getattr(self, name) for name in ("head", "anchors", *_SAID)}
        shown["relations"] = [
            {name: value for name, value in vars(one).items() if value is not None and value is not False}
            for one in self.relations
        ]
        return {name: plain(value) for name, value in shown.items() if value}


class _Chunk(NamedTuple):
    """A noun phrase among the units: where it is in their sequence, and what it is of."""

    start: int
    end: int
    units: list[Unit]

    def text(self, doc: Doc, without: str = "") -> str:
        tokens = [i for unit in self.units if unit.letter not in without for i in unit.tokens]
        # what does not stand together is joined by blanks
        return "".join(doc[i].text_with_ws if i + 1 in tokens else f"{doc[i]} " for i in tokens).strip()


class _Reading:
    """One document taken apart: its units, their letters, and the noun phrases among them."""

    def __init__(self, doc: Doc) -> None:
        self.doc, self.units, self.noun = doc, rewritten(units_of(doc)), grammar.grammar()["noun"]
        self.letters = "".join(unit.letter for unit in self.units)
        spans = [match.span(1) for match in re.finditer(rf"(?<![ad])d*({self.noun})", self.letters)]
        self.chunks = [_Chunk(*span, self.units[slice(*span)]) for span in spans]
        # what is meant: the first noun phrase that no preposition leads to; "the biggest of the dogs"
        free = [chunk for chunk in self.chunks if not self._led(chunk, "Rpo")]
        sided = [one for one in self.chunks if self._led(one, "o") or self.letters[one.start] in "SU"]
        self.head = next(iter(free or sided), None)
        self.anchors = [one for one in self.chunks if one is not self.head and not self._is_again(one)]

    def parsed(self) -> Parsed:
        """Say it in fields."""
        others = {i for chunk in self.anchors for i in range(chunk.start, chunk.end)}
        own = [unit for i, unit in enumerate(self.units) if i not in others]
        # "two beds", but not "one red star"
        number = next((unit for unit in only(own, "N") if unit.value != "1"), None)
        among = self.head is not None and self._led(self.head, "o")
        named = self.head and self.head.text(self.doc, "SUOLEZN" if number else "SUOLEZ")
        size, (places, superlatives, ordinal) = first(own, "Z"), _where(own)
        return Parsed(
            text=self.doc.text,
            head=named or self.doc.text,
            anchors=tuple(chunk.text(self.doc) for chunk in self.anchors),
            relations=tuple(self._relations()),
            places=places,
            superlatives=superlatives,
            ordinal=ordinal,
            size=size and size.value,
            count=int(number.value) if number and not among and ordinal is None else None,
        )

    def _led(self, chunk: _Chunk, by: str) -> bool:
        return bool(re.search(f"[{by}]d*$", self.letters[: chunk.start]))

    def _is_again(self, chunk: _Chunk) -> bool:
        """Tell whether what is meant is named once more: "the zebra on the left, the first zebra"."""
        again = self.head is not None and chunk.units[-1].value == self.head.units[-1].value
        return again and self._led(chunk, "SUK|")

    def _relations(self) -> Iterator[Relation]:
        of: int | None = None
        begins = {chunk.start: number for number, chunk in enumerate(self.anchors)}
        for match in re.finditer("Rd*", self.letters):
            unit, to = self.units[match.start()], begins.get(match.end())
            worn = to is not None and unit.value in ("inside", "on") and self._is_worn(unit, self.anchors[to])
            lacks = worn and unit.negated and self._is_clothes(self.anchors[to or 0])
            if to is None or (worn and not lacks):
                continue
            far, of = unit.value == "far", self._subject(self.letters[: match.start()], of)
            made = Relation("with" if lacks else "near" if far else unit.value, to, unit.negated != far, of)
            yield made
            # "between the man in blue and the tree"
            both = re.compile(f"(?:[pR]d*{self.noun})?cd*").match(self.letters, self.anchors[to].end)
            if unit.value == "between" and both and both.end() in begins:
                yield replace(made, anchor=begins[both.end()])

    def _subject(self, before: str, last: int | None) -> int | None:
        """Find the anchor that stands in a relation, "the star that is above ..."; None for the head."""
        if re.search("c[tbvMpd]*$", before):
            return last
        whose = re.search("t[bvMpd]*$", before)
        ends = {chunk.end: number for number, chunk in enumerate(self.chunks)}
        if not whose or whose.start() not in ends:
            return None
        # in "a heart with stripes that is above" it is not the stripes
        said = self.chunks[ends[whose.start()] :: -1]
        for chunk in said:
            noun = self.doc[chunk.units[-1].tokens[-1]]
            if noun.tag_ != "NNS" and noun.lower_ not in _listed("worn", "colors"):
                return self.anchors.index(chunk) if chunk in self.anchors else None
        return None

    def _is_worn(self, unit: Unit, anchor: _Chunk) -> bool:
        """Tell "in black shirt", "in his hand", and "in camisole" said of people, from "in the room"."""
        between = self.doc[unit.tokens[-1] + 1 : anchor.units[0].tokens[0]]
        if any(token.tag_ == "PRP$" for token in between):
            return True
        someone = self.head and self.doc[self.head.units[-1].tokens[-1]].lower_ in _listed("people")
        return unit.value == "inside" and (self._is_clothes(anchor) or (not len(between) and bool(someone)))

    def _is_clothes(self, anchor: _Chunk) -> bool:
        return not _listed("worn", "colors").isdisjoint(anchor.text(self.doc).lower().split())


@functools.cache
def _listed(*groups: str) -> frozenset[str]:
    return frozenset(word for group in groups for word in words()[group][group])


_AXES = ("left", "right", "top", "bottom")
_AXIS = {MOST[side]: side for side in _AXES} | {side: MOST[side] for side in ("front", "back")}
_FROM = ("left", "right", "above", "below", "front", "behind")
# what is counted from the left unless something else is said ends at the right
_AXIS["last"] = "right"


def _where(own: Sequence[Unit]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, int] | None]:
    """Find places, superlatives and ordinal; "second person on the right" is counted from the right."""
    sides = list(dict.fromkeys(unit.value for unit in only(own, "S")))
    most = [unit.value for unit in only(own, "U")]
    last, counted = first(own, "L"), first(own, "K")
    number = first(own, "O") or (first(own, "N") if counted else None)
    axis, axes = counted and _AXIS.get(counted.value, counted.value), [one for one in sides if one in _AXES]
    if (not counted or counted.value == "last") and (number or last) and len(axes) == 1:
        axis = axes[0]
        sides.remove(axis)
    if last and axis in _AXES:
        most.append(MOST[axis])
    # nothing is counted from the middle; "second man right of the car" is counted from the car
    if not axis and any(unit.value in _FROM for unit in only(own, "R")):
        axis = "middle"
    ordinal = (axis or "left", int(number.value)) if number and axis != "middle" else None
    return tuple(sides), tuple(dict.fromkeys(most)), ordinal


def parse(texts: Sequence[str], parser: str | Path | Language | None = None) -> list[Parsed]:
    """Take expressions apart: whom they mean, what they speak of, where that stands.

    Words are found by ``gl_ris/assets/words.yaml`` and the parts of speech of a spaCy pipeline, wherever the
    tree puts them: short notes ("left guy blue shirt") are what trees get wrong. See docs/parsing.md.

    Args:
        texts: Expressions, any mix of repeats; a blank one has itself as head, and nothing else.
        parser: A loaded pipeline, or what `gl_ris.text.load_parser` takes; None is the shipped pipeline.

    Returns:
        One `Parsed` per text, in order.

    Raises:
        UserError: The parser cannot be loaded.

    Example:
        >>> parse(["the small star that is not next to a red heart"])[0].relations
        (Relation(kind='near', anchor=0, negated=True, of=None),)
    """
    return [one for _, one in read(texts, parser)]


def read(texts: Sequence[str], parser: str | Path | Language | None = None) -> list[tuple[str, Parsed]]:
    """Find noun phrase (`gl_ris.text.noun_phrase`) and `Parsed` of each text, from one parse."""
    written, docs = documents(texts, parser)
    found = {text: (noun_phrase(doc), _Reading(doc).parsed()) for text, doc in docs}
    return [
        (phrase, replace(one, text=text))
        for text, own in zip(texts, written, strict=True)
        for phrase, one in [found.get(own, (text, Parsed(text, text)))]
    ]


def check_parser(name_or_path: str | Path | None = None) -> None:
    """Raise what `load_parser` raises; the shipped pipeline is loaded only where nothing of it is kept."""
    if name_or_path is not None or not text.SHIPPED.is_dir() or not _kept().is_dir():
        text.load_parser(name_or_path)


def kept_parses(texts: Sequence[str], parser: str | Path | None = None) -> list[Parsed]:
    """Parse as `parse` does; what the shipped pipeline gives is kept with the noun phrases of the texts."""
    return [one for _, one in kept_readings(texts, parser)]


def kept_noun_phrases(
    texts: Sequence[str], parser: str | Path | None = None, *, published: bool = False
) -> list[str]:
    """Find noun phrases as `noun_phrases` does; those by the shipped pipeline are kept in the cache folder.

    Who asks for the same texts again needs neither the pipeline nor spaCy, which take a second to load.
    """
    if not published:
        return [phrase for phrase, _ in kept_readings(texts, parser)]
    return _keep(texts, parser, list[str], functools.partial(noun_phrases, published=True))


def kept_readings(texts: Sequence[str], parser: str | Path | None = None) -> list[tuple[str, Parsed]]:
    """Read texts as `read` does; what the shipped pipeline gives is kept, from one parse of each text."""
    return _keep(texts, parser, list[tuple[str, Parsed]], read)


def _keep(
    texts: Sequence[str], parser: str | Path | None, kind: type[list[_T]], make: Callable[..., list[_T]]
) -> list[_T]:
    if parser is not None:
        return make(texts, parser)
    file = _kept() / f"{_digest([str(kind), *texts])}.json"
    with suppress(UserError):
        if len(kept := decode(file, kind)) == len(texts):
            return kept
    made = make(texts)
    # where nothing can be kept, the next process parses again
    with suppress(OSError):
        write_json(file, msgspec.to_builtins(made))
    return made


def _kept() -> Path:
    """Return the folder of what the shipped pipeline found, by these very files, rules and libraries."""
    libraries = [platform.python_version(), *map(metadata.version, _PARSED_BY)]
    code = [Path(file) for file in (text.__file__, grammar.__file__, __file__)]
    rules = [file_hash(file) for file in (*code, *grammar.TABLES)]
    return cache_folder() / "phrases" / _digest([sha256_of(text.SHIPPED), *rules, *libraries])


def _digest(of: Sequence[object]) -> str:
    return hashlib.sha256(to_json(of)).hexdigest()[:32]


def counts(parses: Iterable[Parsed]) -> dict[str, int]:
    """Count the expressions that say something, by field, relations also by kind; and those that do not.

    Keys: expressions; places, relations, superlatives, ordinal, size, count, negation; "relation left" and so
    on; none. Those that never occur are left out, but expressions and none.
    """
    total = Counter(expressions=0, none=0)
    for one in parses:
        said = [name for name in _SAID if getattr(one, name)]
        said += [f"relation {kind}" for kind in dict.fromkeys(of.kind for of in one.relations)]
        denied = [word for word in (*one.places, *one.superlatives, one.size or "") if "not " in word]
        said += ["negation"] if denied or any(of.negated for of in one.relations) else []
        total.update(["expressions", *(said or ["none"])])
    return dict(total)
