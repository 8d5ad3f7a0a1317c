"""Masks as users hold them: arrays of any kind, and lists of segmentations of any form with scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from gl_ris.errors import UserError, in_short
from gl_ris.files import MAX_PIXELS, plain
from gl_ris.masks import decode_rle, polygons_to_mask, require_modest

SCORES = ("score", "predicted_iou")  # What an entry may call its score; the first that it has counts.

Size = tuple[int, int]


def as_tensor(values: Any, what: str) -> Tensor:
    """Take a tensor, or what numpy can make an array of; a `UserError` names what was given."""
    if isinstance(values, Tensor):
        return values
    try:
        if isinstance(values, list | tuple) and any(isinstance(item, Tensor) for item in values):
            return torch.stack(list(values))
        return torch.from_numpy(np.array(values))  # a copy: arrays that run backwards make no tensor
    except (TypeError, ValueError, RuntimeError) as error:
        given = type(values).__name__
        raise UserError(f"{what} must be numbers of one shape, got a {given} ({in_short(error)}).") from error


def as_masks(masks: Any) -> Tensor:
    """Return masks as bool ``(N, H, W)``; see `Proposals.from_masks`."""
    given = as_tensor(masks, "masks")
    if given.dtype != torch.bool and not given.is_floating_point() and not given.is_complex():
        inside = given != 0
        if (given[inside] == 1).all() or (given[inside] == 255).all():
            given = inside
    if given.ndim != 3 or given.dtype != torch.bool:
        fix = "masks[None] for a single one" if given.ndim == 2 else "for instance masks > 0.5"
        shape = tuple(given.shape)
        raise UserError(f"masks must be bool (N, H, W), got {given.dtype} {shape}; give {fix}.")
    return given


def size_of(segmentation: Any) -> Size | None:
    """Return the ``(H, W)`` that a segmentation says, a run-length code or a mask; None of polygons."""
    if isinstance(segmentation, Mapping):
        size = segmentation.get("size")
        fits = isinstance(size, Sequence) and len(size) == 2 and all(type(side) is int for side in size)
        return (size[0], size[1]) if fits and size is not None else None
    if isinstance(segmentation, Tensor | np.ndarray):
        return (segmentation.shape[0], segmentation.shape[1]) if segmentation.ndim == 2 else None
    return (len(segmentation), len(segmentation[0])) if _is_grid(segmentation) else None


def read_mask(segmentation: Any, height: int, width: int) -> Tensor:
    """Read a run-length code, a list of polygons, or a mask (rows of true and false), bool ``(H, W)``.

    A `ValueError` or `TypeError` if it is none of these, damaged, or of another size.
    """
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation, size=(height, width))
    if isinstance(segmentation, Tensor | np.ndarray) or _is_grid(segmentation):
        return _of_pixels(segmentation, height, width)
    # numpy would take text for numbers, and no list for no polygon
    polygons = msgspec.convert(plain(segmentation), list[list[float]])
    require_modest(polygons, height, width)
    return polygons_to_mask(polygons, height, width)


def read_list(entries: Sequence[Mapping[str, Any]], size: Size | None) -> tuple[Tensor, list[float]]:
    """Read what `gl_ris.proposals.Proposals.from_list` takes: masks ``(N, H, W)`` and their scores."""
    if isinstance(entries, Mapping | str) or not isinstance(entries, Sequence):
        raise UserError(f"Expected a list of masks with scores, but got {type(entries).__name__}.")
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or "segmentation" not in entry:
            raise UserError(
                f"Entry {number} of the list has no 'segmentation': give SAM's own list of dicts."
            )
    size = size or (size_of(entries[0]["segmentation"]) if entries else None)
    if size is None or not 0 <= size[0] * size[1] <= MAX_PIXELS:
        raise UserError(f"The list does not say the size of the image ({size}); give it by size=(H, W).")
    masks = torch.zeros(len(entries), *size, dtype=torch.bool)
    for number, entry in enumerate(entries):
        masks[number] = _entry_mask(entry["segmentation"], size, number)
    return masks, [_score(entry, number) for number, entry in enumerate(entries)]


def _entry_mask(segmentation: Any, size: Size, number: int) -> Tensor:
    own = size_of(segmentation)
    if own is not None and own != size:
        wanted = " x ".join(map(str, size))
        raise UserError(f"Entry {number} of the list is a mask of {own[0]} x {own[1]}, not of {wanted}.")
    try:
        return read_mask(segmentation, *size)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"The segmentation of entry {number} is damaged ({in_short(error)}).") from error


def _score(entry: Mapping[str, Any], number: int) -> float:
    name = next((name for name in SCORES if name in entry), None)
    if name is None:
        raise UserError(f"Entry {number} of the list has no score: it must have one of {', '.join(SCORES)}.")
    try:
        return float(entry[name])
    except (TypeError, ValueError) as error:
        raise UserError(f"Entry {number} of the list: {name} is {entry[name]!r:.60}, no number.") from error


def _is_grid(value: Any) -> bool:
    """Say whether a list is a mask written out, row by row, and no list of polygons."""
    return bool(isinstance(value, list) and value and isinstance(value[0], list) and value[0]) and (
        type(value[0][0]) is bool
    )


def _of_pixels(pixels: Any, height: int, width: int) -> Tensor:
    (mask,) = as_masks(pixels[None] if hasattr(pixels, "ndim") else [pixels])
    if mask.shape != (height, width):
        raise ValueError(f"a mask of {mask.shape[0]} x {mask.shape[1]} in an image of {height} x {width}")
    return mask.cpu()
