"""Decoding against slow loops that follow the paper's definitions one pixel and one pair at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.proposals import freesolo as module
from gl_ris.proposals.freesolo import (
    Candidates,
    Decoding,
    decode,
    draw,
    matrix_nms,
    suppress,
    to_image,
)
from gl_ris.proposals.freesolo_network import Predictions


def predictions(cells: int = 30, height: int = 7, width: int = 9, seed: int = 0) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    return Predictions(
        categories=torch.rand(cells, 2, generator=generator) * 0.3,
        kernels=torch.randn(cells, 256, generator=generator) / 4,
        strides=torch.tensor([8, 8, 16, 32])[torch.arange(cells) * 4 // cells],
        features=torch.rand(1, 256, height, width, generator=generator),
    )


def drawn_slowly(given: Predictions, threshold: float) -> list[tuple[float, int, np.ndarray]]:
    """Return score, label and probabilities of every candidate, best first."""
    features = given.features[0].double().numpy()
    found = []
    for cell in range(len(given.kernels)):
        for label in range(2):
            category = float(given.categories[cell, label])
            if not category > threshold:
                continue
            logits = np.zeros(features.shape[1:])
            for channel, weight in enumerate(given.kernels[cell].double().tolist()):
                logits += weight * features[channel]
            probabilities = 1 / (1 + np.exp(-logits))
            inside = [float(p) for p in probabilities.ravel() if p > 0.5]
            if len(inside) > int(given.strides[cell]):
                found.append((category * sum(inside) / len(inside), label, probabilities))
    return sorted(found, key=lambda candidate: -candidate[0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("numbers", [1 << 26, 1, 200], ids=["one-block", "one-by-one", "blocks-of-three"])
def test_candidates_are_drawn_as_defined(seed: int, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NUMBERS_PER_BLOCK", numbers)
    given = predictions(seed=seed)
    wanted = drawn_slowly(given, 0.1)
    got = draw(given, Decoding())
    assert 10 < len(wanted) < 60, "some candidates, and some of them dropped"
    assert got.labels.tolist() == [label for _, label, _ in wanted]
    torch.testing.assert_close(got.scores, torch.tensor([score for score, _, _ in wanted]))
    masks = torch.tensor(np.stack([mask for _, _, mask in wanted]), dtype=torch.float32)
    torch.testing.assert_close(got.probabilities, masks, atol=1e-5, rtol=1e-5)
    assert len(draw(given, Decoding(max_candidates=7)).scores) == 7
    assert torch.equal(draw(given, Decoding(max_candidates=7)).scores, got.scores[:7])


def test_a_mask_needs_more_pixels_than_the_stride_and_a_category_above_the_threshold() -> None:
    given = predictions(cells=4, height=3, width=3)
    kernels, features = torch.zeros(4, 256), torch.zeros(1, 256, 3, 3)
    kernels[:, 0] = 1
    features[0, 0] = torch.tensor([[1.0, 1, 1], [1, 1, 1], [1, 1, -1]])  # eight pixels inside
    strides = torch.tensor([7, 8, 9, 7])
    categories = torch.tensor([[0.5, 0], [0.5, 0], [0.5, 0], [0.0, 0.1]])
    given = Predictions(categories, kernels, strides, features)
    assert len(draw(given, Decoding()).scores) == 1
    assert len(draw(given, Decoding(score_threshold=0.09)).scores) == 2


def random_masks(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, 6, 5, generator=generator) < 0.4
    masks[:, 2, 2] = True
    masks[3] = masks[1]
    labels = torch.randint(0, 2, (count,), generator=generator)
    labels[3] = labels[1]
    return masks, labels, torch.rand(count, generator=generator).sort(descending=True).values


def nms_slowly(masks: Tensor, labels: Tensor, scores: Tensor, sigma: float) -> list[float]:
    def iou(i: int, j: int) -> float:
        if i >= j or labels[i] != labels[j]:
            return 0.0
        pairs = list(zip(masks[i].flatten().tolist(), masks[j].flatten().tolist(), strict=True))
        return sum(a and b for a, b in pairs) / sum(a or b for a, b in pairs)

    count = range(len(masks))
    lowered = []
    for j in count:
        factors = []
        for i in count:
            covered = max(iou(k, i) for k in count)
            factors.append(math.exp(-sigma * iou(i, j) ** 2) / math.exp(-sigma * covered**2))
        lowered.append(float(scores[j]) * min(factors))
    return lowered


@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_matrix_nms_is_as_defined(seed: int, sigma: float) -> None:
    masks, labels, scores = random_masks(12, seed)
    got = matrix_nms(masks, labels, scores, sigma)
    torch.testing.assert_close(got, torch.tensor(nms_slowly(masks, labels, scores, sigma)))
    if sigma == 2:
        assert got[3] < 0.2 * scores[3], "a copy of a better mask is as good as gone"
        assert got[0] == scores[0]


def test_matrix_nms_keeps_labels_apart_and_takes_nothing() -> None:
    masks, scores = torch.ones(2, 2, 2, dtype=torch.bool), torch.tensor([0.9, 0.8])
    assert matrix_nms(masks, torch.tensor([0, 1]), scores, 2.0).tolist() == scores.tolist()
    same = matrix_nms(masks, torch.tensor([1, 1]), scores, 2.0)
    torch.testing.assert_close(same, torch.tensor([0.9, 0.8 * math.exp(-2)]))
    assert matrix_nms(masks[:0], torch.zeros(0), scores[:0], 2.0).shape == (0,)


def test_what_is_left_is_sorted_thresholded_and_capped() -> None:
    masks, labels, scores = random_masks(20, 5)
    lowered = sorted(nms_slowly(masks, labels, scores, 2.0), reverse=True)
    candidates = Candidates(masks.float(), labels, scores)
    every = suppress(candidates, Decoding(keep_threshold=0, max_count=99))
    torch.testing.assert_close(every.scores, torch.tensor(lowered))
    some = suppress(candidates, Decoding(keep_threshold=lowered[9] - 1e-6))
    assert len(some.scores) == 10
    assert torch.equal(some.probabilities, every.probabilities[:10])
    assert len(suppress(candidates, Decoding(keep_threshold=0, max_count=3)).scores) == 3


def resized_slowly(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolate between the four nearest pixel centres, those outside of the image moved to its edge."""
    result = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            v = max((y + 0.5) * image.shape[0] / height - 0.5, 0)
            u = max((x + 0.5) * image.shape[1] / width - 0.5, 0)
            v0, u0 = int(v), int(u)
            v1, u1 = min(v0 + 1, image.shape[0] - 1), min(u0 + 1, image.shape[1] - 1)
            upper = image[v0, u0] * (1 - (u - u0)) + image[v0, u1] * (u - u0)
            lower = image[v1, u0] * (1 - (u - u0)) + image[v1, u1] * (u - u0)
            result[y, x] = upper * (1 - (v - v0)) + lower * (v - v0)
    return result


