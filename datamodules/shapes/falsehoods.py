"""False versions of what a caption says: a relation turned round, two attributes exchanged, a word replaced.

A model that is to tell a caption from its false version has to read more than which words there are
(NegCLIP: Yuksekgonul et al., ICLR 2023, "When and why vision-language models behave like bags-of-words").
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from datamodules.shapes.meaning import Expression, Noun, Relation
from datamodules.shapes.world import CATEGORIES, COLORS, FILLS, RADIUS

Claim = tuple[Expression, ...]
"""What a caption asserts: for each expression, that the scene holds an object it is true of."""

_OPPOSITE = {"above": "below", "left of": "right of", "left": "right", "top": "bottom"}
_OPPOSITE |= {there: here for here, there in _OPPOSITE.items()}
_VALUES: dict[str, tuple[str, ...]] = {
    "category": CATEGORIES,
    "color": tuple(COLORS),
    "fill": FILLS,
    "size": tuple(RADIUS),
}


def relations_turned(claim: Claim, rng: Random) -> Iterator[Claim]:
    """Turn one relation of the claim into its opposite."""
    for at, said in enumerate(claim):
        for number, relation in enumerate(said.relations):
            if relation.kind in _OPPOSITE:
                turned = replace(relation, kind=_OPPOSITE[relation.kind])
                yield _with(claim, at, _related(said, number, turned))


def places_turned(claim: Claim, rng: Random) -> Iterator[Claim]:
    """Move one object of the claim to the opposite side or corner of the picture."""
    for at, said in enumerate(claim):
        turned = " ".join(_OPPOSITE.get(word, word) for word in (said.place or "").split())
        if said.place and turned != said.place:
            yield _with(claim, at, replace(said, place=turned))


def roles_exchanged(claim: Claim, rng: Random) -> Iterator[Claim]:
    """Let an object and what it is related to change places in the sentence."""
    for at, said in enumerate(claim):
        if len(said.relations) == 1 and said.relations[0].then is None:
            (relation,) = said.relations
            turned = replace(said, noun=relation.anchor, relations=(replace(relation, anchor=said.noun),))
            yield _with(claim, at, turned)


def attributes_exchanged(claim: Claim, rng: Random) -> Iterator[Claim]:
    """Give two objects of the claim each other's colour, fill, size or category."""
    for (first, put_first), (second, put_second) in itertools.combinations(_nouns(claim), 2):
        for name in _VALUES:
            one, other = getattr(first, name), getattr(second, name)
            if one and other and one != other:
                changed = put_first(claim, replace(first, **{name: other}))
                yield put_second(changed, replace(second, **{name: one}))


def words_replaced(claim: Claim, rng: Random) -> Iterator[Claim]:
    """Give one object of the claim another colour, fill, size or category."""
    for noun, put in _nouns(claim):
        for name, values in _VALUES.items():
            if value := getattr(noun, name):
                other = rng.choice([each for each in values if each != value])
                yield put(claim, replace(noun, **{name: other}))


# kinds of false versions, and their shares where all are possible
FALSEHOODS: dict[Callable[[Claim, Random], Iterator[Claim]], float] = {
    relations_turned: 0.4,
    places_turned: 0.15,
    roles_exchanged: 0.2,
    attributes_exchanged: 0.15,
    words_replaced: 0.1,
}


def false_version(rng: Random, claim: Claim, holds: Callable[[Claim], bool]) -> tuple[str, Claim] | None:
    """Make a claim false by a small change: the kind of change, and the changed claim.

    ``holds`` tells whether a claim may, generously read, be true. None where no change makes it false.
    """
    kinds = {kind.__name__: [c for c in kind(claim, rng) if not holds(c)] for kind in FALSEHOODS}
    found = {name: claims for name, claims in kinds.items() if claims}
    if not found:
        return None
    shares = {kind.__name__: share for kind, share in FALSEHOODS.items()}
    (name,) = rng.choices(list(found), [shares[name] for name in found])
    return name, rng.choice(found[name])


def _with(claim: Claim, at: int, said: Expression) -> Claim:
    return (*claim[:at], said, *claim[at + 1 :])


def _related(said: Expression, number: int, relation: Relation) -> Expression:
    return replace(said, relations=(*said.relations[:number], relation, *said.relations[number + 1 :]))


Put = Callable[[Claim, Noun], Claim]


def _nouns(claim: Claim) -> Iterator[tuple[Noun, Put]]:
    """List the objects that are named, each with what puts another in its place."""
    for at, said in enumerate(claim):
        yield said.noun, functools.partial(_put_subject, at)
        for number, relation in enumerate(said.relations):
            yield relation.anchor, functools.partial(_put_anchor, at, number)


def _put_subject(at: int, claim: Claim, noun: Noun) -> Claim:
    return _with(claim, at, replace(claim[at], noun=noun))


def _put_anchor(at: int, number: int, claim: Claim, noun: Noun) -> Claim:
    anchored = replace(claim[at].relations[number], anchor=noun)
    return _with(claim, at, _related(claim[at], number, anchored))
