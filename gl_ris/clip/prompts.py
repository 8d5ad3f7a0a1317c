"""Visual prompts: how the picture of one mask tells the mask from the rest (ReCLIP, RedCircle, FGVP).

A prompt says which pixels of the image stay, and what stands in the place of the others. The numbers are
FGVP's: a Gaussian blur of standard deviation 100, red lines 2 wide, an ellipse around the box grown by 1 % of
the image. They count in pixels of an image whose short side is 384: FGVP draws there, whatever the tower
reads; here they are drawn at the image's own size, scaled by its short side. FGVP's code differs in two
points, in which this follows its options and the usual formula: it never applies its 1 %, and for grey it
swaps red and blue.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SHORT_SIDE, BLUR, LINE, GROWN = 384, 100.0, 2.0, 0.01
RED = (1.0, 0.0, 0.0)
GREY = (0.299, 0.587, 0.114)  # luma of Rec. 601, as in Pillow and OpenCV


class Prompt(NamedTuple):
    """How one visual prompt is made, of an image ``(3, H, W)`` in [0, 1]."""

    # of image and pixels per unit, what stands where the image does not, ``(3, H, W)``; None is ``crop_fill``
    instead: Callable[[Tensor, float], Tensor] | None
    # of a mask ``(H, W)``, its box XYXY and pixels per unit, where the image stays: bool ``(H, W)``
    stays: Callable[[Tensor, Sequence[int], float], Tensor]
    around: bool = False  # whether it draws around the box, so that a crop must show more than that


def blurred(pixels: Tensor, unit: float) -> Tensor:
    """Blur an image with Pillow's Gaussian of standard deviation ``100 * unit``, to whole 255ths."""
    from PIL import Image, ImageFilter

    octets = (pixels * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    made = Image.fromarray(octets).filter(ImageFilter.GaussianBlur(BLUR * unit))
    return torch.from_numpy(np.array(made)).permute(2, 0, 1).to(pixels) / 255


def grey(pixels: Tensor, unit: float) -> Tensor:
    """Turn an image grey; three equal channels."""
    return (pixels * pixels.new_tensor(GREY).view(3, 1, 1)).sum(dim=0).expand_as(pixels)


def outline(mask: Tensor, thickness: int) -> Tensor:
    """Mark the band along a mask's edges, bool ``(H, W)``: the larger half of its width lies inside.

    Holes and parts have edges of their own, and so has a mask where the image ends. A mask without a pixel
    has none.
    """

    def grown(area: Tensor, by: int) -> Tensor:
        padded = F.pad(area.float()[None], (by,) * 4, value=float(area is not mask))
        return F.max_pool2d(padded, 2 * by + 1, stride=1)[0] > 0

    outer = thickness // 2
    return grown(mask, outer) & grown(~mask, thickness - outer)


def ellipse(shape: Sequence[int], box: Sequence[int], thickness: int) -> Tensor:
    """Mark the line of the ellipse in a box, bool ``(H, W)``.

    Args:
        shape: ``(H, W)`` of the image.
        box: XYXY in whole pixels, exclusive. The line lies inside.
        thickness: Of the line in pixels.
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (shape[1], shape[0]))
    left, top, right, bottom = box
    ImageDraw.Draw(canvas).ellipse((left, top, right - 1, bottom - 1), outline=1, width=thickness)
    return torch.from_numpy(np.array(canvas)).bool()


def grown_box(box: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Grow a box XYXY by 1 % of the image ``(H, W)`` on each side, a pixel at least, up to its end."""
    height, width = shape
    x, y = (max(1, round(GROWN * side)) for side in (width, height))
    left, top, right, bottom = box
    return [max(left - x, 0), max(top - y, 0), min(right + x, width), min(bottom + y, height)]


def _line(unit: float) -> int:
    return max(1, round(LINE * unit))


def _red(pixels: Tensor, unit: float) -> Tensor:
    return pixels.new_tensor(RED).view(3, 1, 1).expand_as(pixels)


def _inside(mask: Tensor, box: Sequence[int], unit: float) -> Tensor:
    return mask


PROMPTS = {
    "crop": Prompt(None, _inside),
    "blur": Prompt(blurred, _inside),
    "grey": Prompt(grey, _inside),
    "contour": Prompt(_red, lambda mask, box, unit: ~outline(mask, _line(unit)), around=True),
    "ellipse": Prompt(
        _red,
        lambda mask, box, unit: ~ellipse(mask.shape, grown_box(box, mask.shape), _line(unit)).to(mask.device),
        around=True,
    ),
}
