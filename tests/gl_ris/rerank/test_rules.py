"""Rules against matrices written by hand, plain loops, and what must hold of every rule."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.errors import UserError
from gl_ris.masks import tight_boxes
from gl_ris.rerank import Regions
from gl_ris.rerank.rules import ORDERS, PLACES, RULES, ordinal, preset

# a small one above left, a large one in the middle, a middling one below right that overlaps it by a quarter
BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 20, 60, 60], [50, 40, 70, 60]])
HARD = {
    "left": [[0, 1, 1], [0, 0, 1], [0, 0, 0]],
    "right": [[0, 0, 0], [1, 0, 0], [1, 1, 0]],
    "above": [[0, 1, 1], [0, 0, 1], [0, 0, 0]],
    "below": [[0, 0, 0], [1, 0, 0], [1, 1, 0]],
    "bigger": [[0, 0, 0], [1, 0, 1], [1, 0, 0]],
    "smaller": [[0, 1, 1], [0, 0, 0], [0, 1, 0]],
    "inside": [[1, 0, 0], [0, 1, 200 / 1600], [0, 200 / 400, 1]],
}
MOST = {
    "leftmost": [2 / 3, 1 / 3, 0],
    "rightmost": [0, 1 / 3, 2 / 3],
    "topmost": [2 / 3, 1 / 3, 0],
    "bottommost": [0, 1 / 3, 2 / 3],
    "biggest": [0, 2 / 3, 1 / 3],
    "smallest": [2 / 3, 0, 1 / 3],
}
RELATIONS = sorted(name for name, rule in RULES.items() if rule(BOXES).ndim == 2 and name != "with")
SUPERLATIVES = sorted(name for name, rule in RULES.items() if rule(BOXES).ndim == 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("reclip", {**HARD, **MOST}), ("hybridgl", HARD), ("hybridgl_fixed", HARD)],
)
def test_published_predicates_are_those_written_by_hand(name: str, expected: dict[str, list[object]]) -> None:
    rules = preset(name)
    assert sorted(rules) == sorted(expected)
    for kind, matrix in expected.items():
        torch.testing.assert_close(rules[kind](BOXES), torch.tensor(matrix).float(), msg=kind)


def test_hard_predicates_of_equal_boxes_hold_for_none() -> None:
    twice = BOXES[[0, 0]]
    assert all(not preset("reclip")[kind](twice).any() for kind in HARD if kind != "inside")


@pytest.mark.parametrize("name", ["full", "reclip", "hybridgl", "hybridgl_fixed"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_rules_take_any_number_of_boxes_and_whole_numbers(name: str, count: int) -> None:
    for kind, rule in preset(name).items():
        found, whole = rule(BOXES[:count]), rule(BOXES[:count].long())
        assert set(found.shape) == {count}, kind
        torch.testing.assert_close(whole, found, msg=kind)


def test_what_is_on_a_mask_is_with_it() -> None:
    torch.testing.assert_close(RULES["with"](BOXES), torch.eye(3))


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(UserError, match=r"Unknown preset of rules 'recl'. Did you mean 'reclip'"):
        preset("recl")


@pytest.mark.parametrize("name", sorted({**RULES, **PLACES}))
def test_rules_are_shares_and_free_of_scale(name: str) -> None:
    rule = {**PLACES, **RULES}[name]
    generator = torch.Generator().manual_seed(1)
    low = torch.rand(7, 2, generator=generator, dtype=torch.float64) * 300
    boxes = torch.cat([low, low + 5 + 90 * torch.rand(7, 2, generator=generator, dtype=torch.float64)], dim=1)
    found = rule(boxes)
    assert found.shape in [(7,), (7, 7), (7, 7, 7)]
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(rule(boxes * 3 + 17), found)
    # in any order of the masks, the same
    order = torch.randperm(7, generator=generator)
    for axis in range(found.ndim):
        found = found.index_select(axis, order)
    torch.testing.assert_close(rule(boxes[order]), found)
    assert torch.isfinite(rule(boxes[:1])).all()


@pytest.mark.parametrize("name", RELATIONS)
def test_no_mask_is_related_to_itself(name: str) -> None:
    assert not RULES[name](BOXES).diag().any()
    assert not RULES[name](BOXES[[0, 0]]).diag().any()


def test_bigger_compares_areas() -> None:
    bigger = RULES["bigger"](BOXES)
    # 1600 and 400 pixels: the fourth power of 4 against 1
    assert float(bigger[1, 2]) == pytest.approx(256 / 257)
    torch.testing.assert_close(RULES["smaller"](BOXES), bigger.T)


def test_left_falls_with_the_angle() -> None:
    # all 100 away from the last one, at 0, 30, 60, 90 and 180 degrees
    angles = torch.tensor([0, 30, 60, 90, 180]) * math.pi / 180
    centres = torch.stack([-100 * angles.cos(), 100 * angles.sin()], dim=1)
    centres = torch.cat([centres, torch.zeros(1, 2)])
    found = RULES["left"](torch.cat([centres - 5, centres + 5], dim=1))[:5, 5]
    # cos 0, 30, 60 squared; a hundredth of softness for a tenth in size
    torch.testing.assert_close(found, torch.tensor([1, 0.75, 0.25, 0, 0]), atol=0.001, rtol=0)


def test_between_is_highest_on_the_line() -> None:
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [100, 0, 110, 10], [50, 0, 60, 10], [50, 60, 60, 70], [200, 0, 210, 10]]
    )
    found = RULES["between"](boxes)
    assert found[2, 0, 1] > 0.99
    assert found[3, 0, 1] < 0.01
    assert found[4, 0, 1] == 0
    torch.testing.assert_close(found, found.transpose(1, 2))
    # neither an anchor itself, nor between one and the same
    for i, j in itertools.product(range(5), repeat=2):
        assert found[i, i, j] == found[i, j, i] == found[i, j, j] == 0


def test_near_falls_with_the_gap_and_inside_wants_the_smaller_one() -> None:
    boxes = torch.tensor([[0.0, 0, 40, 40], [40, 0, 80, 40], [160, 0, 200, 40], [10, 10, 20, 20]])
    near = RULES["near"](boxes)
    assert near[0, 1] == 1
    assert float(near[1, 2]) == pytest.approx(math.exp(-80 / 20))
    inside = RULES["inside"](boxes)
    assert float(inside[3, 0]) == pytest.approx(1 - 100 / 1600)
    assert inside[0, 3] < 0.1
    assert inside[0, 1] == 0
    assert RULES["on"](boxes)[3, 0] > 0.9


def test_masks_count_where_they_are_known() -> None:
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, :30, :30] = True
    masks[0, 5:30, 5:30] = False  # a frame, whose box holds the other one
    masks[1, 10:20, 10:20] = True
    boxes = tight_boxes(masks)
    assert RULES["inside"](boxes)[1, 0] > 0.8
    assert RULES["inside"](Regions(boxes, (40, 40), Bits(masks)))[1, 0] == 0
    assert RULES["bigger"](Regions(boxes, (40, 40), Bits(masks)))[0, 1] == pytest.approx(
        275**4 / (275**4 + 100**4)
    )


@pytest.mark.parametrize(
    ("name", "winner"),
    [
        *[("leftmost", 0), ("topmost", 0), ("rightmost", 2), ("biggest", 1), ("smallest", 0)],
        *[("farthest", 0), ("bottommost", 2)],
    ],
)
def test_superlatives(name: str, winner: int) -> None:
    assert RULES[name](BOXES).argmax() == winner


def test_superlatives_are_all_named() -> None:
    assert sorted([*MOST, "closest", "farthest"]) == SUPERLATIVES


def by_counting(before: Tensor, kind: Tensor, k: int) -> list[float]:
    """Add up the probabilities of every set of masks that may lie before."""
    found = []
    for i in range(len(kind)):
        chance, others = before[:, i] * kind, [j for j in range(len(kind)) if j != i]
        found.append(
            sum(
                math.prod(float(chance[j] if j in ahead else 1 - chance[j]) for j in others)
                for ahead in itertools.combinations(others, k - 1)
            )
        )
    return found


@pytest.mark.parametrize("k", [1, 2, 3, 6, 8])
def test_ordinals_are_poisson_binomial(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    before = torch.rand(6, 6, generator=generator, dtype=torch.float64).fill_diagonal_(0)
    kind = torch.rand(6, generator=generator, dtype=torch.float64)
    assert ordinal(before, kind, k).tolist() == pytest.approx(by_counting(before, kind, k))


def test_the_second_of_a_kind_from_the_left_is_not_the_second_mask() -> None:
    boxes = torch.tensor([[10.0 * x, 0, 10 * x + 8, 8] for x in (0, 2, 4, 6)])
    kind = torch.tensor([1.0, 0, 0, 1])
    found = ordinal(ORDERS["left"](boxes), kind, 2) * kind
    assert found.argmax() == 3
    assert found[0] < 0.01


@pytest.mark.parametrize(
    ("place", "winner"),
    [
        *[("left", 0), ("right", 2), ("top", 0), ("bottom", 2), ("front", 2), ("back", 0)],
        *[("middle", 1), ("middle column", 1), ("middle row", 1)],
    ],
)
def test_places_are_in_the_image_and_not_among_the_masks(place: str, winner: int) -> None:
    boxes = torch.tensor([[0.0, 0, 20, 20], [40, 40, 60, 60], [80, 80, 100, 100]])
    assert PLACES[place](Regions(boxes, (100, 100))).argmax() == winner
    # all of them are far left and at the top of a large image
    far = PLACES[place](Regions(boxes, (1000, 1000)))
    assert (far > 0.99).all() if place in ("left", "top", "back") else (far < 0.1).all()
