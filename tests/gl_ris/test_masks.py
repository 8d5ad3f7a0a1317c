"""Geometry of masks, against pycocotools and plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from gl_ris.errors import UserError
from gl_ris.masks import (
    decode_rle,
    encode_rle,
    pairwise_areas,
    polygons_to_mask,
    projection_boxes,
    tight_boxes,
)

SHAPES = [(1, 1), (1, 9), (9, 1), (6, 5), (37, 64), (200, 301)]


def _random_mask(shape: tuple[int, int], density: float, seed: int) -> torch.Tensor:
    noise = np.random.default_rng(seed).random(shape)
    return torch.from_numpy(noise < density)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rle_round_trips_and_is_what_coco_reads(shape: tuple[int, int], density: float) -> None:
    mask = _random_mask(shape, density, seed=sum(shape))
    rle = json.loads(json.dumps(encode_rle(mask)))
    theirs = coco.decode({"size": rle["size"], "counts": rle["counts"].encode()})
    assert np.array_equal(theirs.astype(bool), mask.numpy())
    assert torch.equal(decode_rle(rle), mask)
    assert torch.equal(decode_rle({"size": rle["size"], "counts": rle["counts"].encode()}), mask)


def test_long_runs_need_several_characters() -> None:
    mask = torch.zeros(3000, 2000, dtype=torch.bool)
    mask[2999, 5] = mask[0, 1999] = True
    assert torch.equal(decode_rle(encode_rle(mask)), mask)


def test_uncompressed_counts_run_down_the_columns() -> None:
    expected = torch.tensor([[False, True, False], [True, True, False]])
    assert torch.equal(decode_rle({"size": [2, 3], "counts": [1, 3, 2]}), expected)
    assert torch.equal(decode_rle({"counts": [1, 3, 2]}, size=(2, 3)), expected)


RLE = encode_rle(_random_mask((6, 5), 0.5, seed=1))


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        pytest.param({**RLE, "counts": RLE["counts"][:-1]}, "do not add up|cut off", id="truncated"),
        pytest.param({**RLE, "counts": RLE["counts"] + "1"}, "do not add up", id="too-long"),
        pytest.param({**RLE, "counts": ""}, "cut off", id="no-counts"),
        pytest.param({**RLE, "counts": "\u00e9\n"}, "foreign", id="foreign-characters"),
        # in the place of each there was a question mark once, which is a run of 15
        *(
            pytest.param({"size": [3, 5], "counts": letter}, "foreign", id=f"not-ascii-{letter!a}")
            for letter in ("\u00e9", "\u72d7", "\ud83d", "\U0001f600")
        ),
        pytest.param({**RLE, "counts": "n" * 40}, "cut off", id="endless-number"),
        pytest.param({**RLE, "counts": None}, "counts should be", id="counts-missing"),
        pytest.param({"size": [2, 2], "counts": [5, -1]}, "counts should be", id="negative-run"),
        pytest.param({"size": [2, 2], "counts": [1, 2]}, "do not add up to the 4", id="short-list"),
        pytest.param({"counts": [4]}, "size should be", id="no-size"),
        pytest.param({"size": "22", "counts": [4]}, "size should be", id="text-size"),
        pytest.param({"size": [65_535] * 2, "counts": [65_535**2]}, "that of no image", id="4-gigabytes"),
    ],
)
def test_a_damaged_encoding_is_refused(rle: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode_rle(rle)


def test_every_truncation_is_refused() -> None:
    rle = encode_rle(_random_mask((30, 30), 0.3, seed=2))
    for end in range(len(rle["counts"])):
        with pytest.raises(UserError, match="Damaged"):
            decode_rle({**rle, "counts": rle["counts"][:end]})


def test_an_encoding_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"\[6, 5\].*\[5, 6\]"):
        decode_rle(RLE, size=(5, 6))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        pytest.param(torch.zeros(2, 2), TypeError, "float32", id="float"),
        pytest.param(torch.zeros(1, 2, 2, dtype=torch.bool), ValueError, r"\(1, 2, 2\)", id="batch"),
        pytest.param(torch.zeros(0, 2, dtype=torch.bool), ValueError, r"\(0, 2\)", id="no-pixels"),
    ],
)
def test_only_bool_masks_are_encoded(mask: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encode_rle(mask)


LEFT = [0, 0, 6, 0, 6, 4, 0, 4]
RIGHT = [4, 0, 10, 0, 10, 4, 4, 4]


@pytest.mark.parametrize(
    ("polygons", "overlap", "columns"),
    [
        pytest.param([LEFT], "union", range(6), id="one"),
        pytest.param([LEFT, RIGHT], "union", range(10), id="union"),
        pytest.param([LEFT, RIGHT], "sum_equals_one", [0, 1, 2, 3, 6, 7, 8, 9], id="sum-drops-the-overlap"),
        pytest.param([], "union", [], id="none"),
        pytest.param([[1, 1, 5, 3]], "union", [], id="a-line-is-no-box"),
        pytest.param([[1, 1, 5, 3], LEFT], "union", range(6), id="a-line-does-not-make-boxes-of-others"),
        pytest.param([[-9, -9, 99, -9, 99, 99, -9, 99]], "union", range(12), id="clipped-to-the-image"),
    ],
)
def test_polygons_fill_the_columns(polygons: list[list[float]], overlap: str, columns: list[int]) -> None:
    mask = polygons_to_mask(polygons, 4, 12, overlap)
    expected = torch.zeros(4, 12, dtype=torch.bool)
    expected[:, list(columns)] = True
    assert torch.equal(mask, expected)


@pytest.mark.parametrize(
    ("polygon", "overlap", "message"),
    [
        pytest.param([0, 0, 1, 0, 1], "union", "x, y pairs", id="odd"),
        pytest.param([0, 0, 1, 0, 1, float("nan")], "union", "finite", id="nan"),
        pytest.param([[0, 0], [1, 0], [1, 1]], "union", "flat list", id="nested"),
        pytest.param(LEFT, "unoin", "Did you mean 'union'", id="unknown-overlap"),
    ],
)
def test_bad_polygons_are_refused(polygon: list[float], overlap: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        polygons_to_mask([polygon], 4, 4, overlap)


@pytest.mark.parametrize("density", [0.0, 0.01, 0.2])
def test_tight_boxes_match_a_loop(density: float) -> None:
    masks = torch.stack([_random_mask((11, 17), density, seed) for seed in range(8)])
    for mask, box in zip(masks.numpy(), tight_boxes(masks).tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4
        assert box == expected


@pytest.mark.parametrize("density", [0.0, 0.01, 0.2])
def test_projection_boxes_match_a_loop(density: float) -> None:
    masks = torch.stack([_random_mask((11, 17), density, seed) for seed in range(8)])
    for mask, box in zip(masks.numpy(), projection_boxes(masks).tolist(), strict=True):
        rows, columns = np.unique(np.nonzero(mask)[0]), np.unique(np.nonzero(mask)[1])
        low = [a.mean() - len(a) / 2 if len(a) else 0 for a in (columns, rows)]
        high = [a.mean() + len(a) / 2 if len(a) else 0 for a in (columns, rows)]
        assert box == pytest.approx(low + high, abs=1e-5)


def test_projection_box_of_a_solid_blob_is_half_a_pixel_off_the_tight_one() -> None:
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 2:5, 3:8] = True
    assert tight_boxes(mask).tolist() == [[3, 2, 8, 5]]
    assert projection_boxes(mask).tolist() == [[2.5, 1.5, 7.5, 4.5]]


@pytest.mark.parametrize("boxes", [tight_boxes, projection_boxes])
def test_no_masks_give_no_boxes(boxes: object) -> None:
    result = boxes(torch.zeros(0, 5, 5, dtype=torch.bool))  # type: ignore[operator]
    assert result.shape == (0, 4)
    assert result.dtype == torch.float32


@pytest.mark.parametrize(("n", "r"), [(0, 2), (3, 0), (4, 3)])
def test_pairwise_areas_match_a_loop(n: int, r: int) -> None:
    masks = torch.rand(n, 13, 21) < 0.3
    targets = torch.rand(r, 13, 21) < 0.6
    intersection, union = pairwise_areas(masks, targets)
    assert intersection.dtype == union.dtype == torch.int64
    assert intersection.shape == union.shape == (n, r)
    for i in range(n):
        for j in range(r):
            assert intersection[i, j] == np.logical_and(masks[i].numpy(), targets[j].numpy()).sum()
            assert union[i, j] == np.logical_or(masks[i].numpy(), targets[j].numpy()).sum()


def test_pairwise_areas_are_exact_beyond_what_float32_counts() -> None:
    """4200 x 4200 is over 2**24 pixels, where float32 loses odd numbers; autocast must not round either."""
    masks = torch.ones(1, 4200, 4200, dtype=torch.bool)
    masks[0, 0, 0] = False
    with torch.autocast("cpu", dtype=torch.bfloat16):
        intersection, union = pairwise_areas(masks, torch.ones_like(masks))
    assert intersection.item() == 4200 * 4200 - 1
    assert union.item() == 4200 * 4200


@pytest.mark.parametrize(
    ("masks", "targets", "error"),
    [
        pytest.param(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), TypeError, id="float"),
        pytest.param(torch.ones(1, 2, 2) > 0, torch.ones(1, 2, 3) > 0, ValueError, id="sizes-differ"),
        pytest.param(torch.ones(2, 2) > 0, torch.ones(1, 2, 2) > 0, ValueError, id="no-batch"),
    ],
)
def test_pairwise_areas_refuse(masks: torch.Tensor, targets: torch.Tensor, error: type[Exception]) -> None:
    with pytest.raises(error, match="pairwise_areas needs"):
        pairwise_areas(masks, targets)
