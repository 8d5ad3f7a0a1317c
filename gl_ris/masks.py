"""Geometry of binary masks as pure functions: run lengths, polygons, boxes, overlaps.

Masks are bool tensors ``(..., H, W)`` in pixels of the original image; boxes are float32 XYXY in that frame.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import MAX_PIXELS

Overlap = Literal["union", "sum_equals_one"]

_LONGEST = 10_000  # sides of the image, as the length of an outline
_LAYERS = 4 << 30  # pixels of all layers; each image has one at least, see `gl_ris.files.MAX_PIXELS`


def encode_rle(mask: Tensor) -> dict[str, Any]:
    """Pack a mask as a compressed COCO run-length encoding that JSON can hold: "size" [H, W], "counts" text.

    The mask is bool ``(H, W)`` with at least one pixel (`TypeError`, `ValueError`), and may be all False.

    Example:
        >>> encode_rle(torch.tensor([[False, True], [False, True]]))
        {'size': [2, 2], 'counts': '22'}
    """
    from pycocotools import mask as coco

    if mask.dtype != torch.bool:
        raise TypeError(f"encode_rle needs a bool mask, got {mask.dtype}.")
    if mask.ndim != 2 or mask.numel() == 0:
        raise ValueError(f"encode_rle needs a mask of shape (H, W) with H, W >= 1, got {tuple(mask.shape)}.")
    packed = coco.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    return {"size": list(mask.shape), "counts": packed["counts"].decode("ascii")}


def decode_rle(rle: Mapping[str, Any], size: Sequence[int] | None = None) -> Tensor:
    """Unpack a COCO run-length encoding, compressed (``str`` or ``bytes`` counts) or not (a list of lengths).

    The runs must cover the mask exactly: where a truncated encoding ends, pycocotools would return
    uninitialised memory. The mask is bool ``(H, W)`` on the CPU; ``size`` is the one that it must have, or
    None to trust the encoding, ``{"size": [H, W], "counts": ...}``. `UserError` if that is damaged, or says
    no size (which may be given as the argument) or another.

    Example:
        >>> decode_rle({"size": [2, 2], "counts": [2, 2]}).tolist()
        [[False, True], [False, True]]
    """
    height, width = _rle_size(rle, size)
    if height * width > MAX_PIXELS:  # a few bytes may speak of any size
        raise UserError(f"Damaged mask encoding: size [{height}, {width}] is that of no image.")
    runs = _run_lengths(rle.get("counts"))
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
    """Read the counts of an encoding as int64 run lengths, background first."""
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")  # what is not ASCII becomes bytes that no code has
    if isinstance(counts, bytes):
        return _decompress(np.frombuffer(counts, np.uint8).astype(np.int64) - 48)
    if isinstance(counts, Sequence) and all(_is_count(run) and run < 1 << 62 for run in counts):
        return np.asarray(counts, np.int64)
    raise UserError(
        f"Damaged mask encoding: counts should be text or a list of run lengths, got {counts!r:.60}."
    )


def _decompress(codes: np.ndarray) -> np.ndarray:
    """Read COCO's compressed counts: 5 bits a character, low bits first, bit 5 set where the number goes on.

    From the fourth run on, each number is the difference to the run two before it.
    """
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
    for chain in (numbers[1::2], numbers[2::2]):
        np.cumsum(chain, out=chain)
    return numbers


def polygons_to_mask(
    polygons: Sequence[Sequence[float]], height: int, width: int, overlap: Overlap = "union"
) -> Tensor:
    """Fill the polygons of one annotation, with COCO's rasterisation.

    Args:
        polygons: Each a flat list ``[x0, y0, x1, y1, ...]`` in pixels. One of fewer than three points
            encloses nothing and adds nothing; no polygons give an empty mask.
        height: Of the mask in pixels, bool ``(height, width)``.
        width: Likewise.
        overlap: What becomes of pixels in several polygons: ``"union"`` keeps them; ``"sum_equals_one"``
            makes them background, as the published evaluation does.

    Raises:
        UserError: If ``overlap`` is unknown or a polygon is not a list of finite x, y pairs.

    Example:
        >>> int(polygons_to_mask([[0, 0, 2, 0, 2, 2, 0, 2]], 4, 4).sum())
        4
    """
    from pycocotools import mask as coco

    if overlap not in ("union", "sum_equals_one"):
        raise unknown_name("overlap", overlap, ["union", "sum_equals_one"])
    # pycocotools would read a polygon of four numbers as a box.
    outlines = [outline for outline in map(_outline, polygons) if len(outline) >= 6]
    if not outlines:
        return torch.zeros(height, width, dtype=torch.bool)
    codes = coco.frPyObjects(outlines, height, width)
    if overlap == "union":
        cover = coco.decode(coco.merge(codes))
    else:  # one after the other: many layers of a large image would not fit into memory
        cover = np.zeros((height, width), np.uint8)
        for code in codes:
            cover = np.minimum(cover + coco.decode(code), 2)
    return torch.from_numpy(np.ascontiguousarray(cover == 1))


def require_modest(polygons: Sequence[Sequence[float] | np.ndarray], height: int, width: int) -> None:
    """Raise a `ValueError` for polygons that would take too long or too much room to fill, as damaged ones.

    The rasteriser walks along every pixel of an edge and keeps a layer of each polygon: none may leave the
    image by more than ten times its longer side, and outlines may have 10,000 such sides in all. A polygon
    is a flat list of coordinates in pixels; `TypeError` if one is no number.
    """
    points = [np.asarray(polygon, np.float64) for polygon in polygons]
    if any(np.abs(flat).max(initial=0) > 10 * max(height, width) for flat in points):
        raise ValueError(f"a polygon leaves the image of {width} x {height} by far")
    steps = (np.abs(np.diff(flat[: len(flat) // 2 * 2].reshape(-1, 2), axis=0)) for flat in points)
    length = sum(float(step.max(axis=1, initial=0).sum()) for step in steps)
    if length > _LONGEST * max(height, width):
        raise ValueError(f"its outline is {length:.0f} pixels long in an image of {width} x {height}")
    if len(points) * height * width > _LAYERS:
        raise ValueError(f"{len(points)} polygons are too many for an image of {width} x {height}")


def _outline(polygon: Sequence[float]) -> list[float]:
    try:
        outline = [float(coordinate) for coordinate in polygon]
    except (TypeError, ValueError):
        outline = [float("nan")]
    if len(outline) % 2 or not np.isfinite(outline).all():
        raise UserError(f"A polygon should be a flat list of finite x, y pairs, got {list(polygon)!r:.60}.")
    return outline


def tight_boxes(masks: Tensor | Bits) -> Tensor:
    """Find the smallest box around each mask of bool ``(N, H, W)``, or of the `Bits` of such.

    They are float32 ``(N, 4)`` XYXY in pixels, exclusive (max = last index + 1); zeros for an empty mask.

    Example:
        >>> tight_boxes(torch.tensor([[[False, True, True], [False, False, False]]])).tolist()
        [[1.0, 0.0, 3.0, 1.0]]
    """
    (x0, x1), (y0, y1) = (_first_last(side) for side in Bits.of(masks).occupied)
    return torch.stack([x0, y0, x1, y1], dim=-1).float()


def _first_last(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row of ``(N, L)``; zeros where there is none."""
    index = torch.arange(occupied.shape[-1], device=occupied.device)
    last = ((index + 1) * occupied).amax(dim=-1)
    first = torch.where(occupied, index, occupied.shape[-1]).amin(dim=-1)
    return torch.minimum(first, last), last


