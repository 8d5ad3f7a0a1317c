"""What is counted of one set of expressions, exact over any number of processes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch.distributed as dist
from torch import Tensor, nn

from gl_ris.metrics import RISMetrics

_T = TypeVar("_T")


def gather_objects(value: _T) -> list[_T]:
    """Return the ``value`` of every process, in the order of ranks; each process must call this."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[_T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return cast("list[_T]", values)


@dataclass(frozen=True)
class Figures:
    """The figures of all methods on one set of expressions, over all processes.

    Attributes:
        methods: For each method its figures in percent, see `gl_ris.metrics.RISMetrics`; nan without an
            expression.
        upper_bound: The same of choosing the best proposal each time; nan where there is nothing to choose.
        n_images: Images with one of the expressions.
        n_evaluated: Expressions behind the figures.
        n_skipped: Expressions left out because the recipe says so.
        failures: How many expressions have no choice, by reason.
    """

    methods: dict[str, dict[str, float]]
    upper_bound: dict[str, float]
    n_images: int
    n_evaluated: int
    n_skipped: int
    failures: dict[str, int]


class Count(nn.Module):
    """What one process has counted so far of one set of expressions.

    Args:
        rows: Count of methods, with the upper bound if there is one.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._figures = RISMetrics(rows=rows)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._figures.reset()
        self._images = self._skipped = self._choices = 0
        self._failures: Counter[str] = Counter()

    def add_areas(self, intersection: Tensor, union: Tensor) -> None:
        """Add expressions by areas, int64 ``(rows, E)``; ``E`` may be 0."""
        self._figures.update_areas(intersection, union)

    def add_image(self, choices: int, failures: Mapping[str, int], skipped: int = 0) -> None:
        """Add an image: choices made, expressions without a choice by reason, expressions left out."""
        self._images += 1
        self._choices += choices
        self._failures.update(failures)
        self._skipped += skipped

    def compute(self, methods: Sequence[str]) -> tuple[Figures, int]:
        """Add up all processes; each of them must call this.

        Args:
            methods: Titles of the methods.

        Returns:
            The figures, and how many choices were made by all methods.
        """
        evaluated = self._figures.compute_count()
        # Without an expression there is nothing to compute, and torchmetrics would warn of it.
        computed = self._figures.compute_rows() if evaluated else self._figures.no_rows()
        bound = computed[-1] if len(computed) > len(methods) else dict.fromkeys(computed[0], math.nan)
        parts = gather_objects(((self._images, self._skipped, self._choices), self._failures))
        images, skipped, choices = map(sum, zip(*(part[0] for part in parts), strict=True))
        failures = sum((part[1] for part in parts), Counter[str]())
        figures = Figures(
            methods=dict(zip(methods, computed, strict=False)),
            upper_bound=bound,
            n_images=images,
            n_evaluated=evaluated,
            n_skipped=skipped,
            failures=dict(sorted(failures.items())),
        )
        return figures, choices
