"""Pictures: the right pixels get the right colours, and text fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gl_ris.visualize import PREDICTION, TARGET, contact_sheet, overlay

GREY = torch.full((3, 300, 400), 100, dtype=torch.uint8)
BLENDED = tuple(round(60 + 0.4 * level) for level in PREDICTION)
SHADED = (83, 83, 84)


def _box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (300, 400)) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def _near(pixel: tuple[int, ...], colour: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= 2 for a, b in zip(pixel, colour, strict=True))


def test_prediction_is_filled_and_target_outlined() -> None:
    picture = overlay(GREY, _box(50, 50, 150, 150), _box(100, 200, 200, 300))
    assert picture.size == (400, 300)
    assert _near(picture.getpixel((100, 100)), BLENDED)
    assert _near(picture.getpixel((250, 150)), SHADED), "inside the target"
    assert picture.getpixel((200, 150)) == TARGET
    assert picture.getpixel((250, 100)) == TARGET
    assert max(picture.getpixel((198, 150))) < 50, "a dark rim around the outline"
    assert _near(picture.getpixel((20, 20)), SHADED), "outside both"


def test_without_a_prediction_nothing_is_shaded() -> None:
    picture = overlay(GREY, None, _box(100, 200, 200, 300))
    assert picture.getpixel((20, 20)) == picture.getpixel((250, 150)) == (100, 100, 100)
    assert picture.getpixel((200, 150)) == TARGET


def test_a_mask_at_the_border_is_outlined_there() -> None:
    picture = overlay(GREY, None, torch.ones(300, 400, dtype=torch.bool))
    assert picture.getpixel((0, 150)) == picture.getpixel((399, 150)) == TARGET
    assert picture.getpixel((200, 0)) == picture.getpixel((200, 299)) == TARGET


@pytest.mark.parametrize("mask", [None, torch.zeros(300, 400, dtype=torch.bool)], ids=["none", "empty"])
def test_nothing_to_draw_leaves_the_image(mask: torch.Tensor | None) -> None:
    assert np.array_equal(np.asarray(overlay(GREY, mask, mask)), GREY.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("height", "width", "factor"),
    [(64, 96, 4), (100, 120, 3), (256, 256, 1), (480, 640, 1), (10, 1000, 2), (3000, 10, 1)],
)
def test_small_images_are_enlarged_by_a_whole_factor(height: int, width: int, factor: int) -> None:
    picture = overlay(torch.zeros(3, height, width, dtype=torch.uint8), None, None)
    assert picture.size == (width * factor, height * factor)


def test_masks_grow_with_the_image() -> None:
    size = (64, 64)
    picture = overlay(torch.full((3, 64, 64), 100, dtype=torch.uint8), _box(20, 20, 44, 44, size), None)
    filled = np.abs(np.asarray(picture)[20 * 4 + 4 : 44 * 4 - 4, 20 * 4 + 4 : 44 * 4 - 4] - np.array(BLENDED))
    assert filled.max() <= 2
    assert _near(picture.getpixel((20 * 4 - 4, 128)), SHADED)


def test_captions_are_wrapped_into_the_width() -> None:
    words = overlay(GREY, None, None, "the large striped star that is left of the small blue ring " * 2)
    word = overlay(GREY, None, None, "w" * 150)
    short = overlay(GREY, None, None, "star")
    assert words.width == word.width == short.width == 400
    assert words.height > short.height > 300
    for picture in (words, word):
        strip = np.asarray(picture)[300:]
        assert (strip < 128).any(), "there is text"
        assert (strip[:, -8:] == 255).all(), "none of it leaves the strip"
        assert (strip[-8:] == 255).all(), "nor is it cut at the bottom"


def test_captions_of_upright_images_are_as_large_as_those_of_lying_ones() -> None:
    def line(height: int, width: int) -> int:
        """Pixels that a line of caption takes."""
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        return overlay(image, None, None, "a", iou=0.5).height - overlay(image, None, None, "a").height

    assert line(640, 480) == line(480, 640) > line(480, 480)
    assert line(2000, 300) < line(2000, 2000), "a narrow one must hold words"


def test_iou_has_a_line_of_its_own() -> None:
    plain = overlay(GREY, None, None, "star")
    with_iou = overlay(GREY, None, None, "star", iou=0.5)
    other_iou = overlay(GREY, None, None, "star", iou=0.9)
    assert with_iou.height == other_iou.height > plain.height
    assert with_iou.tobytes() != other_iou.tobytes()


@pytest.mark.parametrize(
    ("image", "mask", "error", "message"),
    [
        pytest.param(GREY.float(), None, TypeError, "uint8.*float32", id="float-image"),
        pytest.param(GREY[:1], None, ValueError, r"\(3, H, W\)", id="grey-image"),
        pytest.param(GREY[:, :0], None, ValueError, r"\(3, 0, 400\)", id="no-pixels"),
        pytest.param(GREY, torch.zeros(300, 400), TypeError, "bool.*float32", id="float-mask"),
        pytest.param(
            GREY, _box(0, 0, 1, 1, (400, 300)), ValueError, r"\(400, 300\).*\(300, 400\)", id="size"
        ),
    ],
)
def test_bad_input_is_refused(
    image: torch.Tensor, mask: torch.Tensor | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        overlay(image, mask, None)
    with pytest.raises(error, match=message):
        overlay(image, None, mask)


def test_a_contact_sheet_shows_every_picture_whole() -> None:
    sizes = [(60, 40), (80, 90), (50, 50), (80, 20), (30, 30)]
    images = [Image.new("RGB", size, (10 * i + 10, 0, 0)) for i, size in enumerate(sizes)]
    sheet = np.asarray(contact_sheet(images, columns=2, legend=False))
    for i, (width, height) in enumerate(sizes):
        assert (sheet == (10 * i + 10, 0, 0)).all(axis=2).sum() == width * height


def test_the_legend_shows_both_colours() -> None:
    images = [Image.new("RGB", (200, 100))] * 2
    with_legend, without = contact_sheet(images), contact_sheet(images, legend=False)
    assert with_legend.height > without.height
    footer = np.asarray(with_legend)[without.height :]
    assert all((footer == colour).all(axis=2).any() for colour in (PREDICTION, TARGET))
    assert not (np.asarray(without) == TARGET).all(axis=2).any()


@pytest.mark.parametrize(("images", "columns"), [([], 4), ([Image.new("RGB", (1, 1))], 0)])
def test_an_impossible_sheet_is_refused(images: list[Image.Image], columns: int) -> None:
    with pytest.raises(ValueError, match="pictures and columns >= 1"):
        contact_sheet(images, columns)
