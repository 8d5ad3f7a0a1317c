"""Counting: areas, misses, failures and seconds of a run, exact over any number of processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gl_ris.errors import EvaluationError
from gl_ris.metrics import RISMetrics
from gl_ris.results import STAGES, Prediction, count_failures

_T = TypeVar("_T")


def gather_objects(value: _T) -> list[_T]:
    """Return the ``value`` of every process, in the order of ranks; each process must call this."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[_T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return cast("list[_T]", values)


def best_proposals(intersection: Tensor, union: Tensor) -> Tensor:
    """Find the proposal of highest IoU for each target: the choice of the upper bound.

    Args:
        intersection: int64 ``(N, R)`` of `gl_ris.masks.pairwise_areas`; ``N`` at least 1.
        union: int64 ``(N, R)``.

    Returns:
        int64 ``(R,)``; the first of equals.

    Example:
        >>> best_proposals(torch.tensor([[1], [2]]), torch.tensor([[4], [4]]))
        tensor([1])
    """
    return (intersection.double() / union.clamp(min=1)).argmax(dim=0)


class Stopwatch:
    """Seconds per stage of a run.

    Args:
        device: Work queued on it counts for the stage that queued it.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._started = self._mark = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time spent inside the block to ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.seconds[stage] += time.perf_counter() - start

    def mark(self) -> None:
        """Begin to wait, see `waited`."""
        self._mark = time.perf_counter()

    def waited(self, stage: str) -> None:
        """Add the time since `mark` to ``stage``."""
        self.seconds[stage] += time.perf_counter() - self._mark

    def stop(self) -> dict[str, float]:
        """Return the seconds of all stages; ``total`` is the time since the watch was made."""
        return {**self.seconds, "total": time.perf_counter() - self._started}


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a run over all processes.

    Attributes:
        methods: For each method its figures in percent, see `gl_ris.metrics.RISMetrics`.
        upper_bound: The same of choosing the best proposal each time.
        n_images: Images seen.
        n_evaluated: Expressions behind the figures.
        n_skipped: Expressions left out because the recipe says so.
        failures: How many expressions have no choice, by reason.
        seconds: Per stage, the mean over processes. What belongs to no stage is in ``total`` alone.
    """

    methods: dict[str, dict[str, float]]
    upper_bound: dict[str, float]
    n_images: int
    n_evaluated: int
    n_skipped: int
    failures: dict[str, int]
    seconds: dict[str, float]


class Tally(nn.Module):
    """What one process has counted so far; a module so that its counts live where the model does.

    Args:
        methods: Titles of the methods.
    """

    def __init__(self, methods: Sequence[str]) -> None:
        super().__init__()
        self.methods = list(methods)
        self._figures = RISMetrics(rows=len(methods) + 1)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._figures.reset()
        self._images = self._skipped = self._choices = 0
        self._failures: Counter[str] = Counter()

    def add_areas(self, areas: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Add expressions by intersection and union, int64 ``(E,)``: per method, then for the best choice.

        Raises:
            EvaluationError: The methods were given different numbers of expressions.
            ValueError: There are more or fewer pairs than that.
        """
        counts = {len(area) for pair in areas for area in pair}
        if len(counts) != 1:
            raise EvaluationError(f"The methods saw different numbers of expressions: {sorted(counts)}.")
        self._figures.update_areas(*(torch.stack(part) for part in zip(*areas, strict=True)))

    def add_scene(self, records: Iterable[Prediction], skipped: int = 0) -> None:
        """Add one image with its records; ``skipped`` of its expressions are not in the figures."""
        records = list(records)
        choices = sum(record.failure is None for record in records)
        self.add_counts(choices, count_failures(records), skipped)

    def add_counts(self, choices: int, failures: Mapping[str, int], skipped: int = 0) -> None:
        """Add one image by its numbers: choices made, expressions without a choice by reason, left out."""
        self._images += 1
        self._choices += choices
        self._failures.update(failures)
        self._skipped += skipped

    def compute(self, seconds: dict[str, float]) -> Evaluation:
        """Add up all processes; each of them must call this.

        Args:
            seconds: Of this process, see `Stopwatch.stop`.

        Raises:
            EvaluationError: There were expressions but not one choice.
        """
        count, computed = self._figures.compute_count(), self._figures.compute_rows()
        parts = gather_objects(((self._images, self._skipped, self._choices), self._failures, seconds))
        images, skipped, choices = map(sum, zip(*(part[0] for part in parts), strict=True))
        failures = sum((part[1] for part in parts), Counter[str]())
        if failures and not choices:
            reasons = "; ".join(f"{reason} ({count:,})" for reason, count in failures.most_common(3))
            raise EvaluationError(f"Not one expression could be evaluated: {reasons}.")
        return Evaluation(
            methods=dict(zip(self.methods, computed, strict=False)),
            upper_bound=computed[-1],
            n_images=images,
            n_evaluated=count,
            n_skipped=skipped,
            failures=dict(sorted(failures.items())),
            seconds={stage: sum(part[2][stage] for part in parts) / len(parts) for stage in STAGES},
        )
