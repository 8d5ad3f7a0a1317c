"""Where a curve over k crosses a level: from how many refs on a trained model beats one without training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Point:
    """One k of a curve.

    Attributes:
        name: The k as it was asked for, e.g. "16" or "all".
        place: Refs of each class, where it stands on a logarithmic axis.
        value: The figure; None if it has not been measured.
    """

    name: str
    place: float
    value: float | None


@dataclass(frozen=True)
class Crossing:
    """How a curve lies to a level.

    Attributes:
        start: Whether the first point measured is ``"above"`` (or at the level) or ``"below"``; None if no
            point was measured.
        last: Name of the last point measured.
        below: Name of the point before the first crossing upwards; None if there is none.
        above: Name of the point behind it, the first at or above the level.
        place: Where the line between the two, drawn over the logarithm of k, meets the level; None without a
            crossing, or if the two stand in one place.
        falls: Names of the points at which the curve comes from above to below.
        rises: How often it comes from below to above.
        missing: Names of the points between the first and the last that were not measured.
    """

    start: str | None = None
    last: str | None = None
    below: str | None = None
    above: str | None = None
    place: float | None = None
    falls: tuple[str, ...] = ()
    rises: int = 0
    missing: tuple[str, ...] = ()


def find_crossing(points: Sequence[Point], level: float) -> Crossing:
    """Find the first crossing upwards of a curve, and what else is to be said of it.

    A point exactly at the level counts as above it. Points without a value are left out.

    Args:
        points: The curve, from the smallest k to the largest.
        level: The figure to compare with.

    Example:
        >>> found = find_crossing([Point("1", 1, 10.0), Point("4", 4, None), Point("16", 16, 30.0)], 20.0)
        >>> found.below, found.above, found.place, found.missing
        ('1', '16', 4.0, ('4',))
    """
    measured = [point for point in points if point.value is not None]
    if not measured:
        return Crossing()
    pairs = list(pairwise(measured))
    up = [(a, b) for a, b in pairs if not _is_above(a, level) and _is_above(b, level)]
    falls = tuple(b.name for a, b in pairs if _is_above(a, level) and not _is_above(b, level))
    names = [point.name for point in points]
    between = points[names.index(measured[0].name) : names.index(measured[-1].name)]
    return Crossing(
        start="above" if _is_above(measured[0], level) else "below",
        last=measured[-1].name,
        below=up[0][0].name if up else None,
        above=up[0][1].name if up else None,
        place=_meeting(*up[0], level) if up else None,
        falls=falls,
        rises=len(up),
        missing=tuple(point.name for point in between if point.value is None),
    )


def _is_above(point: Point, level: float) -> bool:
    return point.value is not None and point.value >= level


def _meeting(below: Point, above: Point, level: float) -> float | None:
    """Return where the line between two points over log k meets the level."""
    assert below.value is not None
    assert above.value is not None
    if not above.place > below.place:
        return None
    part = (level - below.value) / (above.value - below.value)
    return math.exp((1 - part) * math.log(below.place) + part * math.log(above.place))


def sentence(model: str, method: str, level: float, points: Sequence[Point]) -> str:
    """Say in a sentence how the curve of a model lies to the line of a method.

    Example:
        >>> points = [Point("16", 16, 50.0), Point("64", 64, 70.0)]
        >>> sentence("CRIS", "Random", 60.0, points)
        'CRIS crosses Random (60.00) between k=16 and k=64, at about k=32 (linear in log k between means).'
        >>> sentence("CRIS", "Random", 80.0, points)
        'CRIS stays below Random (80.00) at every k up to 64.'
    """
    found = find_crossing(points, level)
    line = f"{method} ({level:.2f})"
    if found.start is None:
        return f"{model} has no figure to compare with {line}."
    gaps = f" Not measured: k={', '.join(found.missing)}." if found.missing else ""
    return f"{model} {_course(found, line, points[0].name)}.{gaps}"


def _course(found: Crossing, line: str, first: str) -> str:
    if found.above is None and not found.falls:
        if first == found.last:
            return f"is {found.start} {line} at k={first}"
        if found.start == "above":
            return f"is above {line} at every k from {first}"
        return f"stays below {line} at every k up to {found.last}"
    if found.above is None:
        return f"is above {line} at first, but below from k={found.falls[0]} on"
    told = f"crosses {line} between k={found.below} and k={found.above}{_about(found)}"
    if found.start == "above":
        told = f"is above {line} at first, falls below at k={found.falls[0]}, and {told}"
    if found.rises + len(found.falls) > 1:
        told += f"; the curve crosses more than once (below again at k={', '.join(found.falls)})"
    return told


def _about(found: Crossing) -> str:
    if found.place is None:
        return ""
    rounded = f"{found.place:.0f}" if found.place >= 9.95 else f"{found.place:.1f}"
    return f", at about k={rounded} (linear in log k between means)"