@pytest.mark.parametrize(
    ("grid", "seen", "factor", "output"),
    [
        ((8, 16), (30, 61), 4, (41, 70)),
        ((8, 16), (32, 64), 4, (16, 30)),
        ((16, 16), (33, 40), 3, (25, 25)),  # padded to 64: the factor of the published code is 3 there
        ((8, 8), (3, 5), 1, (6, 6)),
    ],
    ids=["padded", "whole", "small", "tiny"],
)
@pytest.mark.parametrize("numbers", [1 << 26, 1], ids=["one-block", "one-by-one"])
def test_masks_return_to_the_image(
    grid: tuple[int, int],
    seen: tuple[int, int],
    factor: int,
    output: tuple[int, int],
    numbers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_NUMBERS_PER_BLOCK", numbers)
    probabilities = torch.rand(3, *grid)
    got = to_image(probabilities, seen, output, 0.5)
    assert got.shape == (3, *output)
    for mask, given in zip(got, probabilities.double().numpy(), strict=True):
        canvas = resized_slowly(given, grid[0] * factor, grid[1] * factor)[: seen[0], : seen[1]]
        wanted = resized_slowly(canvas, *output)
        certain = np.abs(wanted - 0.5) > 1e-5
        assert (mask.numpy() == (wanted > 0.5))[certain].all()


def test_boxes_are_centre_and_count_of_the_occupied_rows_and_columns() -> None:
    proposals = decode(predictions(height=8, width=8), (32, 32), (20, 24), Decoding())
    assert len(proposals) > 3
    for mask, box in zip(proposals.masks.tolist(), proposals.boxes.tolist(), strict=True):
        rows = [y for y, row in enumerate(mask) if any(row)]
        columns = [x for x in range(24) if any(row[x] for row in mask)]
        assert rows, "a mask without a pixel is no proposal"
        cx, cy = sum(columns) / len(columns), sum(rows) / len(rows)
        wanted = [cx - len(columns) / 2, cy - len(rows) / 2, cx + len(columns) / 2, cy + len(rows) / 2]
        assert box == pytest.approx(wanted, abs=1e-5)
    assert (proposals.scores.diff() <= 0).all()


def test_a_mask_that_the_way_back_empties_is_dropped() -> None:
    given = predictions(cells=2, height=8, width=8)
    features = torch.full((1, 256, 8, 8), -1.0)
    features[..., 4:] = 1.0  # inside, but in the padding alone
    kernels = torch.stack([torch.full((256,), 0.1), torch.full((256,), -0.1)])
    given = Predictions(torch.tensor([[0.9, 0], [0.5, 0]]), kernels, torch.tensor([8, 8]), features)
    assert len(decode(given, (32, 32), (32, 32), Decoding())) == 2
    left = decode(given, (32, 12), (32, 12), Decoding())
    assert len(left) == 1
    assert left.scores[0] < 0.51


@pytest.mark.parametrize("what", ["score_threshold", "keep_threshold"])
def test_nothing_may_be_left(what: str) -> None:
    proposals = decode(predictions(), (28, 36), (11, 13), Decoding(**{what: 1.0}))  # type: ignore[arg-type]
    assert proposals.masks.shape == (0, 11, 13)
    assert proposals.boxes.shape == (0, 4)
    assert proposals.scores.shape == (0,)


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("score_threshold", 1.1, "from 0 to 1"),
        ("keep_threshold", -0.1, "from 0 to 1"),
        ("mask_threshold", 0.0, "above 0 and below 1"),
        ("mask_threshold", float("nan"), "above 0 and below 1"),
        ("nms_sigma", -1.0, "at least 0"),
        ("max_candidates", 0, "at least 1"),
        ("max_count", 0, "at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: float, wanted: str) -> None:
    with pytest.raises(UserError, match=rf"FreeSOLO: {setting} is {value}, it must be {wanted}\."):
        Decoding(**{setting: value})  # type: ignore[arg-type]
