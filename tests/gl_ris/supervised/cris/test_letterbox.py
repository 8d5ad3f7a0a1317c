"""The square that CRIS reads, against interpolation written out pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gl_ris.supervised.cris.recipe import Letterbox

SIZES = [(30, 48, 64), (48, 30, 64), (100, 70, 64), (7, 90, 32), (64, 64, 64), (1, 40, 32)]


def keys(distance: float) -> float:
    """The cubic kernel with a = -0.75."""
    t = abs(distance)
    if t <= 1:
        return 1.25 * t**3 - 2.25 * t**2 + 1
    return -0.75 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def cubic_at(plane: Tensor, y: float, x: float) -> float:
    height, width = plane.shape
    total = 0.0
    for i in range(math.floor(y) - 1, math.floor(y) + 3):
        for j in range(math.floor(x) - 1, math.floor(x) + 3):
            if 0 <= i < height and 0 <= j < width:
                total += plane[i, j].item() * keys(y - i) * keys(x - j)
    return total


@pytest.mark.parametrize(("height", "width", "side"), SIZES[:4])
def test_an_image_is_centred_on_the_border_colour(height: int, width: int, side: int) -> None:
    torch.manual_seed(0)
    image, border = torch.randint(0, 256, (3, height, width), dtype=torch.uint8), (120.0, 115.5, 104.25)
    square = Letterbox(height, width, side).image(image, border)
    scale = side / max(height, width)
    top, left = (side - height * scale) / 2, (side - width * scale) / 2
    for y, x in [
        (side // 2, side // 2),
        (side // 2 + 3, side // 2 - 5),
        (0, 0),
        (side - 1, 2),
        (5, side // 3),
    ]:
        for channel in range(3):
            plane = image[channel].float() - border[channel]
            value = cubic_at(plane, (y - top) / scale, (x - left) / scale) + border[channel]
            assert abs(square[channel, y, x].item() - min(255, max(0, value))) <= 0.501
    assert square.shape == (3, side, side)
    assert torch.equal(square, square.round())


@pytest.mark.parametrize(("height", "width", "side"), SIZES)
def test_a_mask_survives_the_way_there_and_back(height: int, width: int, side: int) -> None:
    box = Letterbox(height, width, side)
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[: max(1, height // 2), width // 4 : 3 * width // 4] = True
    returned = box.back(box.mask(mask)[None])[0] > 0.5
    both = (returned & mask).sum() / (returned | mask).sum()
    # what is made smaller by half loses up to a pixel at its edge
    assert both > (0.99 if box.scale >= 1 else 0.85)


def test_outside_of_the_image_there_is_no_object() -> None:
    square = Letterbox(10, 40, 32).mask(torch.ones(10, 40, dtype=torch.bool))
    assert not square[:11].any()
    assert not square[21:].any()
    assert square[13:19].min() == 1
