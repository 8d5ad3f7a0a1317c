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
from typing import TYPE_CHECKING, TypeVar

import msgspec

from gl_ris import grammar, text
from gl_ris.errors import UserError
from gl_ris.files import cache_folder, decode, file_hash, to_json, write_json
from gl_ris.grammar import MOST, NOUN, Unit, only, rewritten, units_of, words
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

    # left right above below near between inside on bigger smaller front behind
    kind: str
    # number of the anchor it is related to
    anchor: int
    # whether it is denied: "not next to the dog"; "far from the dog" is denied nearness, too
    negated: bool = False
    # number of the anchor that stands in the relation; None for the head
    of: int | None = None


@dataclass(frozen=True)
class Parsed:
    """A referring expression, taken apart."""

    text: str
    # the noun phrase of what is meant, without what other fields say; the whole text if it names nothing
    head: str
    # the other noun phrases, in order
    anchors: tuple[str, ...] = ()
    # "between" has an entry for each of its two anchors; one for "between two stars"
    relations: tuple[Relation, ...] = ()
    # in the picture: left right top bottom middle front back; a corner is two of them
    places: tuple[str, ...] = ()
    # leftmost rightmost topmost bottommost biggest smallest closest farthest
    superlatives: tuple[str, ...] = ()
    # the side that is counted from (left right top bottom front back), or a superlative without a side
    # ("second largest"), and the number from 1
    ordinal: tuple[str, int] | None = None
    # big, small or medium
    size: str | None = None
    # how many are meant, where a number says so
    count: int | None = None


@dataclass(frozen=True)
class _Chunk:
    """A noun phrase among the units: where it is in their sequence, and what it is of."""

    start: int
    end: int
    units: list[Unit]

    def text(self, doc: Doc, without: str) -> str:
        tokens = [i for unit in self.units if unit.letter not in without for i in unit.tokens]
        return "".join(doc[i].text_with_ws for i in tokens).strip()


def parsed(doc: Doc) -> Parsed:
    """Take one document apart."""
    units = rewritten(units_of(doc))
    letters = "".join(unit.letter for unit in units)
    found = re.finditer(rf"(?<![ad])d*({NOUN})", letters)
    chunks = [_Chunk(m.start(1), m.end(1), units[m.start(1) : m.end(1)]) for m in found]
    head = _head(chunks, letters)
    anchors = [chunk for chunk in chunks if chunk is not head]
    inside = {i for chunk in anchors for i in range(chunk.start, chunk.end)}
    own = [unit for i, unit in enumerate(units) if i not in inside]
    places, superlatives, ordinal = _where(own)
    named = head.text(doc, "SUOLEZN" if _several(head, doc) else "SUOLEZ") if head else ""
    return Parsed(
        text=doc.text,
        head=named or doc.text,
        anchors=tuple(chunk.text(doc, "") for chunk in anchors),
        relations=tuple(_relations(doc, units, letters, anchors, head)),
        count=int(next(only(head.units, "N")).value) if head and _several(head, doc) else None,
        size=next((unit.value for unit in only(own, "Z")), None),
        places=places,
        superlatives=superlatives,
        ordinal=ordinal,
    )


def _head(chunks: list[_Chunk], letters: str) -> _Chunk | None:
    """Find what is meant: the first noun phrase that no preposition leads to."""
    free = [chunk for chunk in chunks if not re.search("[Rpo]d*$", letters[: chunk.start])]
    sided = [chunk for chunk in chunks if letters[chunk.start] in "SU"]
    return next(iter(free or sided), None)


def _several(head: _Chunk, doc: Doc) -> bool:
    """Say whether the head is counted; in "banana 3" it is not, and "one red star" is no matter of number."""
    first = head.units[0]
    return first.letter == "N" and first.value != "1" and len(head.units) > 1


_SIDE = {most: side for side, most in MOST.items()} | {"closest": "closest", "farthest": "farthest"}
_AXES = ("left", "right", "top", "bottom")


