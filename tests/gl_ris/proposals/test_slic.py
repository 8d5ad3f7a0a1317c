"""SLIC proposals; what they share with Felzenszwalb's is tested there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.proposals import SLIC, Proposals, find_generator
from gl_ris.proposals.regions import melted
from gl_ris.proposals.slic import superpixels


def ground(height: int = 96, width: int = 128) -> np.ndarray:
    """Paint a tilted grey ground with a little noise, float (H, W, 3)."""
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 1))
    return 120 + 0.1 * np.add.outer(np.arange(height), np.arange(width))[..., None] + noise + np.zeros(3)


def picture(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)


def best_iou(proposals: Proposals, target: np.ndarray) -> float:
    masks = proposals.masks.numpy()
    return max(((mask & target).sum() / (mask | target).sum() for mask in masks), default=0.0)


def disc(y: int, x: int, radius: int) -> np.ndarray:
    rows, columns = np.ogrid[:96, :128]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def test_drawn_discs_are_found_as_wholes_and_first() -> None:
    pixels = ground()
    red, blue, core = disc(40, 34, 20), disc(60, 92, 22), disc(60, 92, 8)
    pixels[red], pixels[blue], pixels[core] = (200, 30, 30), (30, 60, 200), (240, 230, 90)
    proposals = SLIC()(picture(pixels))
    first = Proposals(proposals.masks[:2], proposals.boxes[:2], proposals.scores[:2])
    assert best_iou(first, red) > 0.9
    assert best_iou(first, blue) > 0.9
    assert (proposals.scores.diff() <= 0).all()


@pytest.mark.parametrize("threshold", [0, 10, 40, 500])
def test_melting_parts_an_image_as_skimage_does(threshold: float) -> None:
    from skimage.graph import cut_threshold, rag_mean_color
    from skimage.segmentation import slic

    pixels = np.random.default_rng(1).integers(0, 256, (12, 15, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    labels = slic(pixels, 80, 20, start_label=0)
    wanted = cut_threshold(labels, rag_mean_color(pixels, labels, connectivity=1), threshold)
    found = melted(labels, pixels, threshold)
    pairs = np.unique(np.stack([wanted.ravel(), found.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(wanted)) == len(np.unique(found))
    assert found.max() + 1 == len(np.unique(found))


def drawing(height: int, width: int, levels: int = 256) -> np.ndarray:
    """Paint coloured discs with dots in them on a ground with a little noise, uint8 (H, W, 3)."""
    rng = np.random.default_rng(levels + height)
    pixels = rng.normal(150, 2, (height, width, 3)).round()
    rows, columns = np.ogrid[:height, :width]
    for _ in range(12):
        y, x, radius = rng.integers(height), rng.integers(width), rng.integers(2, 3 + min(height, width) // 4)
        inside = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        pixels[inside] = rng.integers(0, 256, 3)
        pixels[inside & (rows % 7 < 3) & (columns % 7 < 3)] = rng.integers(0, 256, 3)
    return (pixels // (256 // levels) * (256 // levels)).clip(0, 255).astype(np.uint8)


SIZES = [(1, 1), (1, 50), (50, 1), (2, 3), (5, 40), (31, 24), (64, 64), (90, 61)]
PICTURES = {
    "flat": lambda size: np.full((*size, 3), 77, np.uint8),
    "two": lambda size: np.tile(np.arange(size[1])[:, None] % 8 // 4 * 200, (size[0], 1, 3)).astype(np.uint8),
    "noise": lambda size: np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8),
    "drawing": lambda size: drawing(*size),
    "few colours": lambda size: drawing(*size, levels=4),
}


@pytest.mark.parametrize(
    "settings", [(4000, 20.0, 0.5), (300, 20.0, 0.5), (60, 5.0, 0.0), (20, 0.5, 1.5)], ids=str
)
@pytest.mark.parametrize("name", PICTURES)
def test_superpixels_are_those_of_skimage(name: str, settings: tuple[int, float, float]) -> None:
    from skimage.segmentation import slic

    segments, compactness, sigma = settings
    for size in SIZES:
        pixels = PICTURES[name](size)
        wanted = slic(pixels, segments, compactness, sigma=sigma, start_label=0)
        np.testing.assert_array_equal(superpixels(pixels, *settings), wanted, err_msg=str(size))


def test_superpixels_are_those_of_skimage_where_clusters_lose_all_their_pixels() -> None:
    from skimage.segmentation import slic

    pixels = drawing(120, 150)
    raw = slic(pixels, 2500, 5.0, sigma=0.5, start_label=0, enforce_connectivity=False)
    assert len(np.unique(raw)) <= raw.max()
    wanted = slic(pixels, 2500, 5.0, sigma=0.5, start_label=0)
    np.testing.assert_array_equal(superpixels(pixels, 2500, 5.0, 0.5), wanted)


def test_skimage_does_what_is_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    from skimage import segmentation

    slic, calls = segmentation.slic, []

    def counted(*args: Any, **options: Any) -> np.ndarray:
        calls.append(args)
        return slic(*args, **options)

    monkeypatch.setattr(segmentation, "slic", counted)
    pixels = drawing(40, 50)
    usual = superpixels(pixels, 200, 20.0, 0.5)
    assert not calls
    wanted = slic(pixels, 200, 1e-5, sigma=0.5, start_label=0)
    np.testing.assert_array_equal(superpixels(pixels, 200, 1e-5, 0.5), wanted)
    assert len(calls) == 1
    monkeypatch.delattr(segmentation._slic, "_enforce_label_connectivity_cython")
    with pytest.warns(UserWarning, match="hides a step of SLIC"):
        np.testing.assert_array_equal(superpixels(pixels, 200, 20.0, 0.5), usual)
    assert len(calls) == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 2), (50, 60)], ids=str)
def test_an_image_without_an_edge_has_no_proposals(size: tuple[int, int]) -> None:
    assert len(SLIC()(torch.full((3, *size), 77, dtype=torch.uint8))) == 0


def test_noise_gives_few_enough_regions() -> None:
    noise = torch.randint(0, 256, (3, 120, 160), dtype=torch.uint8)
    assert SLIC().segment(noise.permute(1, 2, 0).numpy()).max() < 400
    assert len(SLIC()(noise)) <= 20


def test_nothing_is_random_and_settings_rebuild_the_generator() -> None:
    pixels = ground()
    pixels[disc(50, 60, 25)] = (200, 30, 30)
    generator = SLIC(segments=900, melt=20.0, max_count=3)
    again = SLIC(**generator.settings())
    assert torch.equal(generator(picture(pixels)).masks, again(picture(pixels)).masks)
    assert again.settings() == generator.settings()
    assert (type(find_generator("slic")), SLIC.league) == (SLIC, "unsupervised")


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ({"segments": 1}, "segments is 1, it must be at least 2"),
        ({"compactness": 0}, "compactness is 0, it must be above 0"),
        ({"sigma": -1}, "sigma is -1, it must be at least 0"),
        ({"melt": -1}, "melt is -1, it must be at least 0"),
        ({"max_area": 2}, "max_area is 2, it must be above 0 and up to 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], wanted: str) -> None:
    with pytest.raises(UserError, match=f"SLIC: {wanted}"):
        SLIC(**setting)
