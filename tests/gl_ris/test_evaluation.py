from __future__ import annotations

import contextlib
import math
import time
from collections import Counter

import pytest
import torch
from msgspec.structs import replace

from gl_ris import counting, evaluation
from gl_ris.counting import gather_objects
from gl_ris.errors import EvaluationError
from gl_ris.evaluation import Stopwatch, Tally, best_proposals
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


def members(*flags: int) -> dict[str, torch.Tensor]:
    return {"some": torch.tensor(flags, dtype=torch.bool), "none": torch.zeros(len(flags), dtype=torch.bool)}


def test_subsets_are_counted_beside_all() -> None:
    tally = Tally(["A", "B"])
    tally.add_areas([areas((1, 2), (0, 2)), areas((2, 2), (0, 2)), areas((2, 2), (2, 2))], members(1, 0))
    some = [replace(record(method), subsets=("some",)) for method in "AB"]
    failed = [replace(record(method, sent_id=1, failure="late"), subsets=()) for method in "AB"]
    tally.add_scene([*some, *failed], subsets=members())
    tally.add_areas([areas((1, 4)), areas((4, 4)), areas((4, 4))], members(0))
    tally.add_scene([replace(record(method), subsets=()) for method in "AB"], subsets=members())
    skipped = [replace(record(m, failure="skipped"), subsets=("some",)) for m in "AB"]
    tally.add_scene(skipped, True, subsets=members())
    found = tally.compute(SECONDS)
    assert (found.n_images, found.n_evaluated, found.n_skipped) == (3, 3, 1)
    part, empty = found.subsets["some"], found.subsets["none"]
    assert (part.methods["A"]["oIoU"], part.methods["B"]["oIoU"], part.upper_bound["mIoU"]) == (50, 100, 100)
    assert (part.n_images, part.n_evaluated, part.n_skipped, part.failures) == (2, 1, 1, {"skipped": 1})
    assert (empty.n_images, empty.n_evaluated, empty.failures) == (0, 0, {})
    assert all(math.isnan(value) for value in [*empty.methods["A"].values(), *empty.upper_bound.values()])
    assert set(empty.methods["B"]) == set(part.methods["B"])
    tally.reset()
    tally.add_areas([areas((1, 1)), areas((1, 1)), areas((1, 1))])
    tally.add_scene([record("A"), record("B")])
    assert tally.compute(SECONDS).subsets == {}


def test_the_name_of_a_subset_is_checked() -> None:
    with pytest.raises(ValueError, match=r"must look like unseen or unseen_names, not 'a\.b'"):
        Tally(["A"]).subset("a.b")


def test_reset_forgets_everything() -> None:
    tally = Tally(["A"])
    tally.add_areas([areas((0, 1)), areas((0, 1))])
    tally.add_scene([record("A", failure="x")], skipped=1)
    tally.reset()
    tally.add_areas([areas((1, 1)), areas((1, 1))])
    tally.add_scene([record("A")])
    found = tally.compute(SECONDS)
    assert (found.methods["A"]["oIoU"], found.n_images, found.n_skipped, found.failures) == (100, 1, 0, {})


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_parts_of_all_processes_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = ((2, 1, 5), Counter(x=2, y=1))
    monkeypatch.setattr(counting, "gather_objects", lambda own: [own, counts])
    rest = (dict.fromkeys(STAGES, 3.0), ["b"])
    monkeypatch.setattr(evaluation, "gather_objects", lambda own: [own, rest])
    tally = Tally(["A"])
    tally.add_areas([areas((1, 1)), areas((1, 1))])
    tally.add_scene([record("A", failure="x")])
    found = tally.compute(SECONDS)
    assert (found.n_images, found.n_skipped, found.failures) == (3, 1, {"x": 3, "y": 1})
    assert found.seconds == dict.fromkeys(STAGES, 2.0)
    # a subset that only the other process has met is asked for in this one, too
    assert list(found.subsets) == ["b"]


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
