"""Where SAM is asked: crops of the image, and a grid of points on each."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Crop = tuple[int, int, int, int]
"""A part of the image, XYXY in pixels, right and lower edge exclusive."""


def point_grid(per_side: int) -> Tensor:
    """Spread points evenly over the unit square, row by row, half a step away from its sides.

    Args:
        per_side: Points in a row and in a column, at least 1.

    Returns:
        float32 ``(per_side ** 2, 2)``, x and y in (0, 1).

    Example:
        >>> point_grid(2).tolist()
        [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    steps = (torch.arange(per_side) + 0.5) / per_side
    return torch.stack([steps.repeat(per_side), steps.repeat_interleave(per_side)], dim=1)


def crop_layers(height: int, width: int, layers: int, overlap: float) -> list[tuple[int, Crop]]:
    """Lay crops over an image: the whole of it, then layer by layer 2 by 2, 4 by 4, ... smaller ones.

    Args:
        height: Of the image, in pixels.
        width: Likewise.
        layers: How many layers of crops beside the whole image, 0 or more.
        overlap: By how much neighbours in the first layer overlap, as a share of the image's shorter side;
            layer by layer this is halved.

    Returns:
        Pairs of the layer, 0 for the whole image, and the crop; crops without a pixel, which tiny images
        give, are left out.

    Example:
        >>> crop_layers(8, 10, 1, 0.25)
        [(0, (0, 0, 10, 8)), (1, (0, 0, 6, 5)), (1, (4, 0, 10, 5)), (1, (0, 3, 6, 8)), (1, (4, 3, 10, 8))]
    """
    crops: list[tuple[int, Crop]] = [(0, (0, 0, width, height))]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        shared = int(overlap * min(height, width) * 2 / per_side)
        columns, rows = (_spans(length, per_side, shared) for length in (width, height))
        crops += [(layer, (x0, y0, x1, y1)) for y0, y1 in rows for x0, x1 in columns]
    return crops


def _spans(length: int, count: int, shared: int) -> list[tuple[int, int]]:
    """Cover ``length`` pixels with ``count`` equal spans that overlap by ``shared``."""
    size = math.ceil((shared * (count - 1) + length) / count)
    starts = [index * (size - shared) for index in range(count)]
    return [(start, min(start + size, length)) for start in starts if start < length]
