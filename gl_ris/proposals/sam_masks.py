"""Which of the masks that SAM answers with are kept, and how they are tidied up, as pure functions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gl_ris.masks import pairwise_areas
from gl_ris.proposals.sam_grid import Crop

CROP_EDGE = 20
"""So many pixels near the edge of a crop, a mask counts as cut off by it."""


def stability(logits: Tensor, offset: float) -> Tensor:
    """Measure how little masks depend on where their logits are cut.

    Args:
        logits: Float ``(N, H, W)``; the mask is where they are above 0.
        offset: By how much the cut is moved up and down, above 0.

    Returns:
        float32 ``(N,)``: the area of the mask with the higher cut as a share of that with the lower one, in
        [0, 1]; 0 where both are empty.
    """
    inner, outer = ((logits > cut).sum(dim=(-2, -1)) for cut in (offset, -offset))
    return inner.float() / outer.clamp(min=1)


def cut_off(boxes: Tensor, crop: Crop, height: int, width: int) -> Tensor:
    """Find the masks that end near an edge of their crop where the image goes on.

    Args:
        boxes: float32 ``(N, 4)``, XYXY in pixels of the image.
        crop: Where the masks were found.
        height: Of the image, in pixels.
        width: Likewise.

    Returns:
        bool ``(N,)``.
    """
    edges, limits = boxes.new_tensor(crop), boxes.new_tensor([0, 0, width, height])
    near_crop, near_image = ((boxes - sides).abs() <= CROP_EDGE for sides in (edges, limits))
    return (near_crop & ~near_image).any(dim=1)


def without_small_regions(mask: Tensor, min_region: int) -> Tensor:
    """Fill a mask's small holes, then take away its small islands.

    Regions hang together across corners, too. The largest island stays, however small.

    Args:
        mask: bool ``(H, W)``.
        min_region: Smallest hole and island that stays, in pixels; 1 changes nothing.

    Returns:
        bool ``(H, W)``; an empty mask stays empty.
    """
    if min_region <= 1 or not mask.any():
        return mask
    pixels = mask.cpu().numpy()
    holes, areas = _regions(~pixels)
    pixels = pixels | (areas < min_region)[holes] & ~pixels
    islands, areas = _regions(pixels)
    keep = areas >= min_region
    keep[1 + areas[1:].argmax()] = True
    return torch.from_numpy(keep[islands] & pixels).to(mask.device)


def _regions(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the connected regions from 1 on, with the area of each number; 0 is what is outside."""
    from scipy.ndimage import label

    labels, count = label(pixels, structure=np.ones((3, 3)))
    return labels, np.bincount(labels.ravel(), minlength=count + 1)


def distinct(masks: Tensor, scores: Tensor, max_iou: float) -> Tensor:
    """Choose masks greedily by score, leaving out what is nearly the same as a chosen one.

    Args:
        masks: bool ``(N, H, W)``.
        scores: ``(N,)``.
        max_iou: Largest intersection over union with a chosen mask; identical masks are never both chosen.

    Returns:
        int64, the chosen ones, best first; equal scores keep their order.
    """
    order = scores.argsort(descending=True, stable=True)
    intersection, union = pairwise_areas(masks, masks)
    same = ((intersection > max_iou * union) | (intersection == union)).cpu()
    chosen: list[int] = []
    for index in order.tolist():
        if not same[index, chosen].any():
            chosen.append(index)
    return torch.tensor(chosen, dtype=torch.int64, device=masks.device)
