"""Scenes of RefShapes: which objects exist, and where they stand.

A scene is data alone; `draw.py` paints it and `language.py` speaks of it. Everything random comes from one
`random.Random`, whose stream Python keeps the same on every platform and version.
"""

import math
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

Size = Literal["small", "medium", "large"]

# sRGB values, 0 to 255
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (244, 134, 24),
    "yellow": (250, 212, 42),
    "green": (52, 158, 70),
    "blue": (38, 92, 212),
    "purple": (132, 52, 168),
    "pink": (244, 128, 184),
    "white": (248, 248, 248),
    "black": (30, 30, 34),
}

# the categories of the three REFER sets; a category's id is its place in `CATEGORIES` plus one
SEEN_CATEGORIES = (
    "circle", "oval", "semicircle", "square", "triangle", "diamond", "hexagon", "star",
    "cross", "heart", "moon", "drop", "arrow", "flower", "crown",
)  # fmt: skip
UNSEEN_CATEGORIES = ("bolt", "gear", "house", "fish", "tree")  # occur in the PhraseCut-style set only
CATEGORIES = SEEN_CATEGORIES + UNSEEN_CATEGORIES
# targets of testA; the other seen categories, with straight edges, are the targets of testB
CURVED_CATEGORIES = frozenset({"circle", "oval", "semicircle", "heart", "moon", "drop", "flower"})

SEEN_FILLS = ("solid", "striped", "dotted")
UNSEEN_FILLS = ("checkered", "hollow")  # occur in the PhraseCut-style set only
FILLS = SEEN_FILLS + UNSEEN_FILLS

# of an object in pixels, by size; the gaps keep the size words beyond dispute
RADIUS: dict[Size, tuple[float, float]] = {
    "small": (20.0, 23.0),
    "medium": (29.0, 33.0),
    "large": (41.0, 47.0),
}

CANVASES = ((240, 192), (216, 216), (192, 240))  # widths and heights of the images, in pixels


@dataclass(frozen=True)
class Thing:
    """One object of a scene."""

    category: str  # one of `CATEGORIES`
    color: str  # one of `COLORS`
    fill: str  # one of `FILLS`
    size: Size  # the class that `radius` lies in
    x: float  # centre, in pixels from the left edge of the image
    y: float  # centre, in pixels from the top edge of the image
    radius: float  # half the extent of the object, in pixels
    angle: float  # rotation in degrees, small enough that no category turns into another


@dataclass(frozen=True)
class ShapeScene:
    """A scene: its objects in the order they are painted, later ones over earlier ones."""

    width: int  # of the image, in pixels
    height: int  # of the image, in pixels
    things: tuple[Thing, ...]  # the objects
    background: int  # seed of the background's look


@dataclass(frozen=True)
class Vocabulary:
    """What a sampled scene may hold."""

    categories: tuple[str, ...] = SEEN_CATEGORIES
    fills: tuple[str, ...] = SEEN_FILLS


SEEN = Vocabulary()
EVERYTHING = Vocabulary(CATEGORIES, FILLS)


def sample_scene(rng: Random, count: int, vocabulary: Vocabulary = SEEN) -> ShapeScene:
    """Sample a scene in which naming the category is mostly not enough.

    From three objects on, two or three share a category, and often a colour or fill as well. Objects overlap
    by a small part of the smaller one at most; where no free place is found for the last ones the scene holds
    fewer than ``count``, but never less than one.
    """
    width, height = rng.choice(CANVASES)
    looks = _sample_looks(rng, count, vocabulary)
    things: list[Thing] = []
    for category, color, fill, size in sorted(looks, key=lambda look: -RADIUS[look[3]][0]):
        placed = _place(rng, width, height, things, Thing(category, color, fill, size, 0, 0, 0, 0))
        if placed is not None:
            things.append(placed)
    rng.shuffle(things)
    return ShapeScene(width, height, tuple(things), rng.getrandbits(32))


def _sample_looks(rng: Random, count: int, vocabulary: Vocabulary) -> list[tuple[str, str, str, Size]]:
    colors, sizes = tuple(COLORS), tuple(RADIUS)

    def look(category: str) -> tuple[str, str, str, Size]:
        return category, rng.choice(colors), rng.choice(vocabulary.fills), rng.choice(sizes)

    looks = [look(rng.choice(vocabulary.categories)) for _ in range(count)]
    twins = 0 if count < 3 else rng.choice((1, 1, 2, 2)) if count > 3 else 1
    category, color, fill, _ = looks[0]
    for k in range(1, 1 + twins):
        _, other_color, other_fill, size = look(category)
        color_here = color if rng.random() < 0.5 else other_color
        looks[k] = (category, color_here, fill if rng.random() < 0.5 else other_fill, size)
    if count > 4 and rng.random() < 0.5:
        looks[4] = (looks[3][0], *looks[4][1:])
    return looks


def _place(rng: Random, width: int, height: int, others: list[Thing], thing: Thing) -> Thing | None:
    low, high = RADIUS[thing.size]
    for _ in range(60):
        radius = rng.uniform(low, high)
        x = rng.uniform(radius + 2, width - radius - 2)
        y = rng.uniform(radius + 2, height - radius - 2)
        clearance = rng.choice((0.9, 1.0, 1.05, 1.1))
        if all(math.hypot(x - o.x, y - o.y) > clearance * (radius + o.radius) for o in others):
            return replace(thing, x=x, y=y, radius=radius, angle=rng.uniform(-14, 14))
    return None
