from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gl_ris.proposals.sam import distinct, point_grid, stability, without_small_regions


@pytest.mark.parametrize("per_side", [1, 2, 5, 8])
def test_points_are_the_centres_of_a_checkerboard(per_side: int) -> None:
    wanted = [((x + 0.5) / per_side, (y + 0.5) / per_side) for y in range(per_side) for x in range(per_side)]
    torch.testing.assert_close(point_grid(per_side), torch.tensor(wanted))


def test_stability_is_the_share_that_stays() -> None:
    logits = torch.randn(4, 9, 11, generator=torch.Generator().manual_seed(1))
    logits[3] = -9
    wanted = [(np.sum(m > 0.3) / np.sum(m > -0.3)) for m in logits[:3].numpy()]
    assert stability(logits, 0.3).tolist() == pytest.approx([*wanted, 0.0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), min_region=st.integers(1, 40), density=st.floats(0.2, 0.8))
def test_small_regions_go_as_scikit_image_has_them_go(seed: int, min_region: int, density: float) -> None:
    from skimage.measure import label

    def large(pixels: np.ndarray) -> np.ndarray:
        regions = label(pixels, connectivity=2)
        return np.isin(
            regions, [k for k in range(1, regions.max() + 1) if (regions == k).sum() >= min_region]
        )

    rng = np.random.default_rng(seed)
    pixels = rng.random((20, 24)) < density
    ours = without_small_regions(torch.from_numpy(pixels), min_region).numpy()
    filled = ~large(~pixels)
    wanted = large(filled)
    if not wanted.any() and filled.any():
        islands = label(filled, connectivity=2)
        wanted = islands == 1 + np.bincount(islands.ravel())[1:].argmax()
    np.testing.assert_array_equal(ours, wanted)


def test_an_empty_mask_stays_empty() -> None:
    empty = torch.zeros(5, 6, dtype=torch.bool)
    assert not without_small_regions(empty, 100).any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), max_iou=st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))
def test_near_duplicates_go_to_the_best(seed: int, max_iou: float) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((7, 4, 5)) < rng.uniform(0.3, 0.9)
    masks[3] = masks[1]
    masks = np.concatenate([masks, masks[:2]])
    scores = rng.integers(0, 4, len(masks)).astype(np.float32)
    chosen: list[int] = []
    for k in sorted(range(len(masks)), key=lambda k: (-scores[k], k)):
        overlaps = [((masks[k] & masks[c]).sum(), (masks[k] | masks[c]).sum()) for c in chosen]
        if all(i <= max_iou * u and i < u for i, u in overlaps):
            chosen.append(k)
    assert distinct(torch.from_numpy(masks), torch.from_numpy(scores), max_iou).tolist() == chosen


def test_of_no_masks_none_are_chosen() -> None:
    assert distinct(torch.zeros(0, 4, 5, dtype=torch.bool), torch.zeros(0), 0.5).tolist() == []
