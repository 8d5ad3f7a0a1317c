from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from gl_ris.choices import EMPTY_TARGET, NOT_A_NUMBER, NOT_FINITE, Choices, choose
from gl_ris.evaluator import best_proposals, chosen_areas, make_records
from gl_ris.masks import pairwise_areas

NAN, INF = float("nan"), float("inf")


@dataclass
class Scene:
    targets: Tensor
    referents: Tensor
    expressions: list[str] = field(default_factory=lambda: ["a", "b", "c"])
    image: Tensor = field(default_factory=lambda: torch.zeros(3, 4, 6, dtype=torch.uint8))
    image_id: int = 7
    ref_ids: list[int] = field(default_factory=lambda: [70, 71, 71])
    sent_ids: list[int] = field(default_factory=lambda: [1, 2, 3])
    index: int = 5
    proposals: Any = None
    error: str | None = None


@pytest.fixture
def scene() -> Scene:
    targets = torch.zeros(2, 4, 6, dtype=torch.bool)
    targets[0, :2, :3] = True  # 6 pixels
    targets[1, 2:, 2:] = True  # 8 pixels
    return Scene(targets, torch.tensor([0, 1, 1]))


@pytest.mark.parametrize(
    ("row", "choice", "score", "failure", "tied"),
    [
        ([0.1, 0.9, 0.3], 1, 0.9, None, False),
        ([0.5, 0.9, 0.9], 1, 0.9, None, True),
        ([0.5, 0.5, 0.9], 2, 0.9, None, False),
        ([0.0, 0.0, 0.0], 0, 0.0, None, True),
        ([-INF, -2.0, -INF], 1, -2.0, None, False),
        ([-INF, -INF, -INF], None, None, NOT_FINITE, False),
        ([0.5, INF, 0.9], None, None, NOT_FINITE, False),
        ([INF, INF, INF], None, None, NOT_FINITE, False),
        ([0.5, NAN, 0.9], None, None, NOT_A_NUMBER, False),
        ([NAN, NAN, NAN], None, None, NOT_A_NUMBER, False),
    ],
    ids=[
        *("highest", "first-of-equals", "lower-equals", "all-equal", "empty-masks", "all-lowest"),
        *("one-infinite", "all-infinite", "one-nan", "all-nan"),
    ],
)
def test_choose(
    row: list[float], choice: int | None, score: float | None, failure: str | None, tied: bool
) -> None:
    other = [0.0, 0.0, 1.0]
    chosen = choose(torch.tensor([other, row], dtype=torch.float64))
    assert chosen == Choices([2, choice], [1.0, score], [None, failure], [False, tied])
    order = sorted((-x, n) for n, x in enumerate(row) if math.isfinite(x))
    assert list(chosen.ranked) == [
        ((2, 1.0), (0, 0.0), (1, 0.0)),
        tuple((n, -x) for x, n in order) if not failure else (),
    ]


def test_the_few_best_are_kept_to_five_digits() -> None:
    scores = torch.arange(8.0)[None] / 7
    assert choose(scores).ranked == [((7, 1.0), (6, 0.85714), (5, 0.71429), (4, 0.57143), (3, 0.42857))]


def test_no_expressions_no_choices() -> None:
    assert choose(torch.zeros(0, 3)) == Choices([], [], [], [])


def test_of_a_damaged_target_there_is_no_choice_and_of_an_empty_one_there_is() -> None:
    chosen = Choices([0, 1, None, 2], [0.1, 0.2, None, 0.3], [None, None, "x", None], [True] * 4)
    assert chosen.on_targets(["target: cut off", EMPTY_TARGET, EMPTY_TARGET, None]) == Choices(
        rows=[None, 1, None, 2],
        scores=[None, 0.2, None, 0.3],
        failures=["target: cut off", EMPTY_TARGET, "x", None],
        ties=[False, True, True, True],
    )


def test_the_best_proposal_is_that_of_highest_iou_and_not_of_largest_intersection() -> None:
    intersection = torch.tensor([[5, 0], [4, 0], [4, 0]])
    union = torch.tensor([[50, 9], [5, 0], [5, 9]])
    assert best_proposals(intersection, union).tolist() == [1, 0]


def test_areas_without_a_choice_are_those_of_a_miss(scene: Scene) -> None:
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0, :2, :2] = True  # 4 pixels, all in the first target
    masks[1, 1:, :] = True  # 18 pixels: 3 of the first target, 8 of the second
    areas = pairwise_areas(masks, scene.targets)
    intersection, union = chosen_areas([0, None, 1], areas, scene)
    assert intersection.tolist() == [4, 0, 8]
    assert union.tolist() == [6, 8, 18]
    assert (intersection.dtype, union.dtype) == (torch.int64, torch.int64)


def test_without_any_proposal_everything_is_a_miss(scene: Scene) -> None:
    areas = pairwise_areas(scene.targets[:0], scene.targets)
    intersection, union = chosen_areas([None] * 3, areas, scene)
    assert intersection.tolist() == [0, 0, 0]
    assert union.tolist() == [6, 8, 8]


def test_records_say_what_was_chosen_and_why_not(scene: Scene) -> None:
    choices = Choices([1, None, 0], [0.5, None, -1.0], [None, "no proposals", None], [True, False, False])
    areas = torch.tensor([3, 0, 0]), torch.tensor([12, 8, 0])
    masks: list[Any] = [{"size": [4, 6], "counts": "1"}, None, {"size": [4, 6], "counts": "0"}]
    records = make_records("Random", scene, choices, areas, ["x", "y", None], masks)
    assert [(r.choice, r.score, r.iou, r.intersection, r.union, r.failure) for r in records] == [
        (1, 0.5, 0.25, 3, 12, None),
        (None, None, 0.0, 0, 8, "no proposals"),
        (0, -1.0, 0.0, 0, 0, None),
    ]
    assert [(r.image_id, r.index, r.ref_id, r.sent_id, r.expression, r.noun_phrase) for r in records] == [
        (7, 5, 70, 1, "a", "x"),
        (7, 5, 71, 2, "b", "y"),
        (7, 5, 71, 3, "c", None),
    ]
    assert [record.tied for record in records] == [True, False, False]
    assert records[1].segmentation is None
    assert records[0].segmentation == {"size": [4, 6], "counts": "1"}
