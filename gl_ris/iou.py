"""How well a prediction covers its target, from whole numbers of pixels, as pure functions.

One sample is one expression: the intersection I and the union U, in pixels, of its prediction and its target.
Prediction and target both empty (I = U = 0) is a sample of IoU 0, a miss, as in the published evaluation.
`gl_ris.metrics` has the stateful counterparts.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import torch
from torch import Tensor

# Mean IoU sums each sample's IoU rounded to the nearest multiple of 2**-32: a mean is off by at most
# 2**-33 (1.2e-8 percentage points), and the sum has room for 2**31 samples.
_IOU_BITS = 32
# I * 2**32 and I * denominator must fit int64.
_AREA_LIMIT = 1 << 31


def mask_areas(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Count the pixels that prediction and target share and that they cover together.

    Args:
        prediction: bool ``(..., H, W)``.
        target: bool of the same shape.

    Returns:
        Intersection and union, both int64 ``(...)``.

    Raises:
        TypeError: If either is not bool.
        ValueError: If the shapes differ or lack height and width.

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
    return (prediction & target).sum(dim=(-2, -1)), (prediction | target).sum(dim=(-2, -1))


def overall_iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Compute overall IoU: the sum of the intersections over the sum of the unions (oIoU).

    Args:
        intersection: Integers of any shape, pixels.
        union: Integers of the same shape, pixels.

    Returns:
        A float64 scalar in [0, 1]: 0 if every union is empty, nan if there is no sample.

    Raises:
        TypeError: If the areas are not integers.
        ValueError: If the shapes differ, or not 0 <= I <= U < 2**31.

    Example:
        >>> overall_iou(torch.tensor([1, 3]), torch.tensor([4, 4]))
        tensor(0.5000, dtype=torch.float64)
    """
    return overall_from_sums(*overall_sums(*checked_areas(intersection, union)))


def mean_iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Compute mean IoU: the mean over samples of I / U, 0 where U = 0 (mIoU).

    Each IoU enters as the nearest multiple of 2**-32, so the mean is within 2**-33 of the exact one.
    Arguments and errors are those of `overall_iou`.

    Returns:
        A float64 scalar in [0, 1]; nan if there is no sample.

    Example:
        >>> mean_iou(torch.tensor([1, 3, 0]), torch.tensor([4, 4, 0])).item().__round__(6)
        0.333333
    """
    return mean_from_sums(*mean_sums(*checked_areas(intersection, union)))


def precision_at_iou(intersection: Tensor, union: Tensor, threshold: float) -> Tensor:
    """Compute the fraction of samples with I / U >= threshold (Pr@X), compared in whole numbers.

    The threshold is the decimal that is written (0.7 is seven tenths), so a sample exactly on it is a hit.
    Arguments and errors are otherwise those of `overall_iou`.

    Args:
        intersection: Integers of any shape, pixels.
        union: Integers of the same shape, pixels.
        threshold: In (0, 1], at most nine decimals.

    Returns:
        A float64 scalar in [0, 1]; nan if there is no sample.

    Example:
        >>> precision_at_iou(torch.tensor([7, 6]), torch.tensor([10, 10]), 0.7)
        tensor(0.5000, dtype=torch.float64)
    """
    return precision_from_sums(*hit_sums(*checked_areas(intersection, union), *exact_threshold(threshold)))


def sample_iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Compute each sample's own IoU.

    Arguments and errors are those of `overall_iou`.

    Returns:
        float64 of the shape of the areas, in [0, 1]; 0 where U = 0.

    Example:
        >>> sample_iou(torch.tensor([1, 0]), torch.tensor([4, 0])).tolist()
        [0.25, 0.0]
    """
    intersection, union = checked_areas(intersection, union)
    return _float64(intersection) / _float64(union.clamp(min=1))


def checked_areas(intersection: Tensor, union: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas as int64, or raise the errors of `overall_iou`."""
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

    Raises:
        ValueError: If it is not in (0, 1] or has more than nine decimals.
    """
    try:
        numerator, denominator = Decimal(str(threshold)).as_integer_ratio()
    except (InvalidOperation, ValueError, OverflowError):
        numerator, denominator = 0, 1
    if not 0 < numerator <= denominator or denominator >= _AREA_LIMIT:
        raise ValueError(f"An IoU threshold must be in (0, 1] with at most nine decimals, got {threshold!r}.")
    return numerator, denominator


def overall_sums(intersection: Tensor, union: Tensor, dim: int | None = None) -> tuple[Tensor, Tensor, int]:
    """Sum what overall IoU needs of checked areas: intersections, unions, samples.

    Here and below, ``dim`` is the dimension of the samples; None takes all dimensions as one.
    """
    return intersection.sum(dim), union.sum(dim), _count(intersection, dim)


def mean_sums(intersection: Tensor, union: Tensor, dim: int | None = None) -> tuple[Tensor, int]:
    """Sum what mean IoU needs of checked areas: IoUs in units of 2**-32, samples."""
    union = union.clamp(min=1)
    rounded = torch.div((intersection << _IOU_BITS) + union // 2, union, rounding_mode="floor")
    return rounded.sum(dim), _count(intersection, dim)


def hit_sums(
    intersection: Tensor, union: Tensor, numerator: int, denominator: int, dim: int | None = None
) -> tuple[Tensor, int]:
    """Sum what precision needs of checked areas: samples at or over the threshold, samples."""
    hits = (intersection * denominator >= union * numerator) & (union > 0)
    return hits.sum(dim), _count(intersection, dim)


def _count(areas: Tensor, dim: int | None) -> int:
    return areas.numel() if dim is None else areas.shape[dim]


def overall_from_sums(intersection: Tensor, union: Tensor, count: Tensor | int) -> Tensor:
    """Divide the sums of `overall_sums`: float64, 0 if all unions are empty, nan without samples."""
    value = _float64(intersection) / _float64(union.clamp(min=1))
    return value if count else torch.full_like(value, torch.nan)


def mean_from_sums(iou_sum: Tensor, count: Tensor | int) -> Tensor:
    """Divide the sums of `mean_sums`: float64, nan without samples."""
    return _float64(iou_sum) / float(int(count) << _IOU_BITS)


def precision_from_sums(hits: Tensor, count: Tensor | int) -> Tensor:
    """Divide the sums of `hit_sums`: float64, nan without samples."""
    return _float64(hits) / float(count)


def _float64(whole: Tensor) -> Tensor:
    # MPS has no float64
    return (whole.cpu() if whole.device.type == "mps" else whole).double()