def projection_boxes(masks: Tensor | Bits) -> Tensor:
    """Compute the boxes that FreeSOLO reports, of the masks and in the form of `tight_boxes`.

    The centre is the mean index of the occupied columns (rows), the width (height) their number. One solid
    blob over columns a to b gives [a - 0.5, b + 0.5]; a mask with gaps, a box narrower than its extent.

    Example:
        >>> projection_boxes(torch.tensor([[[True, False, True], [False, False, False]]])).tolist()
        [[0.0, -0.5, 2.0, 0.5]]
    """
    (x0, x1), (y0, y1) = (_centre_extent(side) for side in Bits.of(masks).occupied)
    return torch.stack([x0, y0, x1, y1], dim=-1)


def _centre_extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.arange(occupied.shape[-1], device=occupied.device)
    count = occupied.sum(dim=-1)
    centre = (index * occupied).sum(dim=-1).float() / count.clamp(min=1)
    return centre - count / 2, centre + count / 2


def pairwise_areas(masks: Tensor | Bits, targets: Tensor | Bits) -> tuple[Tensor, Tensor]:
    """Measure how each mask overlaps each target, in whole pixels.

    Masks are bool ``(N, H, W)`` and targets bool ``(R, H, W)`` of the same height and width, or the `Bits` of
    such; N and R may be 0. Returns intersection and union, both int64 ``(N, R)``, exact at any image size.
    `TypeError` if either is not bool, `ValueError` if the shapes do not fit.

    Example:
        >>> mask = torch.tensor([[[True, True, False]]])
        >>> [area.tolist() for area in pairwise_areas(mask, ~mask)]
        [[[0]], [[3]]]
    """
    bits = Bits.of(masks)
    others = bits if targets is masks else Bits.of(targets)
    own, other = bits.masks, others.masks
    if own.dtype != torch.bool or other.dtype != torch.bool:
        raise TypeError(f"pairwise_areas needs bool masks, got {own.dtype} and {other.dtype}.")
    if own.ndim != 3 or other.ndim != 3 or own.shape[1:] != other.shape[1:]:
        raise ValueError(
            "pairwise_areas needs masks (N, H, W) and targets (R, H, W) of one size, "
            f"got {tuple(own.shape)} and {tuple(other.shape)}."
        )
    intersection = bits.intersections(others)
    return intersection, bits.areas[:, None] + others.areas - intersection


def suppress(order: Iterable[int], clash: np.ndarray, limit: int | None = None) -> list[int]:
    """Choose greedily: go through candidates in order, and leave out what clashes with a chosen one.

    ``order`` has the indices of the candidates, the best first, and so has the result, ``limit`` at most;
    ``clash``, bool ``(N, N)``, symmetric, says which of them cannot both be chosen.

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
