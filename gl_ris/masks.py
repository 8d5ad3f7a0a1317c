"""Geometry of binary masks as pure functions: run lengths, polygons, boxes, overlaps.

Masks are bool tensors ``(..., H, W)`` in pixels of the original image; boxes are float32 XYXY in that frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gl_ris.errors import UserError, unknown_name

Overlap = Literal["union", "sum_equals_one"]

# float32 counts 0/1 products exactly up to 2**24; a smaller block also bounds the memory.
_PIXELS_PER_BLOCK = 1 << 20


def encode_rle(mask: Tensor) -> dict[str, Any]:
    """Pack a bool ``(H, W)`` mask of at least one pixel as a compressed COCO run-length encoding for JSON."""
    from pycocotools import mask as coco

    if mask.dtype != torch.bool:
        raise TypeError(f"encode_rle needs a bool mask, got {mask.dtype}.")
    if mask.ndim != 2 or mask.numel() == 0:
        raise ValueError(f"encode_rle needs a mask of shape (H, W) with H, W >= 1, got {tuple(mask.shape)}.")
    packed = coco.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    return {"size": list(mask.shape), "counts": packed["counts"].decode("ascii")}


def decode_rle(rle: Mapping[str, Any], size: Sequence[int] | None = None) -> Tensor:
    """Unpack a COCO run-length encoding, compressed or not, to bool ``(H, W)`` on the CPU.

    A `UserError` if it is damaged, says no size, or another than ``size`` (None trusts the encoding).
    """
    height, width = _rle_size(rle, size)
    runs = _run_lengths(rle.get("counts"))
    # where a truncated encoding ends, pycocotools would return uninitialised memory
    if (runs < 0).any() or (runs > height * width).any() or int(runs.sum()) != height * width:
        raise UserError(
            f"Damaged mask encoding: its {len(runs)} runs do not add up to the {height * width} pixels "
            f"of its size [{height}, {width}]."
        )
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return torch.from_numpy(np.ascontiguousarray(pixels.reshape(width, height).T))


def _rle_size(rle: Mapping[str, Any], size: Sequence[int] | None) -> tuple[int, int]:
    own = rle.get("size", size)
    if not isinstance(own, Sequence) or len(own) != 2 or not all(_is_count(side) for side in own):
        raise UserError(f"Damaged mask encoding: size should be [height, width], got {own!r}.")
    if size is not None and tuple(own) != tuple(size):
        raise UserError(f"The mask encoding is of size {list(own)}, but {list(size)} was expected.")
    return int(own[0]), int(own[1])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _run_lengths(counts: object) -> np.ndarray:
    if isinstance(counts, str):
        counts = counts.encode("ascii", errors="replace")
    if isinstance(counts, bytes):
        return _decompress(np.frombuffer(counts, np.uint8).astype(np.int64) - 48)
    if isinstance(counts, Sequence) and all(_is_count(run) and run < 1 << 62 for run in counts):
        return np.asarray(counts, np.int64)
    raise UserError(
        f"Damaged mask encoding: counts should be text or a list of run lengths, got {counts!r:.60}."
    )


def _decompress(codes: np.ndarray) -> np.ndarray:
    # COCO's 5 bits a character, low bits first, bit 5 set where the number goes on
    ends = np.flatnonzero(codes & 0x20 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1 if len(ends) else ends
    if (
        not len(ends)
        or ends[-1] != len(codes) - 1
        or codes.min() < 0
        or codes.max() > 63
        or lengths.max() > 7
    ):
        raise UserError(
            "Damaged mask encoding: the compressed counts are cut off or hold foreign characters."
        )
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 0x1F) << shifts, starts)
    numbers -= np.where(codes[ends] & 0x10, 1 << 5 * lengths, 0)
    # from the fourth run on, each number is the difference to the run two before it
    for chain in (numbers[1::2], numbers[2::2]):
        np.cumsum(chain, out=chain)
    return numbers


def polygons_to_mask(
    polygons: Sequence[Sequence[float]], height: int, width: int, overlap: Overlap = "union"
) -> Tensor:
    """Fill the polygons ``[x0, y0, x1, y1, ...]`` (pixels) of one annotation, with COCO's rasterisation.

    One of fewer than three points adds nothing; no polygons give an empty mask. Pixels in several polygons:
    ``"union"`` keeps them, ``"sum_equals_one"`` makes them background, as the published evaluation does.
    """
    from pycocotools import mask as coco

    if overlap not in ("union", "sum_equals_one"):
        raise unknown_name("overlap", overlap, ["union", "sum_equals_one"])
    # pycocotools would read a polygon of four numbers as a box.
    outlines = [outline for outline in map(_outline, polygons) if len(outline) >= 6]
    if not outlines:
        return torch.zeros(height, width, dtype=torch.bool)
    layers = torch.from_numpy(coco.decode(coco.frPyObjects(outlines, height, width)))
    cover = layers.sum(dim=2)
    return cover > 0 if overlap == "union" else cover == 1


def far_outside(polygon: Sequence[float] | np.ndarray, height: int, width: int) -> bool:
    """Say whether a polygon leaves its image by over ten times the longer side, as damaged ones do."""
    # not to be filled then: the rasteriser walks along every pixel of an edge
    return bool(np.abs(polygon).max(initial=0) > 10 * max(height, width))


def _outline(polygon: Sequence[float]) -> list[float]:
    try:
        outline = [float(coordinate) for coordinate in polygon]
    except (TypeError, ValueError):
        outline = [float("nan")]
    if len(outline) % 2 or not np.isfinite(outline).all():
        raise UserError(f"A polygon should be a flat list of finite x, y pairs, got {list(polygon)!r:.60}.")
    return outline


def tight_boxes(masks: Tensor) -> Tensor:
    """Find the smallest box around each of ``(N, H, W)``, ``(N, 4)``, exclusive; zeros for an empty mask."""
    x0, x1 = _first_last(masks.any(dim=-2))
    y0, y1 = _first_last(masks.any(dim=-1))
    return torch.stack([x0, y0, x1, y1], dim=-1).float()


def _first_last(occupied: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.arange(occupied.shape[-1], device=occupied.device)
    last = ((index + 1) * occupied).amax(dim=-1)
    first = torch.where(occupied, index, occupied.shape[-1]).amin(dim=-1)
    return torch.minimum(first, last), last


def projection_boxes(masks: Tensor) -> Tensor:
    """Compute the boxes ``(N, 4)`` that FreeSOLO reports of masks ``(N, H, W)``; zeros for an empty mask.

    The centre is the mean index of the occupied columns (rows), the width (height) their number. One solid
    blob over columns a to b gives [a - 0.5, b + 0.5]; a mask with gaps, a box narrower than its extent.
    """
    x0, x1 = _centre_extent(masks.any(dim=-2))
    y0, y1 = _centre_extent(masks.any(dim=-1))
    return torch.stack([x0, y0, x1, y1], dim=-1)


def _centre_extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.arange(occupied.shape[-1], device=occupied.device)
    count = occupied.sum(dim=-1)
    centre = (index * occupied).sum(dim=-1).float() / count.clamp(min=1)
    return centre - count / 2, centre + count / 2


def pairwise_areas(masks: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Measure how masks ``(N, H, W)`` overlap targets ``(R, H, W)``, in whole pixels; N and R may be 0.

    Intersection and union are int64 ``(N, R)``, exact at any image size.
    """
    if masks.dtype != torch.bool or targets.dtype != torch.bool:
        raise TypeError(f"pairwise_areas needs bool masks, got {masks.dtype} and {targets.dtype}.")
    if masks.ndim != 3 or targets.ndim != 3 or masks.shape[1:] != targets.shape[1:]:
        raise ValueError(
            "pairwise_areas needs masks (N, H, W) and targets (R, H, W) of one size, "
            f"got {tuple(masks.shape)} and {tuple(targets.shape)}."
        )
    flat_masks, flat_targets = masks.flatten(1), targets.flatten(1)
    intersection = torch.zeros(len(masks), len(targets), dtype=torch.int64, device=masks.device)
    for start in range(0, flat_masks.shape[1], _PIXELS_PER_BLOCK):
        block = slice(start, start + _PIXELS_PER_BLOCK)
        # autocast would otherwise round the counts to 8 bits
        with torch.autocast(masks.device.type, enabled=False):
            product = flat_masks[:, block].float() @ flat_targets[:, block].float().T
        intersection += product.round().long()
    areas = flat_masks.sum(dim=1)[:, None] + flat_targets.sum(dim=1)[None, :]
    return intersection, areas - intersection


def suppress(order: Iterable[int], clash: np.ndarray, limit: int | None = None) -> list[int]:
    """Choose greedily: go through ``order``, best first, and leave out what clashes with a chosen one.

    Example:
        >>> suppress([2, 0, 1], np.array([[True, True, False], [True, True, False], [False, False, True]]))
        [2, 0]
    """
    chosen: list[int] = []
    for index in order:
        if limit is not None and len(chosen) == limit:
            break
        if not clash[index, chosen].any():
            chosen.append(index)
    return chosen
