"""What cannot be chosen, scored or read: counted, told, or the end of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gl_ris.errors import EvaluationError
from toy_scenes import TOLD, Data, make_scene, no_proposals

EXPECTED = "expected are real floating scores (E, N), expressions by masks."
GOT = [
    ("column", "float32 (E, 1)"),
    ("turned", "float32 (N, E)"),
    ("flat", "float32 (other)"),
    ("wide", "float32 (E, other)"),
    ("complex", "complex64 (E, N)"),
    ("whole", "int64 (E, N)"),
    ("yes", "bool (E, N)"),
    ("list", "list"),
]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"proposals": no_proposals()}, "no proposals"),
        ({"proposals": no_proposals(4)}, "no proposals"),
        ({"error": "image file is missing", "proposals": None}, "image file is missing"),
        ({"value": 13}, "Told: RuntimeError: unlucky"),
        ({"texts": ["take nan", "take nan"]}, "score is not a number"),
        ({"texts": ["highest", "take 1"]}, "no finite best score"),
        ({"texts": ["lowest", "take 1"]}, "no finite best score"),
        ({"texts": ["huge", "take 1"]}, "no finite best score"),
        *(({"texts": [odd, "take 1"]}, f"Told: ValueError: Told gave {got}, {EXPECTED}") for odd, got in GOT),
    ],
    ids=[
        *("none", "only-empty-ones", "unreadable", "scoring-raises", "nan", "highest", "lowest", "huge"),
        *(odd for odd, _ in GOT),
    ],
)
def test_what_cannot_be_chosen_is_a_counted_miss(
    changes: dict[str, Any], reason: str, predict: Callable[..., Any]
) -> None:
    changes = {"texts": ["take 0", "take 1"], **changes}
    bad = make_scene(1, **changes)
    model, records = predict(Data([make_scene(0, ["take 0", "take 1"]), bad]))
    found = model.evaluation
    good_area = 6 * 6 + 8 * 16
    missed_area = 6 * 7 + 8 * 16
    assert found.methods["Told"]["oIoU"] == pytest.approx(100 * good_area / (good_area + missed_area))
    assert found.methods["Told"]["mIoU"] == 50
    assert found.failures == {reason: 2}
    assert (found.n_images, found.n_evaluated, found.n_skipped) == (2, 4, 0)
    assert [r.failure for r in records] == [None, None, reason, reason]
    assert [(r.choice, r.score, r.segmentation, r.intersection) for r in records[2:]] == [
        (None, None, None, 0)
    ] * 2


def test_the_upper_bound_does_not_suffer_from_a_method_that_fails(predict: Callable[..., Any]) -> None:
    scenes = [make_scene(0, ["take 0"]), make_scene(1, ["take 0"], value=13)]
    model, records = predict(Data(scenes), methods=[TOLD, "random"])
    assert model.evaluation.upper_bound["oIoU"] == 100
    assert model.evaluation.failures == {"Told: RuntimeError: unlucky": 1}
    assert [(r.method, r.failure is None) for r in records] == [
        ("Told", True),
        ("Random", True),
        ("Told", False),
        ("Random", True),
    ]


def test_a_failure_is_told_once_with_its_traceback(
    predict: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    predict(Data([make_scene(0, ["take 0"]), *(make_scene(i, ["take 0"], value=13) for i in (1, 2, 3))]))
    (told,) = [entry for entry in caplog.records if entry.name == "gl_ris.evaluator"]
    assert "1001" in told.getMessage()
    assert told.exc_info is not None


def test_a_bug_that_fails_every_image_is_an_error(predict: Callable[..., Any]) -> None:
    data = Data([make_scene(i, ["take 0"], value=13) for i in range(3)])
    with pytest.raises(EvaluationError, match=r"Not one expression .* Told: RuntimeError: unlucky \(3\)"):
        predict(data)


def test_images_that_go_missing_on_the_way_are_an_error(predict: Callable[..., Any]) -> None:
    data = Data([make_scene(0, ["take 0"])])
    data.n_expressions = 2
    with pytest.raises(
        EvaluationError, match="Evaluated 1 images with 1 expressions, but the split has 1 with 2"
    ):
        predict(data)


def test_a_recipe_can_leave_out_images_without_proposals(predict: Callable[..., Any]) -> None:
    from gl_ris.recipe import Recipe

    recipe = Recipe(skip_images_without_proposals=True)
    scenes = [make_scene(0, ["take 0"]), make_scene(1, ["take 0", "take 1"], proposals=no_proposals())]
    model, records = predict(Data(scenes), recipe=recipe)
    found = model.evaluation
    assert (found.methods["Told"]["oIoU"], found.upper_bound["oIoU"]) == (100, 100)
    assert (found.n_images, found.n_evaluated, found.n_skipped) == (2, 1, 2)
    assert found.failures == {"skipped, no proposals": 2}
    assert len(records) == 3
    # the whole of both targets of the second image is missed: 6 x 7 and 8 x 16 pixels, beside the 36 found
    every_miss = found.every_miss["Told"]
    assert every_miss["oIoU"] == pytest.approx(100 * 36 / (36 + 42 + 128))
    assert (every_miss["mIoU"], found.every_miss_upper_bound["oIoU"]) == (
        pytest.approx(100 / 3),
        every_miss["oIoU"],
    )
    assert model.counting == "published"


def test_where_nothing_is_left_out_every_miss_is_what_is_counted(predict: Callable[..., Any]) -> None:
    scenes = [make_scene(0, ["take 0"]), make_scene(1, ["take 0"], proposals=no_proposals())]
    model, _ = predict(Data(scenes))
    found = model.evaluation
    assert (model.counting, found.n_skipped) == ("every_miss", 0)
    assert (found.every_miss, found.every_miss_upper_bound) == (found.methods, found.upper_bound)


def test_one_reason_stands_for_images_of_all_sizes(predict: Callable[..., Any]) -> None:
    scenes = [make_scene(i, ["column", *["take 0"] * i]) for i in range(3)]
    with pytest.raises(EvaluationError, match=r"evaluated: Told: .* gave float32 \(E, 1\), .* \(6\)\.$"):
        predict(Data(scenes))


def test_a_damaged_target_costs_its_own_expressions(predict: Callable[..., Any]) -> None:
    scene = make_scene(0, ["take 0", "take 1", "take 0"])
    scene.targets[1] = False
    scene = replace(scene, faults=[None, "target: cut off", None])
    model, records = predict(Data([scene]))
    found = model.evaluation
    assert [(r.choice, r.failure, r.intersection, r.union) for r in records] == [
        (0, None, 36, 36),
        (None, "target: cut off", 0, 0),
        (0, None, 36, 36),
    ]
    assert found.failures == {"target: cut off": 1}
    assert found.methods["Told"] == found.upper_bound
    assert (found.methods["Told"]["oIoU"], found.methods["Told"]["mIoU"]) == (100, pytest.approx(200 / 3))


def test_an_empty_target_is_a_miss_that_says_so(predict: Callable[..., Any]) -> None:
    scene = make_scene(0, ["take 0", "take 1"])
    scene.targets[1] = False
    model, records = predict(Data([scene]))
    assert [(r.choice, r.failure, r.iou, r.union) for r in records] == [
        (0, None, 1.0, 36),
        (1, "empty target", 0.0, 128),
    ]
    assert model.evaluation.failures == {"empty target": 1}
    assert model.evaluation.methods["Told"]["mIoU"] == 50


def test_ties_are_counted_and_told_where_they_are_most(
    predict: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    scenes = [make_scene(0, ["equal", "any"]), make_scene(1, ["take 0"])]
    model, records = predict(Data(scenes), methods=[TOLD, "random"])
    found = model.evaluation
    assert (found.ties, found.choices) == ({"Told": 2, "Random": 0}, {"Told": 3, "Random": 3})
    assert [record.tied for record in records if record.method == "Told"] == [True, True, False]
    (told,) = [line.getMessage() for line in caplog.records if line.name == "gl_ris.evaluator"]
    assert told.startswith("Told: 2 of 3 choices are ties")
