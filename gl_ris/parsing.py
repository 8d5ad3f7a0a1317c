"""What an expression says, beside its words: whom it means, what it speaks of, where that stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """Something that an expression says of its head, or of an anchor, and another anchor."""

    # one of `gl_ris.rerank.rules.RULES`, such as "left" ("left of the dog")
    kind: str
    # number of the anchor it is related to
    anchor: int
    # whether it is denied: "not next to the dog"
    negated: bool = False
    # number of the anchor that stands in the relation; None for the head
    of: int | None = None


@dataclass(frozen=True)
class Parsed:
    """A referring expression, taken apart."""

    text: str
    # the noun phrase of what is meant
    head: str
    # the other noun phrases, in order
    anchors: tuple[str, ...] = ()
    # "between" has an entry for each of its two anchors
    relations: tuple[Relation, ...] = ()
    # in the picture: left right top bottom middle front back; a corner is two of them
    places: tuple[str, ...] = ()
    # leftmost rightmost topmost bottommost biggest smallest closest farthest
    superlatives: tuple[str, ...] = ()
    # the side that is counted from (left right top bottom), and the number from 1
    ordinal: tuple[str, int] | None = None
    # big, small or medium
    size: str | None = None
    # how many are meant, where a number says so
    count: int | None = None
