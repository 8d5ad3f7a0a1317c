"""Masks that a user holds become proposals: arrays of any kind, and the lists that programs make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gl_ris.errors import UserError
from gl_ris.masks import encode_rle
from gl_ris.proposals import Proposals

MASKS = np.zeros((2, 4, 5), dtype=bool)
MASKS[0, 1:3, 1:4] = True
MASKS[1, :, 4] = True
BOXES = [[1, 1, 4, 3], [4, 0, 5, 4]]


@pytest.mark.parametrize(
    "masks",
    [
        torch.from_numpy(MASKS),
        MASKS,
        MASKS[:, :, ::-1][:, :, ::-1],
        list(MASKS),
        tuple(torch.from_numpy(MASKS)),
        MASKS.astype(np.uint8),
        MASKS.astype(np.uint8) * 255,
        torch.from_numpy(MASKS).long(),
        MASKS.tolist(),
    ],
    ids=["tensor", "array", "backwards", "list", "tensors", "0 and 1", "0 and 255", "integers", "lists"],
)
def test_masks_of_any_kind_are_taken(masks: Any) -> None:
    for scores in (None, [0.5, 0.25], np.array([0.5, 0.25]), torch.tensor([0.5, 0.25])):
        found = Proposals.from_masks(masks, scores)
        np.testing.assert_array_equal(found.masks.numpy(), MASKS)
        assert found.boxes.tolist() == BOXES
        assert found.scores.tolist() == ([1, 1] if scores is None else [0.5, 0.25])
        assert found.scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("masks", "scores", "message"),
    [
        (MASKS[0], None, r"must be bool \(N, H, W\), got torch.bool \(4, 5\); give masks\[None\]"),
        (MASKS.astype(np.float32), None, r"got torch.float32 \(2, 4, 5\); give for instance masks > 0.5"),
        (np.full((1, 4, 5), 3), None, "got torch.int64"),
        ([MASKS[0], MASKS[1][:2]], None, "must be numbers of one shape, got a list"),
        ([torch.zeros(2, 2), torch.zeros(3, 2)], None, "must be numbers of one shape, got a list"),
        (["a"], None, "masks must be numbers"),
        (MASKS, [0.5], r"2 masks need boxes \(2, 4\) and scores \(2,\)"),
        (MASKS, ["a", "b"], "scores must be numbers"),
    ],
)
def test_what_is_no_mask_is_named(masks: Any, scores: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Proposals.from_masks(masks, scores)


def forms() -> dict[str, list[Any]]:
    runs = [{"size": [4, 5], "counts": [5, 2, 2, 2, 2, 2, 5]}, {"size": [4, 5], "counts": [16, 4]}]
    return {
        "arrays": list(MASKS),
        "tensors": list(torch.from_numpy(MASKS)),
        "lists": MASKS.tolist(),
        "run lengths": runs,
        "compressed": [encode_rle(mask) for mask in torch.from_numpy(MASKS)],
        "bytes": [
            {**rle, "counts": rle["counts"].encode()} for rle in map(encode_rle, torch.from_numpy(MASKS))
        ],
    }


@pytest.mark.parametrize("form", list(forms()))
@pytest.mark.parametrize("name", ["score", "predicted_iou"])
def test_the_list_of_sam_becomes_proposals(form: str, name: str) -> None:
    extra = {"area": 3, "bbox": [0, 0, 1, 1], "point_coords": [[1, 2]], "stability_score": 0.1}
    entries = [
        {"segmentation": own, name: score, **extra}
        for own, score in zip(forms()[form], (0.5, 0.75), strict=True)
    ]
    found = Proposals.from_list(entries)
    np.testing.assert_array_equal(found.masks.numpy(), MASKS)
    assert found.scores.tolist() == [0.5, 0.75]
    assert found.boxes.tolist() == BOXES


def test_what_says_no_size_needs_one() -> None:
    polygon = [{"segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]], "score": 1}]
    np.testing.assert_array_equal(Proposals.from_list(polygon, size=(4, 5)).masks.numpy(), MASKS[:1])
    assert Proposals.from_list([], size=(4, 5)).masks.shape == (0, 4, 5)
    for entries in ([], polygon):
        with pytest.raises(UserError, match=r"does not say the size .* give it by size=\(H, W\)"):
            Proposals.from_list(entries)


RLE = encode_rle(torch.from_numpy(MASKS[0]))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"segmentation": RLE, "score": 1}, "Expected a list of masks with scores, but got dict"),
        (7, "but got int"),
        ([RLE], "Entry 0 of the list has no 'segmentation'"),
        (
            [{"segmentation": RLE}],
            "Entry 0 of the list has no score: it must have one of score, predicted_iou",
        ),
        ([{"segmentation": RLE, "score": None}], "Entry 0 of the list: score is None, no number"),
        (
            [{"segmentation": RLE, "score": 1}, {"segmentation": MASKS[0].T, "score": 1}],
            "Entry 1 of the list is a mask of 5 x 4, not of 4 x 5",
        ),
        ([{"segmentation": {**RLE, "counts": "0"}, "score": 1}], "The segmentation of entry 0 is damaged"),
        ([{"segmentation": {**RLE, "size": [10**9, 10**9]}, "score": 1}], "does not say the size"),
        ([{"segmentation": MASKS[0] * 0.5, "score": 1}], "entry 0 is damaged .*got torch.float64"),
        ([{"segmentation": None, "score": 1}], "does not say the size"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_list_of_masks_is_named(entries: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Proposals.from_list(entries)
