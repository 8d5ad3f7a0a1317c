"""Visual prompts against drawings by hand, Pillow's grey, the Gaussian's integral, an ellipse's equation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm
from torch import Tensor

from gl_ris.clip import RegionCLIP
from gl_ris.clip.prompts import PROMPTS, blurred, ellipse, grey, grown_box, outline
from gl_ris.recipe import Recipe


def drawn(*rows: str) -> Tensor:
    return torch.tensor([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "thickness", "expected"),
    [
        pytest.param(
            drawn("......", ".####.", ".####.", ".####.", "......"),
            1,
            drawn("......", ".####.", ".#..#.", ".####.", "......"),
            id="one pixel, inside",
        ),
        pytest.param(
            drawn(".......", "..###..", "..###..", "..###..", "......."),
            2,
            drawn(".#####.", ".#####.", ".##.##.", ".#####.", ".#####."),
            id="two, one on each side",
        ),
        pytest.param(
            drawn("####", "####", "####", "####"),
            1,
            drawn("####", "#..#", "#..#", "####"),
            id="where the image ends",
        ),
        pytest.param(
            drawn("#####", "#####", "##.##", "#####", "#####"),
            1,
            drawn("#####", "#####", "##.##", "#####", "#####"),
            id="a hole has an edge",
        ),
        pytest.param(
            drawn("#......", ".......", ".....#."),
            2,
            drawn("##.....", "##..###", "....###"),
            id="two parts",
        ),
        pytest.param(drawn("...", "..."), 3, drawn("...", "..."), id="nothing"),
    ],
)
def test_outline(mask: Tensor, thickness: int, expected: Tensor) -> None:
    assert outline(mask, thickness).int().tolist() == expected.int().tolist()


def test_ellipse_is_inscribed_in_its_box() -> None:
    line = ellipse((60, 80), [10, 20, 71, 51], 2)
    rows, columns = line.nonzero().double().T
    assert [columns.min(), rows.min(), columns.max(), rows.max()] == [10, 20, 70, 50]
    # 1 on the ellipse with half-axes 30 and 15 around (40, 35), less inside
    radius = ((columns - 40) / 30) ** 2 + ((rows - 35) / 15) ** 2
    assert radius.min() > 0.65
    assert radius.max() < 1.1
    assert not line[35, 40]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([100, 50, 200, 150], [96, 47, 204, 153]),
        ([2, 1, 399, 299], [0, 0, 400, 300]),
    ],
    ids=["1 % of each side", "not beyond the image"],
)
def test_boxes_grow_by_a_share_of_the_image(box: list[int], expected: list[int]) -> None:
    assert grown_box(box, (300, 400)) == expected
    assert grown_box([5, 5, 9, 9], (20, 20)) == [4, 4, 10, 10]


def test_grey_is_pillows(image: Tensor) -> None:
    expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"), np.float32)
    made = grey(image / 255, 1.0) * 255
    assert made.shape == image.shape
    for channel in made:
        np.testing.assert_allclose(channel, expected, atol=1)


@pytest.mark.parametrize("unit", [0.05, 0.2])
def test_a_blurred_step_is_the_gaussians_integral(unit: float) -> None:
    step = torch.zeros(3, 20, 200)
    step[:, :, 100:] = torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)
    made = blurred(step, unit)
    expected = norm.cdf(np.arange(200) - 99.5, scale=100 * unit)
    for channel, height in zip(made, (1.0, 0.5, 0.2), strict=True):
        np.testing.assert_allclose(channel, np.tile(height * expected, (20, 1)), atol=3 / 255)


def pictures(clip: RegionCLIP, image: Tensor, masks: Tensor, **fields: str) -> Tensor:
    """Pictures of the local branch in [0, 1]."""
    made = clip.context(image, masks).crops(Recipe(**fields), torch.arange(len(masks)))  # type: ignore[arg-type]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (clip.mean, clip.std))
    return made * std + mean


@pytest.fixture
def square(clips: dict[str, RegionCLIP]) -> tuple[RegionCLIP, Tensor, Tensor]:
    """An image of just the size that the tower reads, so that a full frame is not resized, and a mask."""
    clip = clips["vit"]
    image = torch.randint(0, 256, (3, *clip.image_size), dtype=torch.uint8)
    mask = torch.zeros(1, *clip.image_size, dtype=torch.bool)
    mask[0, 6:20, 4:16] = True
    return clip, image, mask


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_full_frame_shows_the_image_where_the_prompt_leaves_it(
    square: tuple[RegionCLIP, Tensor, Tensor], prompt: str
) -> None:
    clip, image, mask = square
    (made,) = pictures(clip, image, mask, local_prompt=prompt, local_frame="full")
    pixels = image / 255
    same = torch.isclose(made, pixels, atol=1e-5).all(dim=0)
    red = torch.isclose(made, torch.tensor([1.0, 0, 0]).view(3, 1, 1), atol=1e-5).all(dim=0)
    if prompt in ("contour", "ellipse"):
        assert (same | red).all()
        assert red.any()
        rows, columns = red.nonzero().T
        # the line is within a pixel of the box, XYXY (4, 6, 16, 20)
        edges = [int(side) for side in (columns.min(), rows.min(), columns.max(), rows.max())]
        assert np.abs(np.array(edges) - [4, 6, 15, 19]).max() <= 1
    else:
        assert same[mask[0]].all()
        outside = ~mask[0]
        assert not same[outside].all()
        instead = {
            "crop": torch.tensor(clip.mean).view(3, 1, 1).expand_as(pixels),
            "grey": torch.einsum("chw,c->hw", pixels, torch.tensor([0.299, 0.587, 0.114])).expand_as(pixels),
            "blur": blurred(pixels, min(clip.image_size) / 384),
        }[prompt]
        torch.testing.assert_close(made[:, outside], instead[:, outside], rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", ["crop", "blur", "grey"])
def test_a_crop_is_the_part_of_the_full_frame_in_the_box(clips: dict[str, RegionCLIP], prompt: str) -> None:
    """The box of the mask is as large as the tower's input, so that nothing is resized."""
    clip = clips["vit"]
    height, width = clip.image_size
    image = torch.randint(0, 256, (3, height + 9, width + 7), dtype=torch.uint8)
    mask = torch.zeros(1, height + 9, width + 7, dtype=torch.bool)
    mask[0, 5 : 5 + height, 3] = mask[0, 20, 3 : 3 + width] = True
    (made,) = pictures(clip, image, mask, local_prompt=prompt)
    part, inside = (whole[:, 5 : 5 + height, 3 : 3 + width] for whole in (image / 255, mask))
    torch.testing.assert_close(made[:, inside[0]], part[:, inside[0]], rtol=0, atol=1e-5)
    assert not torch.isclose(made, part, atol=1e-3).all()


def test_features_of_several_prompts_are_kept_apart(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    context = clip.context(image, masks)
    made = {
        (prompt, frame): context.local_features(Recipe(local_prompt=prompt, local_frame=frame))  # type: ignore[arg-type]
        for prompt in PROMPTS
        for frame in ("crop", "full")
    }
    assert made["crop", "crop"] is context.local_features(Recipe())
    values = list(made.values())
    assert all(features.isfinite().all() for features in values)
    assert not any(torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])


def test_an_empty_mask_has_a_picture_too(clip: RegionCLIP, image: Tensor) -> None:
    empty = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
    for prompt in PROMPTS:
        assert pictures(clip, image, empty, local_prompt=prompt).isfinite().all()
