"""The figures of referring segmentation as torchmetrics: overall IoU, mean IoU, precision at IoU.

The states are int64 sums over samples, so any order and any sharding of the samples give the same figures bit
for bit, and no conversion of the module's precision touches them. `gl_ris.iou` defines the figures and the
sample that is empty on both sides (IoU 0); with no sample at all they are nan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from gl_ris.iou import (
    checked_areas,
    exact_threshold,
    hit_sums,
    mask_areas,
    mean_from_sums,
    mean_iou,
    mean_sums,
    overall_from_sums,
    overall_iou,
    overall_sums,
    precision_at_iou,
    precision_from_sums,
    sample_iou,
)

__all__ = [
    "MeanIoU",
    "OverallIoU",
    "PrecisionAtIoU",
    "RISMetrics",
    "mask_areas",
    "mean_iou",
    "overall_iou",
    "precision_at_iou",
    "sample_iou",
]


class _AreaMetric(Metric):
    """A metric over (intersection, union) pairs whose states are int64 sums.

    Args:
        rows: None for one figure of all samples; a number for so many figures at once, of areas
            ``(rows, samples)``, as fast as one.
        **kwargs: Those of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound: float | None = 1.0
    _states: ClassVar[tuple[str, ...]]

    def __init__(self, rows: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows, self._dim = rows, None if rows is None else -1
        for state in self._states:
            shape = () if rows is None or state == "count" else (rows,)
            self.add_state(state, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the samples of two bool masks ``(..., H, W)``; see `mask_areas` for the errors."""
        self._accumulate(*checked_areas(*mask_areas(prediction, target)))

    def update_areas(self, intersection: Tensor, union: Tensor) -> None:
        """Add samples by their areas: integers of one shape, pixels; see `overall_iou` for the errors."""
        self._accumulate(*checked_areas(intersection, union))
        # what torchmetrics' wrapper around `update` does
        self._computed = None
        self._update_count += 1

    def _accumulate(self, intersection: Tensor, union: Tensor) -> None:
        if self.rows is not None and (intersection.ndim != 2 or len(intersection) != self.rows):
            raise ValueError(f"Areas must be ({self.rows}, samples), got {tuple(intersection.shape)}.")
        for state, more in zip(self._states, self._sums(intersection, union), strict=True):
            setattr(self, state, getattr(self, state) + more)

    def _sums(self, intersection: Tensor, union: Tensor) -> tuple[Tensor | int, ...]:
        raise NotImplementedError

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot a value, several values, or by default the present one (needs matplotlib)."""
        return self._plot(val, ax)


class OverallIoU(_AreaMetric):
    """Overall IoU in [0, 1] as a float64 scalar; the stateful `overall_iou`.

    Args:
        rows: A number for so many figures at once, float64 ``(rows,)``, of areas ``(rows, samples)``.
        **kwargs: Those of `torchmetrics.Metric`.

    Example:
        >>> metric = OverallIoU()
        >>> metric.update(torch.tensor([[True, True]]), torch.tensor([[True, False]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    _states = ("intersection", "union", "count")
    intersection: Tensor
    union: Tensor
    count: Tensor

    def _sums(self, intersection: Tensor, union: Tensor) -> tuple[Tensor | int, ...]:
        return overall_sums(intersection, union, self._dim)

    def compute(self) -> Tensor:
        """Overall IoU of every sample so far, over all processes; nan (with a warning) if there is none."""
        return overall_from_sums(self.intersection, self.union, self.count)


class MeanIoU(_AreaMetric):
    """Mean IoU over samples in [0, 1] as a float64 scalar, to 2**-33; the stateful `mean_iou`.

    Unlike `torchmetrics.segmentation.MeanIoU`, a sample with an empty union counts, with IoU 0.

    Args:
        rows: A number for so many figures at once, float64 ``(rows,)``, of areas ``(rows, samples)``.
        **kwargs: Those of `torchmetrics.Metric`.

    Example:
        >>> metric = MeanIoU()
        >>> metric.update_areas(torch.tensor([1, 3]), torch.tensor([4, 4]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    _states = ("iou_sum", "count")
    iou_sum: Tensor
    count: Tensor

    def _sums(self, intersection: Tensor, union: Tensor) -> tuple[Tensor | int, ...]:
        return mean_sums(intersection, union, self._dim)

    def compute(self) -> Tensor:
        """Mean IoU of every sample so far, over all processes; nan (with a warning) if there is none."""
        return mean_from_sums(self.iou_sum, self.count)


class PrecisionAtIoU(_AreaMetric):
    """Fraction of samples with IoU >= threshold, as a float64 scalar; the stateful `precision_at_iou`.

    Args:
        threshold: In (0, 1], at most nine decimals; a sample exactly on it is a hit.
        rows: A number for so many figures at once, float64 ``(rows,)``, of areas ``(rows, samples)``.
        **kwargs: Those of `torchmetrics.Metric`.

    Raises:
        ValueError: If the threshold is out of range.

    Example:
        >>> metric = PrecisionAtIoU(0.7)
        >>> metric.update_areas(torch.tensor([7, 6]), torch.tensor([10, 10]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    _states = ("hits", "count")
    hits: Tensor
    count: Tensor

    def __init__(self, threshold: float = 0.5, rows: int | None = None, **kwargs: Any) -> None:
        super().__init__(rows, **kwargs)
        self.threshold = threshold
        self._ratio = exact_threshold(threshold)

    def _sums(self, intersection: Tensor, union: Tensor) -> tuple[Tensor | int, ...]:
        return hit_sums(intersection, union, *self._ratio, dim=self._dim)

    def compute(self) -> Tensor:
        """Precision over every sample so far, over all processes; nan (with a warning) if there is none."""
        return precision_from_sums(self.hits, self.count)


class _SampleCount(_AreaMetric):
    """How many samples there were."""

    _states = ("count",)
    plot_upper_bound = None
    count: Tensor

    def _sums(self, intersection: Tensor, union: Tensor) -> tuple[Tensor | int, ...]:
        return (intersection.shape[-1] if self.rows is not None else intersection.numel(),)

    def compute(self) -> Tensor:
        return self.count


class RISMetrics(nn.Module):
    """All figures of one method on one split, or of many methods at once, in percent.

    Args:
        thresholds: Of the precisions, each in (0, 1] with at most nine decimals.
        rows: None for one method; a number for so many, of areas ``(rows, samples)``.

    Raises:
        ValueError: If a threshold is out of range.

    Example:
        >>> metrics = RISMetrics(thresholds=(0.5,))
        >>> metrics.update_areas(torch.tensor([1, 3]), torch.tensor([4, 4]))
        >>> metrics.compute()
        {'oIoU': 50.0, 'mIoU': 50.0, 'Pr@0.5': 50.0}
    """

    def __init__(
        self, thresholds: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9), rows: int | None = None
    ) -> None:
        super().__init__()
        self._rows = 1 if rows is None else rows
        self._names = ["oIoU", "mIoU", *(f"Pr@{threshold}" for threshold in thresholds)]
        precisions = (PrecisionAtIoU(threshold, rows) for threshold in thresholds)
        self._figures = nn.ModuleList([OverallIoU(rows), MeanIoU(rows), *precisions])
        self._count = _SampleCount(rows)

    def _metrics(self) -> Iterator[_AreaMetric]:
        yield from cast("Iterable[_AreaMetric]", self._figures)
        yield self._count

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the samples of two bool masks ``(..., H, W)``; see `gl_ris.iou.mask_areas` for the errors."""
        self.update_areas(*mask_areas(prediction, target))

    def update_areas(self, intersection: Tensor, union: Tensor) -> None:
        """Add samples by their areas: integers of one shape, pixels; see `overall_iou` for the errors."""
        for metric in self._metrics():
            metric.update_areas(intersection, union)

    def compute(self) -> dict[str, float]:
        """Compute every figure of the one method over all processes; each of them must call this.

        Returns:
            ``{"oIoU", "mIoU", "Pr@0.5", ...}`` in percent; nan (with a warning) if there is no sample.
        """
        (figures,) = self.compute_rows()
        return figures

    def compute_rows(self) -> list[dict[str, float]]:
        """Compute what `compute` does, method by method."""
        metrics = list(self._metrics())[:-1]  # without the count, which comes last
        columns = [(100 * metric.compute()).reshape(-1).tolist() for metric in metrics]
        return [dict(zip(self._names, row, strict=True)) for row in zip(*columns, strict=True)]

    def no_rows(self) -> list[dict[str, float]]:
        """Return what `compute_rows` gives without a sample: nan for every figure."""
        return [dict.fromkeys(self._names, math.nan) for _ in range(self._rows)]

    @property
    def count(self) -> int:
        """Samples that this process has added."""
        return int(self._count.count)

    def compute_count(self) -> int:
        """Count the samples behind `compute`, over all processes; each of them must call this."""
        return int(self._count.compute())

    def reset(self) -> None:
        """Forget every sample."""
        for metric in self._metrics():
            metric.reset()
