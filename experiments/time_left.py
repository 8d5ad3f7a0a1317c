"""How long the cells of a sweep that are left may take, judged by those that are finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """What a finished cell took.

    Attributes:
        model: What was trained.
        refs: On how many refs.
        training: Seconds of training.
        rest: All other seconds: starting, evaluating, writing.
    """

    model: str
    refs: int
    training: float
    rest: float


def refs_of(k: int | str, available: Iterable[int]) -> int:
    """Return how many refs a subset has.

    Args:
        k: Refs of each class, or ``"all"``.
        available: How many refs each class has.

    Example:
        >>> refs_of(4, [10, 3, 0]), refs_of("all", [10, 3])
        (7, 13)
    """
    return sum(count if isinstance(k, str) else min(k, count) for count in available)


def seconds_left(finished: Sequence[Spent], left: Sequence[tuple[str, int]], at_once: int) -> float | None:
    """Estimate how long the cells that are left take.

    Training is taken to last as long per ref as in the finished cell of the same model whose number of refs
    is nearest; all else as long as in the finished cells of that model, on average. A model of which nothing
    is finished is taken for the others.

    Args:
        finished: The finished cells.
        left: Model and number of refs of the others.
        at_once: How many are carried out side by side.

    Returns:
        Seconds; None if nothing is finished.

    Example:
        >>> seconds_left([Spent("LAVT", 10, 20.0, 5.0)], [("LAVT", 40)], 1)
        85.0
    """
    if not finished:
        return None
    return sum(_seconds(finished, model, refs) for model, refs in left) / at_once


def _seconds(finished: Sequence[Spent], model: str, refs: int) -> float:
    own = [spent for spent in finished if spent.model == model] or list(finished)
    nearest = min(own, key=lambda spent: max(spent.refs, refs) / max(1, min(spent.refs, refs)))
    rest = sum(spent.rest for spent in own) / len(own)
    return nearest.training * refs / max(1, nearest.refs) + rest


def duration(seconds: float) -> str:
    """Write a duration as one reads it.

    Example:
        >>> duration(42.4), duration(600), duration(7_300)
        ('42 s', '10 min', '2 h 2 min')
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def spent_on(results: Mapping[str, object], wall: float | None) -> tuple[float, float]:
    """Return the seconds of training, and the others, of a cell.

    Args:
        results: Its results.
        wall: Seconds from its start to its end, where they are known.
    """
    training: dict[str, float] = results.get("training") or {}  # type: ignore[assignment]
    seconds: dict[str, float] = results["seconds"]  # type: ignore[assignment]
    trained = training.get("seconds", 0.0)
    return trained, seconds["total"] if wall is None else max(0.0, wall - trained)
