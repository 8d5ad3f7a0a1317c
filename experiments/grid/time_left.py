"""How long the cells of a sweep that are left may take, judged by those that are finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.run.training import TrainingSettings


@dataclass(frozen=True)
class Spent:
    """What a finished cell took.

    Attributes:
        model: What was trained.
        steps: In how many steps.
        training: Seconds of training.
        rest: All other seconds: starting, evaluating, writing.
    """

    model: str
    steps: int
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


def steps_of(settings: Mapping[str, Any], refs: int) -> int:
    """Return how many steps a cell takes.

    Args:
        settings: Of a cell of the same model.
        refs: How many refs the cell in question learns from.
    """
    training, own = TrainingSettings(**settings["training"]), settings["model"]["baseline"]["init_args"]
    each = max(1, refs // min(training.batch_size or own["batch_size"], max(1, refs)))
    return each * training.length(each, own["epochs"])


def seconds_left(finished: Sequence[Spent], left: Sequence[tuple[str, int]], at_once: int) -> float | None:
    """Estimate how long the cells that are left take.

    Training is taken to last as long per step as in the finished cell of the same model whose number of steps
    is nearest; all else as long as in the finished cells of that model, on average. A model of which nothing
    is finished is taken for the others.

    Args:
        finished: The finished cells.
        left: Model and number of steps of the others.
        at_once: How many are carried out side by side.

    Returns:
        Seconds; None if nothing is finished.

    Example:
        >>> seconds_left([Spent("LAVT", 10, 20.0, 5.0)], [("LAVT", 40)], 1)
        85.0
    """
    if not finished:
        return None
    return sum(_seconds(finished, model, steps) for model, steps in left) / at_once


def _seconds(finished: Sequence[Spent], model: str, steps: int) -> float:
    own = [spent for spent in finished if spent.model == model] or list(finished)
    nearest = min(own, key=lambda spent: max(spent.steps, steps) / max(1, min(spent.steps, steps)))
    rest = sum(spent.rest for spent in own) / len(own)
    return nearest.training * steps / max(1, nearest.steps) + rest


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