def _where(own: Sequence[Unit]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, int] | None]:
    """Find places, superlatives and ordinal; "second person on the right" is counted from the right."""
    sides = list(dict.fromkeys(unit.value for unit in only(own, "S")))
    most = [unit.value for unit in only(own, "U")]
    last, counted = next(only(own, "L"), None), next(only(own, "K"), None)
    number = next(only(own, "O"), None) or (next(only(own, "N"), None) if counted else None)
    axes = [side for side in sides if side in _AXES]
    axis = None
    if counted is not None:
        axis = _SIDE.get(MOST.get(counted.value, counted.value), counted.value)
    elif (number or last) and len(axes) == 1:
        axis = axes[0]
        sides.remove(axis)
    if last is not None and axis is not None:
        most.append(MOST[axis])
    ordinal = (axis or "left", int(number.value)) if number else None
    return tuple(sides), tuple(dict.fromkeys(most)), ordinal


def _relations(
    doc: Doc, units: list[Unit], letters: str, anchors: list[_Chunk], head: _Chunk | None
) -> Iterator[Relation]:
    made: Relation | None = None
    for i, unit in enumerate(units):
        gap = re.compile("Rd*").match(letters, i)
        to = next((n for n, chunk in enumerate(anchors) if gap and chunk.start == gap.end()), None)
        if to is None or (unit.value == "inside" and _is_worn(doc, unit, anchors[to], head)):
            continue
        kind = "near" if unit.value == "far" else unit.value
        made = Relation(kind, to, unit.negated != (unit.value == "far"), _subject(letters[:i], anchors, made))
        yield made
        if kind == "between" and to + 1 < len(anchors):
            second = re.compile("cd*").fullmatch(letters, anchors[to].end, anchors[to + 1].start)
            yield from [Relation(kind, to + 1, made.negated, made.of)] if second else []


def _subject(before: str, anchors: list[_Chunk], last: Relation | None) -> int | None:
    """Find the anchor that stands in a relation, "the star that is above ..."; None for the head."""
    if last is not None and re.search("c[tbM]*$", before):
        return last.of
    whose = re.search("t[bM]*$", before)
    return next((n for n, chunk in enumerate(anchors) if whose and chunk.end == whose.start()), None)


def _is_worn(doc: Doc, unit: Unit, anchor: _Chunk, head: _Chunk | None) -> bool:
    """Tell "in black shirt", and "in camisole" said of people, from "in the room"."""
    worn, people = words()["worn"]["worn"], words()["people"]["people"]
    lowered = anchor.text(doc, "").lower().split()
    bare = unit.tokens[-1] + 1 == anchor.units[0].tokens[0]
    someone = head is not None and doc[head.units[-1].tokens[-1]].lower_ in people
    return any(word in worn for word in lowered) or (bare and someone)


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
    found = {text: (noun_phrase(doc), parsed(doc)) for text, doc in docs}
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
    return [one for _, one in _kept_readings(texts, parser)]


def kept_noun_phrases(
    texts: Sequence[str], parser: str | Path | None = None, *, published: bool = False
) -> list[str]:
    """Find noun phrases as `noun_phrases` does; those by the shipped pipeline are kept in the cache folder.

    Who asks for the same texts again needs neither the pipeline nor spaCy, which take a second to load.
    """
    if not published:
        return [phrase for phrase, _ in _kept_readings(texts, parser)]
    return _keep(texts, parser, list[str], functools.partial(noun_phrases, published=True))


def _kept_readings(texts: Sequence[str], parser: str | Path | None) -> list[tuple[str, Parsed]]:
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
    rules = [file_hash(file) for file in (text.__file__, grammar.__file__, grammar.WORDS, __file__)]
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
        said += ["negation"] if any(of.negated for of in one.relations) else []
        total.update(["expressions", *(said or ["none"])])
    return dict(total)
