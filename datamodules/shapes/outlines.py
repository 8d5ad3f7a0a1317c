"""Outlines of the shape categories, as polygons in a unit frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

Polygon = list[tuple[float, float]]


def _polar(radius: Callable[[float], float], steps: int = 72) -> Polygon:
    turns = [2 * math.pi * i / steps for i in range(steps)]
    return [(radius(t) * math.sin(t), -radius(t) * math.cos(t)) for t in turns]


def _regular(corners: int, turn: float = 0.0) -> Polygon:
    angles = [2 * math.pi * i / corners + turn for i in range(corners)]
    return [(math.sin(a), -math.cos(a)) for a in angles]


def _star() -> Polygon:
    turns = [(1.0 if i % 2 == 0 else 0.42, i * math.pi / 5) for i in range(10)]
    return [(radius * math.sin(t), -radius * math.cos(t)) for radius, t in turns]


def _heart() -> Polygon:
    def height(t: float) -> float:
        return -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15.5

    return [(math.sin(t) ** 3, height(t)) for t in (2 * math.pi * i / 72 for i in range(72))]


def _moon() -> Polygon:
    outer = [(-math.sin(t), -math.cos(t)) for t in (math.pi * (i / 24 * 1.24 - 0.12) for i in range(25))]
    inner = [(0.36 - 0.80 * math.sin(t), 0.80 * math.cos(t)) for t in (math.pi * (i / 20) for i in range(21))]
    return [(x + 0.32, y) for x, y in outer + inner]


def _drop() -> Polygon:
    turns = [math.radians(62 + i * 236 / 40) for i in range(41)]
    return [(0.0, -1.0), *((0.68 * math.sin(t), 0.32 - 0.68 * math.cos(t)) for t in turns)]


def _semicircle() -> Polygon:
    return [(math.cos(t), 0.5 - math.sin(t)) for t in (math.pi * i / 36 for i in range(37))]


def _fish() -> Polygon:
    turns = [math.radians(28 + i * 304 / 40) for i in range(41)]
    body = [(-0.25 + 0.75 * math.cos(t), 0.5 * math.sin(t)) for t in turns]
    return [*body, (1.0, -0.6), (0.82, 0.0), (1.0, 0.6)]


def _gear(turn: float) -> float:
    return 1.0 if (turn * 8 / (2 * math.pi)) % 1.0 < 0.5 else 0.72


_OUTLINES: dict[str, Callable[[], Polygon]] = {
    "circle": lambda: _polar(lambda _: 0.94),
    "oval": lambda: [(1.08 * x, 0.58 * y) for x, y in _polar(lambda _: 1.0)],
    "semicircle": _semicircle,
    "square": lambda: [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": lambda: [(0.0, -0.95), (1.0, 0.78), (-1.0, 0.78)],
    "diamond": lambda: [(0.0, -1.05), (0.72, 0.0), (0.0, 1.05), (-0.72, 0.0)],
    "hexagon": lambda: _regular(6, math.pi / 6),
    "star": _star,
    "cross": lambda: [
        (-0.32, -1.0), (0.32, -1.0), (0.32, -0.32), (1.0, -0.32), (1.0, 0.32), (0.32, 0.32),
        (0.32, 1.0), (-0.32, 1.0), (-0.32, 0.32), (-1.0, 0.32), (-1.0, -0.32), (-0.32, -0.32),
    ],
    "heart": _heart,
    "moon": _moon,
    "drop": _drop,
    "arrow": lambda: [
        (-1.0, -0.3), (0.1, -0.3), (0.1, -0.8), (1.0, 0.0), (0.1, 0.8), (0.1, 0.3), (-1.0, 0.3),
    ],
    "flower": lambda: _polar(lambda t: 0.76 + 0.24 * math.cos(6 * t), 96),
    "crown": lambda: [
        (-0.9, 0.75), (-1.0, -0.75), (-0.45, -0.05), (0.0, -0.9), (0.45, -0.05), (1.0, -0.75), (0.9, 0.75),
    ],
    "bolt": lambda: [
        (0.25, -1.0), (-0.6, 0.15), (-0.1, 0.15), (-0.3, 1.0), (0.6, -0.25), (0.1, -0.25), (0.55, -1.0),
    ],
    "gear": lambda: _polar(_gear, 160),
    "house": lambda: [
        (0.0, -1.0), (1.0, -0.15), (0.72, -0.15), (0.72, 0.85), (-0.72, 0.85), (-0.72, -0.15), (-1.0, -0.15),
    ],
    "fish": _fish,
    "tree": lambda: [
        (0.0, -1.0), (0.55, -0.3), (0.3, -0.3), (0.8, 0.4), (0.18, 0.4), (0.18, 1.0),
        (-0.18, 1.0), (-0.18, 0.4), (-0.8, 0.4), (-0.3, -0.3), (-0.55, -0.3),
    ],
}  # fmt: skip


@cache
def outline(category: str) -> tuple[tuple[float, float], ...]:
    """Give the outline of a category.

    Args:
        category: One of `datamodules.shapes.world.CATEGORIES`.

    Returns:
        Corners ``(x, y)``, y pointing down, roughly within the unit circle; without holes.

    Raises:
        KeyError: The category has no outline.
    """
    return tuple(_OUTLINES[category]())
