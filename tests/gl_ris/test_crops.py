"""Geometry against Pillow in floating point, and against bilinear sampling written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gl_ris.clip.image import (
    crop_windows,
    masked_crop,
    masks_on_grid,
    resize_pixels,
    standardize,
    to_unit_range,
)


def pillow_resize(pixels: Tensor, size: tuple[int, int], mode: Image.Resampling) -> Tensor:
    channels = [Image.fromarray(channel.numpy()).resize(size[::-1], mode) for channel in pixels]
    return torch.from_numpy(np.stack([np.asarray(channel) for channel in channels]))


def sampled(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation at the centres of the target pixels, without antialiasing."""
    height, width = pixels.shape[-2:]
    result = torch.zeros(*pixels.shape[:-2], *size)
    for row in range(size[0]):
        for column in range(size[1]):
            y = min(max((row + 0.5) * height / size[0] - 0.5, 0), height - 1)
            x = min(max((column + 0.5) * width / size[1] - 0.5, 0), width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            down, across = y - top, x - left
            result[..., row, column] = (
                (1 - down) * (1 - across) * pixels[..., top, left]
                + (1 - down) * across * pixels[..., top, right]
                + down * (1 - across) * pixels[..., bottom, left]
                + down * across * pixels[..., bottom, right]
            )
    return result


@pytest.mark.parametrize("size", [(32, 32), (96, 96), (20, 100)], ids=["smaller", "larger", "both"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialiased_resize_is_pillows(image: Tensor, size: tuple[int, int], mode: str) -> None:
    pixels = to_unit_range(image)
    expected = pillow_resize(pixels, size, getattr(Image.Resampling, mode.upper())).clamp(0, 1)
    actual = resize_pixels(pixels[None], size, mode=mode, antialias=True)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


def test_bicubic_does_not_leave_the_range() -> None:
    edge = torch.zeros(1, 3, 40, 40)
    edge[..., 20:] = 1
    resized = resize_pixels(edge, (24, 24), mode="bicubic", antialias=True)
    assert resized.min() == 0
    assert resized.max() == 1


@pytest.mark.parametrize("size", [(32, 32), (60, 90)])
def test_resize_without_antialiasing_samples_bilinearly(image: Tensor, size: tuple[int, int]) -> None:
    pixels = to_unit_range(image)
    actual = resize_pixels(pixels[None], size, mode="bilinear", antialias=False)[0]
    torch.testing.assert_close(actual, sampled(pixels, size), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (45, 70, (90, 140)),
        (70, 45, (140, 90)),
        (45, 77, (90, 154)),
        (31, 50, (90, 145)),
        (90, 120, (90, 120)),
    ],
)
def test_working_size_is_pillows_with_a_truncated_long_side(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    actual = to_unit_range(torch.from_numpy(pixels).permute(2, 0, 1), 90)
    resized = Image.fromarray(pixels).resize(expected[::-1], Image.Resampling.BILINEAR)
    assert actual.shape == (3, *expected)
    assert torch.equal(actual, torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255)


def test_standardize() -> None:
    pixels = torch.tensor([0.5, 0.5, 1.0]).view(3, 1, 1)
    result = standardize(pixels, (0.25, 0.5, 0.0), (0.5, 0.1, 0.25))
    assert result.flatten().tolist() == [0.5, 0.0, 4.0]


def test_area_grid_is_the_covered_share_of_each_cell() -> None:
    masks = torch.rand(3, 24, 40, generator=torch.Generator().manual_seed(0)) > 0.7
    grid = masks_on_grid(masks, (6, 8), "area")
    for n, row, column in np.ndindex(3, 6, 8):
        cell = masks[n, 4 * row : 4 * row + 4, 5 * column : 5 * column + 5]
        assert grid[n, row, column] == pytest.approx(cell.sum().item() / 20)


def test_a_single_pixel_survives_on_the_area_grid_and_can_vanish_when_sampled() -> None:
    masks = torch.eye(45 * 70, dtype=torch.bool)[::97].view(-1, 45, 70)
    assert (masks_on_grid(masks, (7, 7), "area").flatten(1).sum(1) > 0).all()
    assert (masks_on_grid(masks, (7, 7), "sampled").flatten(1).sum(1) == 0).any()


def test_sampled_grid_interpolates_at_the_cell_centres(masks: Tensor) -> None:
    expected = sampled(masks.float(), (7, 7))
    torch.testing.assert_close(masks_on_grid(masks, (7, 7), "sampled"), expected, rtol=0, atol=1e-5)


def test_a_grid_finer_than_the_mask_repeats_pixels() -> None:
    masks = torch.tensor([[[True, False], [False, False]]])
    expected = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(masks_on_grid(masks, (4, 4), "area")[0], expected)


@pytest.mark.parametrize(
    ("box", "rounding", "expected"),
    [
        pytest.param([1.0, 2.0, 5.0, 7.0], "cover", [1, 2, 5, 7], id="whole"),
        pytest.param([1.5, 2.5, 5.5, 7.5], "cover", [1, 2, 6, 8], id="outwards"),
        pytest.param([2.5, 3.5, 6.5, 8.5], "truncate", [2, 3, 6, 8], id="last row and column lost"),
        pytest.param([-0.5, -0.5, 6.5, 8.5], "truncate", [0, 0, 6, 8], id="towards zero"),
        pytest.param([-3.0, -2.0, 99.0, 98.0], "cover", [0, 0, 20, 10], id="cut to the image"),
        pytest.param([-0.5, 2.5, 0.5, 3.5], "truncate", [0, 2, 1, 3], id="empty becomes one column"),
        pytest.param([20.0, 10.0, 20.0, 10.0], "cover", [19, 9, 20, 10], id="empty at the far corner"),
        pytest.param([0.0, 0.0, 0.0, 0.0], "cover", [0, 0, 1, 1], id="box of an empty mask"),
    ],
)
def test_crop_windows(box: list[float], rounding: str, expected: list[int]) -> None:
    windows = crop_windows(torch.tensor([box]), (10, 20), rounding)  # type: ignore[arg-type]
    assert windows.tolist() == [expected]


def test_masked_crop_fills_the_background() -> None:
    pixels = torch.arange(24.0).view(2, 12).repeat(3, 1, 1) / 24
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[1, 4] = mask[0, 5] = True
    crop = masked_crop(pixels, mask, [4, 0, 6, 2], torch.tensor([0.1, 0.2, 0.3]))
    for channel, fill in enumerate((0.1, 0.2, 0.3)):
        expected = [[fill, 5 / 24], [16 / 24, fill]]
        torch.testing.assert_close(crop[channel], torch.tensor(expected))
