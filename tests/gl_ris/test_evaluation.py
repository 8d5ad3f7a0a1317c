from __future__ import annotations

import contextlib
import time
from collections import Counter

import pytest
import torch

from gl_ris import evaluation
from gl_ris.errors import EvaluationError
from gl_ris.evaluation import Stopwatch, Tally, best_proposals, gather_objects
from gl_ris.results import STAGES, Prediction

SECONDS = dict.fromkeys(STAGES, 1.0)


def record(method: str = "Random", sent_id: int = 0, failure: str | None = None) -> Prediction:
    return Prediction(
        image_id=1,
        ref_id=1,
        sent_id=sent_id,
        expression="x",
        noun_phrase=None,
        method=method,
        choice=None if failure else 0,
        score=None,
        iou=0.0,
        intersection=0,
        union=1,
        segmentation=None,
        failure=failure,
    )


def areas(*pairs: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([pair[0] for pair in pairs]), torch.tensor([pair[1] for pair in pairs])


def test_the_best_proposal_is_that_of_highest_iou_and_not_of_largest_intersection() -> None:
    intersection = torch.tensor([[5, 0], [4, 0], [4, 0]])
    union = torch.tensor([[50, 9], [5, 0], [5, 9]])
    assert best_proposals(intersection, union).tolist() == [1, 0]


def test_figures_counts_and_failures() -> None:
    tally = Tally(["A", "B"])
    tally.add_areas([areas((1, 2), (0, 2)), areas((2, 2), (0, 2)), areas((2, 2), (2, 2))])
    failed = [record(method, sent_id=1, failure="no proposals") for method in "AB"]
    tally.add_scene([record("A"), record("B"), *failed])
    tally.add_areas([areas((1, 4)), areas((4, 4)), areas((4, 4))])
    tally.add_scene([record("A"), record("B")])
    found = tally.compute(SECONDS)
    assert found.methods["A"]["oIoU"] == pytest.approx(100 * 2 / 8)
    assert found.methods["B"]["mIoU"] == pytest.approx(100 * 2 / 3)
    assert found.upper_bound["oIoU"] == 100
    assert (found.n_images, found.n_evaluated, found.n_skipped) == (2, 3, 0)
    assert found.failures == {"no proposals": 1}
    assert found.seconds == SECONDS


def test_skipped_expressions_are_in_no_figure() -> None:
    tally = Tally(["A"])
    tally.add_scene([record("A", failure="skipped, no proposals")], skipped=1)
    tally.add_areas([areas((1, 1)), areas((1, 1))])
    tally.add_scene([record("A")])
    found = tally.compute(SECONDS)
    assert (found.methods["A"]["oIoU"], found.n_evaluated, found.n_skipped) == (100, 1, 1)


def test_a_run_without_a_single_choice_is_an_error_that_says_why() -> None:
    tally = Tally(["A"])
    for sent_id in range(3):
        tally.add_areas([areas((0, 1)), areas((0, 1))])
        tally.add_scene([record("A", sent_id=sent_id, failure="A: RuntimeError: boom")])
    with pytest.raises(EvaluationError, match=r"Not one expression .* A: RuntimeError: boom \(3\)"):
        tally.compute(SECONDS)


def test_methods_of_different_counts_are_an_error() -> None:
    with pytest.raises(EvaluationError, match=r"different numbers of expressions: \[1, 2\]"):
        Tally(["A"]).add_areas([areas((0, 1)), areas((0, 1), (1, 1))])
    with pytest.raises(ValueError, match=r"must be \(2, samples\), got \(1, 1\)"):
        Tally(["A"]).add_areas([areas((0, 1))])


def test_reset_forgets_everything() -> None:
    tally = Tally(["A"])
    tally.add_areas([areas((0, 1)), areas((0, 1))])
    tally.add_scene([record("A", failure="x")], skipped=1)
    tally.reset()
    tally.add_areas([areas((1, 1)), areas((1, 1))])
    tally.add_scene([record("A")])
    found = tally.compute(SECONDS)
    assert (found.methods["A"]["oIoU"], found.n_images, found.n_skipped, found.failures) == (100, 1, 0, {})


def test_parts_of_all_processes_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ((2, 1, 5), Counter(x=2, y=1), dict.fromkeys(STAGES, 3.0))
    monkeypatch.setattr(evaluation, "gather_objects", lambda own: [own, other])
    tally = Tally(["A"])
    tally.add_areas([areas((1, 1)), areas((1, 1))])
    tally.add_scene([record("A", failure="x")])
    found = tally.compute(SECONDS)
    assert (found.n_images, found.n_skipped, found.failures) == (3, 1, {"x": 3, "y": 1})
    assert found.seconds == dict.fromkeys(STAGES, 2.0)


def test_one_process_gathers_its_own() -> None:
    assert gather_objects([1]) == [[1]]


def test_the_watch_adds_up_stages() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch("image"):
            time.sleep(0.02)
    watch.mark()
    time.sleep(0.03)
    watch.waited("data")
    with contextlib.suppress(ValueError), watch("score"):
        time.sleep(0.01)
        raise ValueError
    seconds = watch.stop()
    assert set(seconds) == set(STAGES)
    assert seconds["image"] >= 0.04
    assert seconds["data"] >= 0.03
    assert seconds["score"] >= 0.01
    assert seconds["total"] >= seconds["image"] + seconds["data"] + seconds["score"]
    assert seconds["text"] == 0
