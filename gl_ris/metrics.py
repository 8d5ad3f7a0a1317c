"""How well masks cover their targets: IoU, overall, mean, at thresholds, GRES; functions and torchmetrics.

One sample is one expression: the intersection I and the union U, in pixels, of its prediction and its target.
Prediction and target both empty (I = U = 0) is a sample of IoU 0, a miss, as in the published evaluation;
with no sample at all a figure is nan. All sums are int64, so any order and any sharding of the samples give
the same figures bit for bit, and no conversion of a module's precision touches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from gl_ris.bits import count, pack

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
# Mean IoU sums each sample's IoU rounded to the nearest multiple of 2**-32: a mean is off by at most
# 2**-33 (1.2e-8 percentage points), and the sum has room for 2**31 samples.
_IOU_BITS = 32
_AREA_LIMIT = 1 << 31  # I * 2**32 and I * denominator must fit int64.


def mask_areas(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Count the pixels that prediction and target share and that they cover together, both int64 ``(...)``.

    Both are bool ``(..., H, W)`` of one shape: `TypeError` if either is not bool, `ValueError` if the shapes
    differ or lack height and width.

    Example:
        >>> mask_areas(torch.tensor([[True, True]]), torch.tensor([[True, False]]))
        (tensor(1), tensor(2))
    """
    if prediction.dtype != torch.bool or target.dtype != torch.bool:
        raise TypeError(f"Masks must be bool, got prediction {prediction.dtype} and target {target.dtype}.")
    if prediction.shape != target.shape or prediction.ndim < 2:
        raise ValueError(
            "Prediction and target must have one shape (..., H, W), "
            f"got {tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    if prediction.device.type == target.device.type == "cpu":
        own, other = pack(prediction), pack(target)
        return torch.as_tensor(count(own & other)), torch.as_tensor(count(own | other))
    return (prediction & target).sum(dim=(-2, -1)), (prediction | target).sum(dim=(-2, -1))


def sample_iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Compute each sample's own IoU, float64 of the shape of the areas, in [0, 1]; 0 where U = 0.

    Arguments and errors are those of `area_sums`.

    Example:
        >>> sample_iou(torch.tensor([1, 0]), torch.tensor([4, 0])).tolist()
        [0.25, 0.0]
    """
    intersection, union = checked_areas(intersection, union)
    return _float64(intersection) / _float64(union.clamp(min=1))


def checked_areas(intersection: Tensor, union: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas as int64, or raise the errors of `area_sums`."""
    for areas in (intersection, union):
        if areas.is_floating_point() or areas.is_complex() or areas.dtype == torch.bool:
            raise TypeError(f"Areas must be integers (pixels), got {areas.dtype}.")
    if intersection.shape != union.shape:
        raise ValueError(
            "Intersection and union must have one shape, "
            f"got {tuple(intersection.shape)} and {tuple(union.shape)}."
        )
    intersection, union = intersection.long(), union.long()
    if bool(((intersection < 0) | (intersection > union) | (union >= _AREA_LIMIT)).any()):
        raise ValueError("Areas must satisfy 0 <= intersection <= union < 2**31 pixels.")
    return intersection, union


def exact_threshold(threshold: float) -> tuple[int, int]:
    """Read a threshold as the (numerator, denominator) that its shortest decimal says.

    `ValueError` if it is not in (0, 1] or has more than nine decimals.
    """
    try:
        numerator, denominator = Decimal(str(threshold)).as_integer_ratio()
    except (InvalidOperation, ValueError, OverflowError):
        numerator, denominator = 0, 1
    if not 0 < numerator <= denominator or denominator >= _AREA_LIMIT:
        raise ValueError(f"An IoU threshold must be in (0, 1] with at most nine decimals, got {threshold!r}.")
    return numerator, denominator


class AreaSums(NamedTuple):
    """What all figures are made of: int64, summed over samples, in ``(...)`` an entry for each row of them.

    Example:
        >>> area_sums(torch.tensor([1, 3]), torch.tensor([4, 4])).overall()
        tensor(0.5000, dtype=torch.float64)
    """

    intersection: Tensor  # (...), pixels.
    union: Tensor  # (...), pixels.
    iou: Tensor  # (...), each sample's IoU in units of 2**-32.
    hits: Tensor  # (..., T), samples at or over each threshold.
    samples: Tensor  # A scalar.

    def plus(self, other: AreaSums) -> AreaSums:
        """Add the sums of other samples."""
        return AreaSums(*(own + more for own, more in zip(self, other, strict=True)))

    def overall(self) -> Tensor:
        """Overall IoU, float64 ``(...)``: 0 if all unions are empty, nan if there is no sample."""
        value = _float64(self.intersection) / _float64(self.union.clamp(min=1))
        return value if self.samples else torch.full_like(value, torch.nan)

    def mean(self) -> Tensor:
        """Mean IoU, float64 ``(...)``; nan if there is no sample."""
        return _float64(self.iou) / float(int(self.samples) << _IOU_BITS)

    def precision(self) -> Tensor:
        """Precision at each threshold, float64 ``(..., T)``; nan if there is no sample."""
        return _float64(self.hits) / float(self.samples)

    def percent(self, thresholds: Sequence[float]) -> list[dict[str, float]]:
        """All figures in percent, row by row: ``oIoU``, ``mIoU``, and ``Pr@X`` at the thresholds."""
        names = ["oIoU", "mIoU", *(f"Pr@{threshold}" for threshold in thresholds)]
        columns = [self.overall(), self.mean(), *self.precision().movedim(-1, 0)]
        values = [(100 * column).reshape(-1).tolist() for column in columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def area_sums(
    intersection: Tensor, union: Tensor, thresholds: Sequence[float] = (), *, rows: bool = False
) -> AreaSums:
    """Sum over samples what the figures need, precision at the thresholds among them.

    The areas, in pixels, are integers of any one shape, all of them samples; or, with ``rows``, ``(rows,
    samples)``, to be summed row by row. `TypeError` if they are not integers, `ValueError` if the shapes
    differ, or not 0 <= I <= U < 2**31, or a threshold is not in (0, 1].
    """
    checked = checked_areas(intersection, union)
    intersection, union = checked if rows else (areas.reshape(-1) for areas in checked)
    some = union.clamp(min=1)
    rounded = torch.div((intersection << _IOU_BITS) + some // 2, some, rounding_mode="floor")
    ratios = [exact_threshold(threshold) for threshold in thresholds]
    hits = [(intersection * low >= union * high) & (union > 0) for high, low in ratios]
    return AreaSums(
        intersection.sum(-1),
        union.sum(-1),
        rounded.sum(-1),
        torch.stack([hit.sum(-1) for hit in hits], -1) if hits else intersection.new_zeros(0),
        intersection.new_tensor(intersection.shape[-1]),
    )


def _float64(whole: Tensor) -> Tensor:
    return (whole.cpu() if whole.device.type == "mps" else whole).double()  # MPS has no float64


class _AreaMetric(Metric):
    """A metric over (intersection, union) pairs whose states are `AreaSums`, here with all thresholds."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound: float | None = 1.0

    def __init__(self, thresholds: Sequence[float] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thresholds = tuple(thresholds)
        none = torch.zeros(0, dtype=torch.int64)
        for state, value in area_sums(none, none, self.thresholds)._asdict().items():
            self.add_state(state, value, dist_reduce_fx="sum")

    @property
    def sums(self) -> AreaSums:
        """The sums so far."""
        return AreaSums(*(getattr(self, state) for state in AreaSums._fields))

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the samples of two bool masks ``(..., H, W)``; see `mask_areas` for the errors."""
        self._add(*mask_areas(prediction, target))

    def update_areas(self, intersection: Tensor, union: Tensor) -> None:
        """Add samples by their areas: integers of one shape, pixels; see `area_sums` for the errors."""
        self._add(intersection, union)
        # what torchmetrics' wrapper around `update` does
        self._computed = None
        self._update_count += 1

    def _add(self, intersection: Tensor, union: Tensor) -> None:
        total = self.sums.plus(area_sums(intersection, union, self.thresholds))
        for state, value in total._asdict().items():
            setattr(self, state, value)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot a value, several values, or by default the present one (needs matplotlib)."""
        return self._plot(val, ax)


class OverallIoU(_AreaMetric):
    """Overall IoU in [0, 1] as a float64 scalar: the sum of the intersections over that of the unions.

    Example:
        >>> metric = OverallIoU()
        >>> metric.update(torch.tensor([[True, True]]), torch.tensor([[True, False]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """Overall IoU of every sample so far, over all processes; nan (with a warning) if there is none."""
        return self.sums.overall()


class MeanIoU(_AreaMetric):
    """Mean IoU over samples, of I / U or 0 where U = 0, in [0, 1] as a float64 scalar, to 2**-33.

    Unlike `torchmetrics.segmentation.MeanIoU`, a sample with an empty union counts, with IoU 0.
    """

    def compute(self) -> Tensor:
        """Mean IoU of every sample so far, over all processes; nan (with a warning) if there is none."""
        return self.sums.mean()


class PrecisionAtIoU(_AreaMetric):
    """Fraction of samples with IoU >= threshold, compared in whole numbers, as a float64 scalar.

    The threshold is the decimal that is written: 0.7 is seven tenths.

    Args:
        threshold: In (0, 1], at most nine decimals; a sample exactly on it is a hit.
        **kwargs: Those of `torchmetrics.Metric`.
    """

    def __init__(self, threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__((threshold,), **kwargs)

    def compute(self) -> Tensor:
        """Precision over every sample so far, over all processes; nan (with a warning) if there is none."""
        return self.sums.precision()[0]


class RISMetrics(_AreaMetric):
    """All figures of one method on one split, in percent.

    Example:
        >>> metrics = RISMetrics(thresholds=(0.5,))
        >>> metrics.update_areas(torch.tensor([1, 3]), torch.tensor([4, 4]))
        >>> metrics.compute()
        {'oIoU': 50.0, 'mIoU': 50.0, 'Pr@0.5': 50.0}
    """

    plot_upper_bound = 100.0

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS, **kwargs: Any) -> None:
        super().__init__(thresholds, **kwargs)

    def compute(self) -> dict[str, float]:
        """Every figure over all processes, ``{"oIoU", "mIoU", "Pr@0.5", ...}`` in percent.

        All processes must call this; nan (with a warning) without a sample.
        """
        (figures,) = self.sums.percent(self.thresholds)
        return figures

    @property
    def count(self) -> int:
        """Samples that this process has added."""
        return int(self.sums.samples)


GRES_THRESHOLDS = (0.7, 0.8, 0.9)


class GRESSums(NamedTuple):
    """What the figures of generalised expressions, which may have no target, are made of.

    Example:
        >>> one, empty = torch.tensor([3]), torch.tensor([True])
        >>> gres_sums(one - one, one, ~empty, empty).figures()["gIoU"]
        tensor(1., dtype=torch.float64)
    """

    targeted: AreaSums  # of samples with a target
    absent: AreaSums  # of samples without one: their union is what is wrongly predicted
    dropped: Tensor  # (...), samples with a target that are predicted to have none
    flagged: Tensor  # (...), samples without one that are

    def figures(self) -> dict[str, Tensor]:
        """gIoU, cIoU, N_acc and T_acc, float64 ``(...)`` in [0, 1]; nan where no sample could count.

        N_acc and T_acc are 0 where no sample lacks a target, and so is cIoU where nothing is united.
        """
        targeted, absent, every = *self[:2], self.targeted.plus(self.absent)
        correct, some = every.iou + (self.flagged << _IOU_BITS), bool(absent.samples)
        kept, none = targeted.samples - self.dropped, torch.zeros_like(every.overall())
        return {
            "gIoU": _float64(correct) / float(int(every.samples) << _IOU_BITS),
            "cIoU": every.overall(),
            "N_acc": _float64(self.flagged) / float(absent.samples) if some else none,
            "T_acc": _float64(kept) / float(targeted.samples) if some else none,
        }


def gres_sums(intersection: Tensor, union: Tensor, targeted: Tensor, empty: Tensor) -> GRESSums:
    """Sum samples as the published evaluation of GRES does.

    Areas as in `area_sums`, of the masks as they are, whatever is said of them; bool of their shape which
    samples have a target and which are predicted empty. A sample with a target that is predicted empty has
    intersection 0 and keeps its union. One without a target that is predicted empty has IoU 1 and no area;
    otherwise IoU 0, also where its mask has no pixel, and what is predicted counts as union.
    """
    intersection = intersection.where(targeted & ~empty, 0)
    union = union.where(targeted | ~empty, 0)
    return GRESSums(
        area_sums(intersection[targeted], union[targeted], GRES_THRESHOLDS),
        area_sums(intersection[~targeted], union[~targeted], GRES_THRESHOLDS),
        (targeted & empty).sum(),
        (~targeted & empty).sum(),
    )


class GRES(Metric):
    """The figures of generalised referring expression segmentation (Liu et al., CVPR 2023), as fractions.

    A target without a pixel is none: then it is right to predict nothing, and to say so.

    Example:
        >>> metric, mask = GRES(), torch.tensor([[[True, True]], [[True, False]]])
        >>> target, predicted_empty = mask.clone(), torch.tensor([False, True])
        >>> target[:, :, 1], target[1] = False, False
        >>> metric.update(mask, target, predicted_empty)
        >>> {name: value for name, value in metric.compute().items() if "@" not in name}
        {'gIoU': 0.75, 'cIoU': 0.5, 'N_acc': 1.0, 'T_acc': 1.0}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        none = torch.zeros(0, dtype=torch.int64)
        for place, value in enumerate(_flat(gres_sums(none, none, none.bool(), none.bool()))):
            self.add_state(f"sum_{place}", value, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor, predicted_empty: Tensor) -> None:
        """Add samples.

        Args:
            prediction: bool ``(..., H, W)``, the masks, also of samples that are predicted to have none.
            target: bool of the same shape.
            predicted_empty: bool ``(...)``, whether a sample is predicted to have no target.

        Raises:
            TypeError, ValueError: As `mask_areas` does, or for a flag that is not bool or of another shape.
        """
        areas = mask_areas(prediction, target)
        if predicted_empty.dtype != torch.bool or predicted_empty.shape != areas[0].shape:
            got = f"{predicted_empty.dtype} {tuple(predicted_empty.shape)}"
            raise ValueError(f"predicted_empty must be bool {tuple(areas[0].shape)}, got {got}.")
        targeted = target.flatten(-2).any(dim=-1)
        parts = [part.reshape(-1).to(targeted.device) for part in (*areas, targeted, predicted_empty)]
        for name, value in zip(self._defaults, _flat(gres_sums(*parts)), strict=True):
            setattr(self, name, getattr(self, name) + value)

    def compute(self) -> dict[str, float]:
        """Return gIoU, cIoU, N_acc, T_acc and, of samples with a target, Pr@0.7, Pr@0.8 and Pr@0.9.

        Over all processes; see `GRESSums.figures`, and nan for precision where no sample has a target.
        """
        parts, n = [getattr(self, name) for name in self._defaults], len(AreaSums._fields)
        sums = GRESSums(AreaSums(*parts[:n]), AreaSums(*parts[n : 2 * n]), *parts[2 * n :])
        names = (f"Pr@{threshold}" for threshold in GRES_THRESHOLDS)
        found = sums.figures() | dict(zip(names, sums.targeted.precision(), strict=True))
        return {name: float(value) for name, value in found.items()}


def _flat(sums: GRESSums) -> list[Tensor]:
    return [*sums.targeted, *sums.absent, sums.dropped, sums.flagged]
