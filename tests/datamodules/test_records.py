from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from datamodules.records import Segmentation, sort_key


def disc_polygon(radius: float, x: float, y: float) -> list[float]:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1).reshape(-1).tolist()


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (None, "the segmentation is NoneType"),
        ("polygon", "the segmentation is str"),
        ([["a", "b"]], "other than lists of numbers"),
        ([["1", 1, 3, 1, 3, 3]], "other than lists of numbers"),
        ([[True, 1, 3, 1, 3, 3]], "other than lists of numbers"),
        ([["\ud800"]], "other than lists of numbers"),
        ([[1, 2, [3], 4]], "other than lists of numbers"),
        ([[1, 2, 3]], "even count"),
        ([5, 6, 7, 8], "other than lists of numbers"),
        ([[[1, 2], [3, 4]]], "other than lists of numbers"),
        ([[1, 2, float("nan"), 4, 5, 6]], "not finite"),
        ([[1, 2, float("inf"), 4, 5, 6]], "not finite"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "leaves the image"),
        ([[10**400, 0, 1, 1, 2, 2]], "other than lists of numbers"),
        ({"size": [4, 4], "counts": [0, 17]}, "Damaged mask encoding"),
        ({"size": [4, 4], "counts": [-1, 17]}, "Damaged mask encoding"),
        ({"size": [4, 4], "counts": [2**70]}, "Damaged mask encoding"),
        ({"size": [4, 4], "counts": "\x7f\x7f"}, "Damaged mask encoding"),
        ({"size": [4, 4], "counts": "狗"}, "Damaged mask encoding"),
        ({"size": [4, 4]}, "Damaged mask encoding"),
        ({"size": [4, 5], "counts": [0, 20]}, r"of size \[4, 5\]"),
        ({"size": "4x4", "counts": [0, 16]}, "Damaged mask encoding"),
        ({"counts": [0, 16]}, "Damaged mask encoding"),
    ],
)
def test_a_faulty_segmentation_says_why_when_its_mask_is_asked_for(value: Any, match: str) -> None:
    segmentation = Segmentation.from_json(value)
    with pytest.raises(ValueError, match=match):
        segmentation.mask(4, 4)


@pytest.mark.parametrize(
    "value",
    [[], [[]], [[1, 1]], [[1, 1, 2, 2]], [[1, 1, 3, 1, 2, 1]], [[1, 1, 1, 1, 1, 1]]],
    ids=["none", "no-points", "point", "line", "flat", "spot"],
)
@pytest.mark.parametrize("rule", ["union", "sum_equals_one"])
def test_no_area_is_an_empty_mask(value: Any, rule: Any) -> None:
    mask = Segmentation.from_json(value).mask(4, 4, rule)
    assert mask.shape == (4, 4)
    assert not mask.any()


def test_a_polygon_partly_outside_is_cut_at_the_frame() -> None:
    mask = Segmentation.from_json([[-3, -3, 2, -3, 2, 2, -3, 2]]).mask(4, 5)
    wanted = np.zeros((4, 5), dtype=bool)
    wanted[:2, :2] = True
    np.testing.assert_array_equal(mask.numpy(), wanted)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "ab",
        [[1, 2]],
        [[[1, 2, 3], [4, 5, 6]]],
        [["ab"]],
        [[[1, None]]],
        [[["1", 1], [3, 1], [3, 3]]],
        [[[]]],
    ],
    ids=str,
)
def test_faulty_points(value: Any) -> None:
    with pytest.raises(ValueError, match=r"polygon|finite"):
        Segmentation.from_points(value).mask(4, 4)


@pytest.mark.parametrize(
    ("text", "points", "match"),
    [
        (b"[[1, 2, 1e999, 4, 5, 6]]", False, "damaged .Number out of range"),
        (b'{"size": [4, 4], "counts": "\xff"}', False, "damaged .*utf-8"),
        (b"[[1, 1, 3, 1, 3, 3]]", True, "not a list of"),
        (b"[[[1, 1], [3, 1], [3, 3]]]", False, "other than lists of numbers"),
    ],
    ids=["number", "bytes", "flat-as-points", "points-as-flat"],
)
def test_json_that_is_read_late_says_what_is_wrong_with_it(text: bytes, points: bool, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Segmentation(json=msgspec.Raw(text), points=points).mask(4, 4)


def test_drawn_polygons_have_whole_vertices_and_their_outline() -> None:
    segmentation = Segmentation.from_points([[[1.9, 1.2], [4.7, 1.9], [4.1, 3.8], [1.0, 3.9]]])
    wanted = np.zeros((6, 7), dtype=bool)
    wanted[1:4, 1:5] = True  # corners 1,1 4,1 4,3 1,3, all of them inside
    np.testing.assert_array_equal(segmentation.mask(6, 7, "drawn").numpy(), wanted)


def test_several_polygons_are_one_mask() -> None:
    polygons = [disc_polygon(5, 8, 8), disc_polygon(5, 22, 8)]
    both = Segmentation.from_json(polygons).mask(16, 30)
    one, other = (Segmentation.from_json([polygon]).mask(16, 30) for polygon in polygons)
    np.testing.assert_array_equal(both.numpy(), (one | other).numpy())
    assert abs(int(one.sum()) - np.pi * 25) < 8


def test_ids_are_ordered_numbers_first() -> None:
    assert sorted(["b", 10, "a", 9, "10"], key=sort_key) == [9, 10, "10", "a", "b"]
