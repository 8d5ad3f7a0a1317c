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
    """Turn an image into numbers, by way of a fixed short side if asked.

    Args:
        image: uint8 ``(3, H, W)`` RGB.
        working_size: Short side in pixels to resize to with Pillow (bilinear, rounded to whole grey levels;
            the long side is truncated to an integer); None keeps the size.

    Returns:
        float32 ``(3, h, w)`` in [0, 1] on the image's device.
    """
    if working_size is not None:
        from torchvision.transforms.functional import pil_to_tensor, resize, to_pil_image

        image = pil_to_tensor(resize(to_pil_image(image.cpu()), [working_size])).to(image.device)
    return image.float() / 255


def resize_pixels(
    pixels: Tensor, size: tuple[int, int], *, mode: Literal["bilinear", "bicubic"], antialias: bool
) -> Tensor:
    """Resize to exactly ``size`` (height, width), whatever the aspect ratio.

    Args:
        pixels: float ``(B, 3, h, w)`` in [0, 1].
        size: Height and width of the result.
        mode: Interpolation; what bicubic overshoots is cut to [0, 1], as it is in an image library.
        antialias: Average over the source pixels that a target pixel covers when making smaller.

    Returns:
        ``(B, 3, *size)`` in [0, 1].
    """
    if pixels.shape[-2:] == size:
        return pixels
    resized = F.interpolate(pixels, size, mode=mode, align_corners=False, antialias=antialias)
    return resized.clamp(0, 1)


def standardize(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the mean and divide by the standard deviation, channel by channel.

    Args:
        pixels: float ``(B, 3, h, w)`` in [0, 1].
        mean: RGB mean in [0, 1].
        std: RGB standard deviation.
    """
    return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)


def masks_on_grid(
    masks: Tensor, grid: tuple[int, int], rule: Literal["area", "sampled", "nearest"]
) -> Tensor:
    """Bring masks to the resolution of a feature grid (the resize of Eq. 3).

    Args:
        masks: bool ``(N, H, W)`` at the image's own size.
        grid: Rows and columns of the grid that covers the whole image.
        rule: ``"area"`` averages each cell (cells share a row or column of pixels where the size is no
            multiple of the grid), so a mask with a pixel keeps a positive cell; ``"sampled"`` interpolates
            between the four pixels around each cell's centre, so a small mask can vanish; ``"nearest"`` takes
            the pixel at each cell's upper left corner.

    Returns:
        float32 ``(N, *grid)`` in [0, 1].
    """
    soft = masks[:, None].float()
    if rule == "area":
        return F.adaptive_avg_pool2d(soft, grid)[:, 0]
    if rule == "nearest":
        return F.interpolate(soft, grid, mode="nearest")[:, 0]
    return F.interpolate(soft, grid, mode="bilinear", align_corners=False, antialias=False)[:, 0]


def crop_windows(boxes: Tensor, size: tuple[int, int], rounding: Literal["cover", "truncate"]) -> Tensor:
    """Round boxes to whole pixels inside the image.

    Args:
        boxes: float ``(N, 4)`` XYXY in pixels.
        size: Height and width of the image.
        rounding: ``"cover"`` rounds outwards, ``"truncate"`` all four numbers towards zero.

    Returns:
        int64 ``(N, 4)`` XYXY, right and lower edge exclusive. A window that came out empty is widened to
        one pixel (the published code fails there).
    """
    height, width = size
    if rounding == "truncate":
        low, high = boxes[:, :2].trunc(), boxes[:, 2:].trunc()
    else:
        low, high = boxes[:, :2].floor(), boxes[:, 2:].ceil()
    edge = boxes.new_tensor([width, height])
    low = torch.minimum(low.clamp(min=0), edge - 1)
    high = torch.maximum(torch.minimum(high, edge), low + 1)
    return torch.cat([low, high], dim=1).long()


def masked_crop(pixels: Tensor, mask: Tensor, window: Sequence[int], fill: Tensor) -> Tensor:
    """Cut the window out of the image and fill everything outside the mask (``crop(I * m)`` of Eq. 4).

    Args:
        pixels: float ``(3, H, W)``.
        mask: bool ``(H, W)``.
        window: XYXY in whole pixels, exclusive.
        fill: ``(3,)`` colour of the background.

    Returns:
        ``(3, window height, window width)``.
    """
    left, top, right, bottom = window
    inside = mask[top:bottom, left:right]
    return torch.where(inside, pixels[:, top:bottom, left:right], fill.view(3, 1, 1))
