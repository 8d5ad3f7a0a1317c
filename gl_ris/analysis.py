"""How sure figures are: intervals from resampling images, of figures and of paired differences.

Expressions on one image are not independent, so whole images are drawn, with replacement (a cluster
bootstrap). What is compared is drawn together: the same images for every method, and the difference is taken
draw by draw. It needs no more than the areas in ``predictions.jsonl``, and no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Id = int | str
Areas = Sequence[int | None]
Interval = tuple[float, float]
Array = NDArray[np.float64]

DRAWS, SEED = 5_000, 0
_TAILS = (2.5, 97.5)  # percentiles between which 95% of the draws are
_AT_ONCE = 1 << 21  # drawn images in memory at once: some 50 MB, however many images and draws
# what is added up of each image, before the hits at each threshold
_COLUMNS = 4
_INTERSECTION, _UNION, _IOU, _SAMPLES = range(_COLUMNS)


def bootstrap(
    image_ids: Sequence[Id],
    intersections: Areas,
    unions: Areas,
    draws: int = DRAWS,
    seed: int = SEED,
    thresholds: Sequence[float] = (),
) -> dict[str, Interval]:
    """Return 95% percentile intervals of oIoU, mIoU and ``Pr@X`` at the thresholds, in percent.

    One entry of each sequence per expression: its image and its areas in pixels, None where nothing was
    measured: that is left out. The distinct ids in ascending order, whole numbers before texts, are drawn by
    ``default_rng(seed).integers(0, n, (draws, n))``. With one image both ends are the figure, with no
    expression they are nan. `ValueError` if the sequences differ in length.
    """
    (found,) = intervals(image_sums(image_ids, [(intersections, unions)], thresholds)[1], draws, seed)
    return dict(zip(figure_names(thresholds), found, strict=True))


def differences(
    image_ids: Sequence[Id],
    first: tuple[Areas, Areas],
    second: tuple[Areas, Areas],
    draws: int = DRAWS,
    seed: int = SEED,
    thresholds: Sequence[float] = (),
) -> dict[str, Interval]:
    """Return paired 95% intervals of the figures of the second less those of the first, in points of percent.

    Both are intersections and unions for the same expressions; see `bootstrap`.
    """
    _, sums = image_sums(image_ids, [first, second], thresholds)
    one, other = np.moveaxis(percent(resampled(sums, draws, seed)), 1, 0)
    return dict(zip(figure_names(thresholds), _between(other - one), strict=True))


def figure_names(thresholds: Sequence[float] = ()) -> list[str]:
    """Name the figures in the order of `percent`."""
    return ["oIoU", "mIoU", *(f"Pr@{threshold}" for threshold in thresholds)]


def image_sums(
    image_ids: Sequence[Id], areas: Sequence[tuple[Areas, Areas]], thresholds: Sequence[float] = ()
) -> tuple[list[Id], Array]:
    """Add up by image what figures are made of: the distinct ids in order, sums float64 ``(n, M, 4 + T)``.

    ``areas`` are intersections and unions of ``M`` methods on the same expressions. One that any method has
    no areas for is left out.
    """
    columns = [column for pair in areas for column in pair]
    rows = list(zip(image_ids, *columns, strict=True))
    there = [row for row in rows if None not in row[1:]]
    table = np.array([row[1:] for row in there], dtype=np.int64).reshape(len(there), len(areas), 2)
    ids, of = in_order([row[0] for row in there])
    sums = np.zeros((len(ids), len(areas), _COLUMNS + len(thresholds)))
    np.add.at(sums, of, _columns(table[..., 0], table[..., 1], thresholds))
    return ids, sums


def in_order(image_ids: Sequence[Id]) -> tuple[list[Id], NDArray[np.int64]]:
    """Return distinct ids in ascending order, whole numbers before texts, and the place of each one given.

    Example:
        >>> in_order([10, "9", 9, 10])
        ([9, 10, '9'], array([1, 2, 0, 1]))
    """
    ids = sorted(set(image_ids), key=lambda one: (isinstance(one, str), one))
    places = {one: place for place, one in enumerate(ids)}
    return ids, np.array([places[one] for one in image_ids], dtype=np.int64)


def _columns(intersection: Any, union: Any, thresholds: Sequence[float]) -> Array:
    """Lay out what is added up of ``(E, M)`` expressions, ``(E, M, 4 + T)``."""
    limits = [Fraction(str(threshold)) for threshold in thresholds]
    hits = [(union > 0) & (intersection * one.denominator >= union * one.numerator) for one in limits]
    iou = intersection / np.maximum(union, 1)
    return np.stack([intersection, union, iou, np.ones_like(iou), *hits], axis=-1, dtype=np.float64)


def percent(sums: Array) -> Array:
    """Make figures ``(..., 2 + T)`` of sums ``(..., 4 + T)``: oIoU, mIoU, precision; nan without a sample."""
    samples = np.where(sums[..., _SAMPLES] > 0, sums[..., _SAMPLES], np.nan)
    overall = sums[..., _INTERSECTION] / np.maximum(sums[..., _UNION], 1) + 0 * samples
    rest = np.concatenate([sums[..., [_IOU]], sums[..., _COLUMNS:]], axis=-1) / samples[..., None]
    return 100 * np.concatenate([overall[..., None], rest], axis=-1)


def resampled(sums: Array, draws: int = DRAWS, seed: int = SEED) -> Array:
    """Draw as many of the ``(n, ...)`` images as there are, with replacement: the sums of each draw.

    Sums of whole numbers are exact, so that in any case oIoU and precision are those of a plain loop.
    """
    flat = sums.reshape(len(sums), math.prod(sums.shape[1:]))
    parts = [weights @ flat for weights in _weights(len(sums), draws, seed)]
    return np.concatenate(parts).reshape(draws, *sums.shape[1:])


def _weights(n: int, draws: int, seed: int) -> Iterator[Array]:
    """Yield how often each image is in each draw, some draws at a time; the stream is that of one call."""
    generator = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // max(1, n))
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = generator.integers(0, n, (rows, n)) if n else np.zeros((rows, 0), dtype=np.int64)
        drawn += n * np.arange(rows)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=rows * n).reshape(rows, n).astype(np.float64)


def intervals(
    sums: Array, draws: int = DRAWS, seed: int = SEED, of: Callable[[Array], Array] = percent
) -> list[list[Interval]]:
    """Return for each of ``M`` methods the interval of each figure ``of`` its sums; see `bootstrap`."""
    return [_between(method) for method in np.moveaxis(of(resampled(sums, draws, seed)), 1, 0)]


def _between(values: Array) -> list[Interval]:
    low, high = np.percentile(values, _TAILS, axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def half(interval: Sequence[float] | None) -> str:
    """Write half of an interval behind a figure; nothing where there is none.

    Example:
        >>> "61.22" + half((57.1, 65.3)), "61.22" + half(None)
        ('61.22 ±4.1', '61.22')
    """
    return f" ±{(interval[1] - interval[0]) / 2:.1f}" if interval else ""


def number(value: float | None, form: str = ".2f", interval: Sequence[float] | None = None) -> str:
    """Write a figure for a reader: two decimals, half of its interval if it has one; "-" where there is none.

    Example:
        >>> number(12.345), number(-0.5, "+.2f"), number(None)
        ('12.35', '-0.50', '-')
        >>> number(61.22, interval=(57.1, 65.3))
        '61.22 ±4.1'
    """
    return "-" if value is None or value != value else format(value, form) + half(interval)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a table as plain text, the first column to the left; a library would take longer to load."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def explained(draws: int = DRAWS) -> str:
    """Say what `half` writes, for the end of a table."""
    return f"half of the 95% interval over {draws:,} resamples of the images"
