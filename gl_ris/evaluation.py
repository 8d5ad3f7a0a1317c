"""Counting: areas, misses, failures and seconds of a run, exact over any number of processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from gl_ris.counting import Count, Figures, gather_objects
from gl_ris.errors import EvaluationError
from gl_ris.results import STAGES, Prediction, count_failures
from gl_ris.subsets import check_subset_name


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
class Evaluation(Figures):
    """The outcome of a run over all processes: the figures of all expressions, and of subsets of them.

    Attributes:
        seconds: Per stage, the mean over processes. What belongs to no stage is in ``total`` alone.
        subsets: Figures by name of the subset; empty where the data have none.
    """

    seconds: dict[str, float]
    subsets: dict[str, Figures] = field(default_factory=dict)


class Tally(nn.Module):
    """What one process has counted so far; a module so that its counts live where the model does.

    Args:
        methods: Titles of the methods.
        bounded: Whether areas of a best choice come after those of the methods.
    """

    def __init__(self, methods: Sequence[str], bounded: bool = True) -> None:
        super().__init__()
        self.methods, self.bounded = list(methods), bounded
        self._all = self._new()
        self._subsets = nn.ModuleDict()

    def _new(self) -> Count:
        return Count(len(self.methods) + self.bounded)

    def reset(self) -> None:
        """Forget everything."""
        self._all.reset()
        self._subsets = nn.ModuleDict()

    def subset(self, name: str) -> Count:
        """Return the count of a subset, begun when it is first asked for."""
        if name not in self._subsets:
            self._subsets[check_subset_name(name)] = self._new()
        return cast("Count", self._subsets[name])

    def add_areas(
        self, areas: Sequence[tuple[Tensor, Tensor]], subsets: Mapping[str, Tensor] | None = None
    ) -> None:
        """Add expressions by intersection and union.

        Args:
            areas: int64 ``(E,)`` each: per method, then for the best choice if there is one.
            subsets: By name, bool ``(E,)``: the expressions of the subset.

        Raises:
            EvaluationError: The methods were given different numbers of expressions.
            ValueError: There are more or fewer pairs than that, or a subset has another name than it may.
        """
        counts = {len(area) for pair in areas for area in pair}
        if len(counts) != 1:
            raise EvaluationError(f"The methods saw different numbers of expressions: {sorted(counts)}.")
        intersection, union = (torch.stack(part) for part in zip(*areas, strict=True))
        self._all.add_areas(intersection, union)
        for name, members in (subsets or {}).items():
            # The states of a new count are on the CPU.
            self.subset(name).to(union.device).add_areas(intersection[:, members], union[:, members])

    def add_scene(
        self, records: Iterable[Prediction], skipped: bool = False, subsets: Iterable[str] = ()
    ) -> None:
        """Add one image with its records.

        Args:
            records: Of every expression and method.
            skipped: Whether the expressions are left out of the figures.
            subsets: Names of the data's subsets; the records know which of them they are in.
        """
        records = list(records)
        self._add(self._all, records, skipped)
        for name in subsets:
            self._add(self.subset(name), [item for item in records if name in (item.subsets or ())], skipped)

    def _add(self, count: Count, records: Sequence[Prediction], skipped: bool) -> None:
        if records or count is self._all:
            choices = sum(record.failure is None for record in records)
            left_out = len(records) // len(self.methods) if skipped else 0
            count.add_image(choices, count_failures(records), left_out)

    def add_counts(self, choices: int, failures: Mapping[str, int], skipped: int = 0) -> None:
        """Add one image by its numbers: choices made, expressions without a choice by reason, left out."""
        self._all.add_image(choices, failures, skipped)

    def compute(self, seconds: dict[str, float]) -> Evaluation:
        """Add up all processes; each of them must call this.

        Args:
            seconds: Of this process, see `Stopwatch.stop`.

        Raises:
            EvaluationError: There were expressions but not one choice.
        """
        figures, choices = self._all.compute(self.methods)
        parts = gather_objects((seconds, list(self._subsets)))
        names = dict.fromkeys(name for part in parts for name in part[1])
        subsets = {name: self.subset(name).compute(self.methods)[0] for name in names}
        if figures.failures and not choices:
            most = Counter(figures.failures).most_common(3)
            reasons = "; ".join(f"{reason} ({count:,})" for reason, count in most)
            raise EvaluationError(f"Not one expression could be evaluated: {reasons}.")
        return Evaluation(
            **vars(figures),
            seconds={stage: sum(part[0][stage] for part in parts) / len(parts) for stage in STAGES},
            subsets=subsets,
        )
