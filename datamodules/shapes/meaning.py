"""What an expression about a RefShapes scene means, apart from how it is worded.

Spatial words are vague, so each has two readings: *strict*, which a speaker needs in order to say it of an
object, and *loose*, under which a listener might still apply it. An expression denotes an object only if it
is strictly true of it and not even loosely true of any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from datamodules.shapes.world import ShapeScene, Thing


@dataclass(frozen=True)
class Noun:
    """A kind of object: what is None is left open."""

    category: str | None = None
    color: str | None = None
    fill: str | None = None
    size: str | None = None

    def fits(self, thing: Thing) -> bool:
        """Tell whether the object is of this kind."""
        return all(wanted in (None, getattr(thing, name)) for name, wanted in vars(self).items())


@dataclass(frozen=True)
class Relation:
    """A spatial relation to some object of a kind, which may be related on in turn."""

    kind: str
    anchor: Noun
    then: Relation | None = None


@dataclass(frozen=True)
class Expression:
    """A referring expression's meaning: a kind, where it is in the picture, what it stands next to."""

    noun: Noun  # the kind
    place: str | None = None  # a key of `PLACES`, or None
    # ``(axis, number)``, e.g. ``("left", 2)``: the second of its kind from the left; or None.
    rank: tuple[str, int] | None = None
    relations: tuple[Relation, ...] = ()  # all of them hold


def _beyond(ahead: float, aside: float, strict: bool) -> bool:
    """Tell whether so many pixels ahead and aside are in a direction: far enough, and in its cone."""
    lean, least = (0.75, 18.0) if strict else (1.35, 6.0)
    return ahead > least and abs(aside) < lean * ahead


def _near(a: Thing, b: Thing, strict: bool) -> bool:
    return math.hypot(a.x - b.x, a.y - b.y) - a.radius - b.radius < (14.0 if strict else 30.0)


# whether a relation holds of two objects, strictly or loosely
RELATIONS: dict[str, Callable[[Thing, Thing, bool], bool]] = {
    "above": lambda a, b, strict: _beyond(b.y - a.y, a.x - b.x, strict),
    "below": lambda a, b, strict: _beyond(a.y - b.y, b.x - a.x, strict),
    "left of": lambda a, b, strict: _beyond(b.x - a.x, a.y - b.y, strict),
    "right of": lambda a, b, strict: _beyond(a.x - b.x, b.y - a.y, strict),
    "next to": _near,
}

# how far inside a place a point of the unit square lies (negative: outside), as a share of the image
PLACES: dict[str, Callable[[float, float], float]] = {
    "left": lambda x, y: 0.5 - x,
    "right": lambda x, y: x - 0.5,
    "top": lambda x, y: 0.5 - y,
    "bottom": lambda x, y: y - 0.5,
    "top left": lambda x, y: min(0.5 - x, 0.5 - y),
    "top right": lambda x, y: min(x - 0.5, 0.5 - y),
    "bottom left": lambda x, y: min(0.5 - x, y - 0.5),
    "bottom right": lambda x, y: min(x - 0.5, y - 0.5),
    "middle": lambda x, y: 0.2 - max(abs(x - 0.5), abs(y - 0.5)),
}

# how far an object stands from a side, but for a constant
AXES: dict[str, Callable[[Thing], float]] = {
    "left": lambda thing: thing.x,
    "right": lambda thing: -thing.x,
    "top": lambda thing: thing.y,
    "bottom": lambda thing: -thing.y,
}


def holds(expression: Expression, scene: ShapeScene, index: int, strict: bool) -> bool:
    """Tell whether an expression is true of one object, as a (strict) speaker or generous listener says."""
    thing = scene.things[index]
    return (
        expression.noun.fits(thing)
        and _in_place(expression.place, scene, thing, strict)
        and _in_rank(expression, scene, index)
        and all(_related(relation, scene, index, strict) for relation in expression.relations)
    )


def denotes(expression: Expression, scene: ShapeScene, index: int) -> bool:
    """Tell whether an expression is strictly true of one object and not even loosely of any other."""
    return holds(expression, scene, index, strict=True) and not any(
        holds(expression, scene, other, strict=False) for other in range(len(scene.things)) if other != index
    )


def _in_place(place: str | None, scene: ShapeScene, thing: Thing, strict: bool) -> bool:
    if place is None:
        return True
    depth = PLACES[place](thing.x / scene.width, thing.y / scene.height)
    return depth > (0.08 if strict else -0.04)


def _in_rank(expression: Expression, scene: ShapeScene, index: int) -> bool:
    if expression.rank is None:
        return True
    axis, number = expression.rank
    key = AXES[axis]
    alike = sorted((thing for thing in scene.things if expression.noun.fits(thing)), key=key)
    places = [key(thing) for thing in alike]
    if len(alike) < 2 or any(after - before < 14 for before, after in pairwise(places)):
        return False  # nobody counts what is one, or stands in a heap
    return number <= len(alike) and alike[number - 1] is scene.things[index]


def _related(relation: Relation, scene: ShapeScene, index: int, strict: bool) -> bool:
    return any(
        relation.anchor.fits(other)
        and RELATIONS[relation.kind](scene.things[index], other, strict)
        and (relation.then is None or _related(relation.then, scene, j, strict))
        for j, other in enumerate(scene.things)
        if j != index
    )
