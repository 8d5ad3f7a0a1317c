"""From an image and its masks to what a CLIP image tower reads: geometry as pure functions.

Everything is squashed to the tower's input size, never centre-cropped, so that a mask and the feature grid
always cover the same part of the image. Pixel values are RGB in [0, 1] until `standardize`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def to_unit_range(image: Tensor, working_size: int | None = None) -> Tensor:
    """Turn uint8 ``(3, H, W)`` RGB into float32 in [0, 1], by way of a fixed short side if asked."""
    # Pillow rounds to whole grey levels, and torchvision truncates the long side
    if working_size is not None:
        from torchvision.transforms.functional import pil_to_tensor, resize, to_pil_image

        image = pil_to_tensor(resize(to_pil_image(image.cpu()), [working_size])).to(image.device)
    return image.float() / 255


def resize_pixels(
    pixels: Tensor, size: tuple[int, int], *, mode: Literal["bilinear", "bicubic"], antialias: bool
) -> Tensor:
    """Resize ``(B, 3, h, w)`` in [0, 1] to exactly ``size`` (height, width), whatever the aspect ratio."""
    if pixels.shape[-2:] == size:
        return pixels
    resized = F.interpolate(pixels, size, mode=mode, align_corners=False, antialias=antialias)
    # bicubic overshoots; an image library cuts it, too
    return resized.clamp(0, 1)


def standardize(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the mean and divide by the deviation, channel by channel of ``(B, 3, h, w)`` in [0, 1]."""
    return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)


def masks_on_grid(masks: Tensor, grid: tuple[int, int], rule: Literal["area", "sampled"]) -> Tensor:
    """Bring bool masks ``(N, H, W)`` to a feature grid (Eq. 3), float32 ``(N, *grid)`` in [0, 1].

    ``"area"`` averages each cell (cells share a row or column of pixels where the size is no multiple of the
    grid), so a mask with a pixel keeps a positive cell; ``"sampled"`` interpolates between the four pixels
    around each cell's centre, so a small mask can vanish.
    """
    soft = masks[:, None].float()
    if rule == "area":
        return F.adaptive_avg_pool2d(soft, grid)[:, 0]
    return F.interpolate(soft, grid, mode="bilinear", align_corners=False, antialias=False)[:, 0]


def crop_windows(boxes: Tensor, size: tuple[int, int], rounding: Literal["cover", "truncate"]) -> Tensor:
    """Round boxes ``(N, 4)`` XYXY to whole pixels inside the image: outwards, or all four towards zero.

    int64 ``(N, 4)``, right and lower edge exclusive.
    """
    height, width = size
    if rounding == "truncate":
        low, high = boxes[:, :2].trunc(), boxes[:, 2:].trunc()
    else:
        low, high = boxes[:, :2].floor(), boxes[:, 2:].ceil()
    edge = boxes.new_tensor([width, height])
    low = torch.minimum(low.clamp(min=0), edge - 1)
    # a window that came out empty is widened to one pixel (the published code fails there)
    high = torch.maximum(torch.minimum(high, edge), low + 1)
    return torch.cat([low, high], dim=1).long()


def masked_crop(pixels: Tensor, mask: Tensor, window: Sequence[int], fill: Tensor) -> Tensor:
    """Cut an XYXY window out of ``(3, H, W)``, filled outside the mask (``crop(I * m)`` of Eq. 4)."""
    left, top, right, bottom = window
    inside = mask[top:bottom, left:right]
    return torch.where(inside, pixels[:, top:bottom, left:right], fill.view(3, 1, 1))
