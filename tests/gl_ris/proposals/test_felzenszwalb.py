from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.proposals import Felzenszwalb, ProposalGenerator, Proposals, find_generator


def ground(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """Paint a tilted grey ground with a little noise, float (H, W, 3)."""
    noise = np.random.default_rng(seed).normal(0, 3, (height, width, 1))
    return 120 + 0.1 * np.add.outer(np.arange(height), np.arange(width))[..., None] + noise + np.zeros(3)


def picture(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)


def best_iou(proposals: Proposals, target: np.ndarray) -> float:
    masks = proposals.masks.numpy()
    return max(((mask & target).sum() / (mask | target).sum() for mask in masks), default=0.0)


def box(height: int, width: int, y: int, x: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[y:y1, x:x1] = True
    return mask


SQUARE = box(96, 128, 30, 20, 66, 56)
OTHER = box(96, 128, 20, 76, 60, 116)


def plain(pixels: np.ndarray) -> None:
    pixels[SQUARE] = (200, 30, 30)


def striped(pixels: np.ndarray) -> None:
    stripes = (np.arange(128) // 5 % 2 == 0) & SQUARE
    pixels[SQUARE] = (200, 30, 30)
    pixels[stripes] = (250, 230, 90)
    rim = SQUARE & ~box(96, 128, 32, 22, 64, 54)
    pixels[rim] = (20, 10, 10)


def ring(pixels: np.ndarray) -> None:
    """Paint the outline alone: the ground shows through."""
    pixels[SQUARE & ~box(96, 128, 34, 24, 62, 52)] = (20, 40, 200)


@pytest.mark.parametrize("paint", [plain, striped, ring])
def test_a_drawn_square_is_found_as_a_whole(paint: Any) -> None:
    pixels = ground()
    paint(pixels)
    proposals = Felzenszwalb()(picture(pixels))
    assert best_iou(proposals, SQUARE) > 0.9


def test_two_squares_that_touch_are_found_apart() -> None:
    pixels = ground()
    left, right = box(96, 128, 20, 24, 60, 64), box(96, 128, 30, 64, 70, 104)
    pixels[left], pixels[right] = (200, 30, 30), (30, 60, 200)
    proposals = Felzenszwalb(scale=300)(picture(pixels))  # a larger scale melts what has no outline
    assert best_iou(proposals, left) > 0.9
    assert best_iou(proposals, right) > 0.9


def test_objects_come_first_and_the_ground_does_not_come() -> None:
    pixels = ground()
    striped(pixels)
    pixels[OTHER] = (40, 160, 60)
    proposals = Felzenszwalb()(picture(pixels))
    first = Proposals(proposals.masks[:2], proposals.boxes[:2], proposals.scores[:2])
    assert best_iou(first, SQUARE) > 0.9
    assert best_iou(first, OTHER) > 0.9
    assert best_iou(proposals, ~(SQUARE | OTHER)) < 0.5


def test_what_comes_out_fits_together() -> None:
    pixels = ground()
    striped(pixels)
    pixels[OTHER] = (40, 160, 60)
    proposals = Felzenszwalb(max_overlap=1.0)(picture(pixels))
    assert proposals.masks.shape[1:] == (96, 128)
    assert proposals.masks.dtype == torch.bool
    assert len(proposals) == len(proposals.boxes) == len(proposals.scores) > 1
    assert proposals.scores.dtype == proposals.boxes.dtype == torch.float32
    assert (proposals.scores.diff() <= 0).all()
    assert 0 <= proposals.scores.min() <= proposals.scores.max() <= 1
    for mask, (x0, y0, x1, y1) in zip(proposals.masks, proposals.boxes.tolist(), strict=True):
        rows, columns = np.nonzero(mask.numpy())
        assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def busy() -> Tensor:
    """Paint many patches, so that there is a lot to choose from."""
    rng = np.random.default_rng(3)
    pixels = ground()
    for _ in range(25):
        y, x = rng.integers(0, 80), rng.integers(0, 110)
        pixels[y : y + 16, x : x + 18] = rng.integers(0, 256, 3)
    return picture(pixels)


def ious(masks: Tensor) -> np.ndarray:
    flat = masks.flatten(1).numpy()
    return np.array([[(a & b).sum() / (a | b).sum() for b in flat] for a in flat])


@pytest.mark.parametrize("max_iou", [0.3, 0.6, 0.9])
def test_no_two_proposals_are_nearly_the_same(max_iou: float) -> None:
    masks = Felzenszwalb(max_iou=max_iou, max_overlap=1.0)(busy()).masks
    assert len(masks) > 3
    assert (ious(masks) - np.eye(len(masks))).max() <= max_iou


def test_looser_settings_keep_more() -> None:
    generators = [Felzenszwalb(max_iou=iou, max_overlap=1.0, max_count=99) for iou in (0.2, 0.5, 0.95)]
    counts = [len(generator(busy())) for generator in generators]
    assert counts[0] < counts[1] < counts[2]


def test_parts_within_a_kept_whole_are_dropped_unless_wished() -> None:
    def share(masks: Tensor) -> float:
        flat = masks.flatten(1).numpy()
        shares = [(a & b).sum() / min(a.sum(), b.sum()) for k, a in enumerate(flat) for b in flat[:k]]
        return max(shares)

    assert share(Felzenszwalb(max_overlap=0.5)(busy()).masks) <= 0.5
    assert share(Felzenszwalb(max_overlap=1.0)(busy()).masks) == 1.0


def test_the_count_is_capped_at_the_best() -> None:
    every, few = Felzenszwalb()(busy()), Felzenszwalb(max_count=3)(busy())
    assert len(every) > 3
    assert len(few) == 3
    assert torch.equal(few.masks, every.masks[:3])


def test_areas_stay_within_bounds() -> None:
    proposals = Felzenszwalb(min_area=200, max_area=0.05, max_overlap=1.0)(busy())
    areas = proposals.masks.sum(dim=(1, 2))
    assert len(areas) > 0
    assert areas.min() >= 200
    assert areas.max() <= 0.05 * 96 * 128


def test_what_lies_along_the_frame_is_dropped() -> None:
    pixels = ground()
    strip = box(96, 128, 0, 0, 12, 128)  # half of its outline is frame, and a little more
    pixels[strip] = (200, 30, 30)
    assert best_iou(Felzenszwalb(max_border=1.0)(picture(pixels)), strip) > 0.9
    assert best_iou(Felzenszwalb(max_border=0.5)(picture(pixels)), strip) < 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (50, 60)], ids=str)
def test_an_image_without_an_edge_has_no_proposals(size: tuple[int, int]) -> None:
    proposals = Felzenszwalb()(torch.full((3, *size), 90, dtype=torch.uint8))
    assert proposals.masks.shape == (0, *size)
    assert proposals.boxes.shape == (0, 4)
    assert proposals.scores.shape == (0,)


def test_noise_is_survived() -> None:
    image = torch.randint(0, 256, (3, 70, 90), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    proposals = Felzenszwalb(scale=10, min_size=1, min_area=1, max_overlap=1.0)(image)
    assert proposals.masks.shape[1:] == (70, 90)
    assert len(proposals) == 20


@pytest.mark.parametrize("factor", [3, 5])
def test_a_large_image_is_reduced_and_its_masks_are_not(factor: int) -> None:
    pixels = ground()
    plain(pixels)
    large = picture(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    proposals = Felzenszwalb(max_side=128)(large)
    assert proposals.masks.shape[1:] == (96 * factor, 128 * factor)
    assert best_iou(proposals, SQUARE.repeat(factor, axis=0).repeat(factor, axis=1)) > 0.9


def test_nothing_is_random() -> None:
    one, other = Felzenszwalb()(busy()), Felzenszwalb()(busy())
    assert torch.equal(one.masks, other.masks)
    assert torch.equal(one.scores, other.scores)


def test_settings_are_all_and_rebuild_the_generator() -> None:
    import inspect
    import json

    generator = Felzenszwalb(scale=77.0, max_count=5)
    settings = generator.settings()
    assert set(settings) == set(inspect.signature(Felzenszwalb).parameters)
    assert (settings["scale"], settings["max_count"]) == (77.0, 5)
    assert json.loads(json.dumps(settings)) == settings
    assert Felzenszwalb(**settings).settings() == settings


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("scale", 0, "above 0"),
        ("sigma", -0.1, "at least 0"),
        ("min_size", 0, "at least 1"),
        ("min_area", 0, "at least 1"),
        ("max_area", 0, "above 0 and up to 1"),
        ("max_area", 1.1, "above 0 and up to 1"),
        ("max_border", -1, "from 0 to 1"),
        ("max_iou", 1.5, "from 0 to 1"),
        ("max_overlap", 2, "from 0 to 1"),
        ("max_count", 0, "at least 1"),
        ("max_side", 0, "at least 1"),
        ("scale", float("nan"), "above 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: float, wanted: str) -> None:
    with pytest.raises(UserError, match=rf"Felzenszwalb: {setting} is {value}, it must be {wanted}\."):
        Felzenszwalb(**{setting: value})  # type: ignore[arg-type]


def test_generators_by_name() -> None:
    assert isinstance(find_generator("felzenszwalb"), Felzenszwalb)
    with pytest.raises(
        UserError, match=r"Unknown proposal generator 'felzenswalb'\. Did you mean 'felzenszwalb'"
    ):
        find_generator("felzenswalb")


def test_a_generator_must_generate() -> None:
    class Half(ProposalGenerator):
        name = "half"

        def settings(self) -> dict[str, Any]:
            return {}

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


MASKS = torch.zeros(2, 4, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("masks", "boxes", "scores"),
    [
        (MASKS.float(), torch.zeros(2, 4), torch.zeros(2)),
        (MASKS[0], torch.zeros(2, 4), torch.zeros(2)),
        (MASKS, torch.zeros(3, 4), torch.zeros(2)),
        (MASKS, torch.zeros(2, 5), torch.zeros(2)),
        (MASKS, torch.zeros(2, 4), torch.zeros(2, 1)),
    ],
    ids=["type", "shape", "more-boxes", "wide-boxes", "scores"],
)
def test_proposals_that_do_not_fit_together_are_refused(masks: Tensor, boxes: Tensor, scores: Tensor) -> None:
    with pytest.raises(ValueError, match="mask"):
        Proposals(masks, boxes, scores)


def test_proposals_from_masks() -> None:
    masks = MASKS.clone()
    masks[0, 1:3, 2:5] = True
    proposals = Proposals.from_masks(masks)
    assert proposals.boxes.tolist() == [[2, 1, 5, 3], [0, 0, 0, 0]]
    assert proposals.scores.tolist() == [1, 1]
    assert len(Proposals.from_masks(masks[:0])) == 0
    assert Proposals.from_masks(masks, torch.tensor([3, 4])).scores.dtype == torch.float32
    assert Proposals.from_masks(masks).to("meta").masks.device.type == "meta"


def test_the_ready_made_setting_for_photos_is_that_of_python() -> None:
    import yaml

    path = Path(__file__).parents[3] / "configs" / "proposals" / "felzenszwalb-photo.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["proposals"]["init_args"]
    assert Felzenszwalb(**settings).settings() == Felzenszwalb.for_photos().settings()
    assert Felzenszwalb.for_photos(scale=7.0).scale == 7
    with pytest.raises(UserError, match="max_iou is 2"):
        Felzenszwalb.for_photos(max_iou=2)


@pytest.mark.parametrize("shade", [(10, 8, 0), (-10, 8, 0), (6, 6, -6)], ids=str)
def test_a_faint_object_is_found_by_the_setting_for_photos_alone(shade: tuple[int, int, int]) -> None:
    pixels = ground()
    pixels[SQUARE] += shade
    assert best_iou(Felzenszwalb()(picture(pixels)), SQUARE) < 0.5
    assert best_iou(Felzenszwalb.for_photos()(picture(pixels)), SQUARE) > 0.9
