"""Post-processing of proposals, against loops over sets of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gl_ris.errors import UserError
from gl_ris.masks import tight_boxes
from gl_ris.proposals import PostProcessing, Proposals
from gl_ris.proposals.post import AS_MADE, drop_small, keep_top, mask_nms, matrix_nms, merge_nested

Pixels = frozenset[int]
Row = tuple[Pixels, float]


def draw(seed: int, count: int) -> Proposals:
    """Rectangles on 6 x 7 pixels, so that nesting and overlap are common; many scores are equal."""
    rng = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 6, 7, dtype=torch.bool)
    for mask in masks:
        top, left = torch.randint(0, 5, (2,), generator=rng).tolist()
        height, width = torch.randint(0, 6, (2,), generator=rng).tolist()
        mask[top : top + height, left : left + width] = True
    scores = torch.randint(0, 4, (count,), generator=rng) / 4
    return Proposals(masks, tight_boxes(masks) + 0.5, scores)


def rows(proposals: Proposals) -> list[Row]:
    masks = [frozenset(mask.flatten().nonzero().flatten().tolist()) for mask in proposals.masks]
    return list(zip(masks, proposals.scores.tolist(), strict=True))


def iou(a: Pixels, b: Pixels) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


def sorted_best_first(given: list[Row]) -> list[Row]:
    return sorted(given, key=lambda row: -row[1])


def oracle_min_area(given: list[Row], value: Any) -> list[Row]:
    return [row for row in given if len(row[0]) >= value]


def oracle_top(given: list[Row], value: Any) -> list[Row]:
    return sorted_best_first(given)[:value]


def oracle_nms(given: list[Row], value: Any) -> list[Row]:
    kept: list[Row] = []
    for row in sorted_best_first(given):
        if all(iou(row[0], other[0]) <= value for other in kept):
            kept.append(row)
    return kept


def oracle_matrix_nms(given: list[Row], value: Any) -> list[Row]:
    ordered, lowered = sorted_best_first(given), []
    for j, (mask, score) in enumerate(ordered):
        share = 1.0
        for i in range(j):
            most = max((iou(ordered[i][0], ordered[k][0]) for k in range(i)), default=0.0)
            share = min(share, math.exp(-2 * iou(ordered[i][0], mask) ** 2) / math.exp(-2 * most**2))
        if share >= value:
            lowered.append((mask, score * share))
    return sorted_best_first(lowered)


def oracle_merge(given: list[Row], value: Any) -> list[Row]:
    wholes: list[list[Row]] = []
    for row in sorted(given, key=lambda item: -len(item[0])):
        home = next((w for w in wholes if len(row[0] & w[0][0]) >= value * len(row[0])), None)
        if home is None:
            wholes.append([row])
        else:
            home.append(row)
    united = [(frozenset().union(*(m for m, _ in w)), max(s for _, s in w)) for w in wholes]
    return sorted_best_first(united)


CASES: dict[str, tuple[Callable[..., Proposals], Callable[..., list[Row]], list[Any]]] = {
    "min_area": (drop_small, oracle_min_area, [0, 1, 8]),
    "top": (keep_top, oracle_top, [1, 3, 50]),
    "nms": (mask_nms, oracle_nms, [0.0, 0.3, 1.0]),
    "matrix_nms": (matrix_nms, oracle_matrix_nms, [0.0, 0.5, 0.9]),
    "merge": (merge_nested, oracle_merge, [0.5, 0.8, 1.0]),
}


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 9), place=st.integers(0, 2))
@pytest.mark.parametrize("name", CASES)
def test_each_step_does_what_a_loop_over_pixels_does(name: str, seed: int, count: int, place: int) -> None:
    step, oracle, values = CASES[name]
    proposals = draw(seed, count)
    found, wanted = rows(step(proposals, values[place])), oracle(rows(proposals), values[place])
    assert sorted(map(len, (m for m, _ in found))) == sorted(map(len, (m for m, _ in wanted)))
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted], abs=1e-6)
    if name != "matrix_nms":  # where scores fall to almost the same, rounding may swap neighbours
        assert [mask for mask, _ in found] == [mask for mask, _ in wanted]


@pytest.mark.parametrize("name", CASES)
def test_boxes_and_types_stay_with_their_masks(name: str) -> None:
    proposals = draw(3, 9)
    found = CASES[name][0](proposals, CASES[name][2][0])
    known = {mask: box for (mask, _), box in zip(rows(proposals), proposals.boxes.tolist(), strict=True)}
    assert (found.boxes.dtype, found.scores.dtype) == (torch.float32, torch.float32)
    assert len(found) > 0
    for (mask, _), box in zip(rows(found), found.boxes.tolist(), strict=True):
        assert known.get(mask, box) == box


def test_a_whole_that_grows_gets_the_box_around_it() -> None:
    masks = torch.zeros(2, 4, 9, dtype=torch.bool)
    masks[0, :3, :6], masks[1, 0, 4:8] = True, True
    proposals = Proposals(masks, torch.zeros(2, 4), torch.tensor([0.25, 0.75]))
    found = merge_nested(proposals, 0.5)
    assert (found.boxes.tolist(), found.scores.tolist()) == ([[0, 0, 8, 3]], [0.75])
    assert torch.equal(found.masks[0], masks.any(dim=0))


def test_nothing_to_do_gives_the_very_proposals() -> None:
    proposals = draw(0, 4)
    assert AS_MADE(proposals) is proposals
    assert str(AS_MADE) == ""


def test_steps_follow_one_another_in_their_order() -> None:
    proposals = draw(5, 9)
    wanted = keep_top(matrix_nms(mask_nms(merge_nested(drop_small(proposals, 2), 0.9), 0.6), 0.2), 3)
    done = PostProcessing(min_area=2, merge=0.9, nms=0.6, matrix_nms=0.2, top=3)
    assert rows(done(proposals)) == rows(wanted)
    assert str(done) == "min_area=2, merge=0.9, nms=0.6, matrix_nms=0.2, top=3"


@pytest.mark.parametrize(
    "wrong", [{"min_area": -1}, {"merge": 0}, {"merge": 1.1}, {"nms": -0.1}, {"matrix_nms": 2}, {"top": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=f"post.{name} is {wrong[name]}, it must be"):
        PostProcessing(**wrong)
