"""What is counted of a run: figures, subsets, failures, seconds."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import pytest
import torch

from gl_ris import tally as module
from gl_ris.errors import EvaluationError
from gl_ris.results import STAGES
from gl_ris.tally import Stopwatch, Tally, gather_objects

SECONDS = dict.fromkeys(STAGES, 1.0)


def add(tally: Tally, *rows: list[tuple[int, int]], why: Any = None, **options: Any) -> None:
    """Add a scene: per method (and for the best choice) the areas of each expression."""
    areas = torch.tensor(rows).reshape(len(rows), -1, 2)
    failures = why or [[None] * areas.shape[1]] * len(tally.methods)
    tally.add_scene(areas[..., 0], areas[..., 1], failures, **options)


def test_figures_counts_and_failures() -> None:
    tally = Tally(["A", "B"])
    missed = [[None, "no proposals"]] * 2
    add(tally, [(1, 2), (0, 2)], [(2, 2), (0, 2)], [(2, 2), (2, 2)], why=missed)
    add(tally, [(1, 4)], [(4, 4)], [(4, 4)])
    found = tally.compute(SECONDS)
    assert found.methods["A"]["oIoU"] == pytest.approx(100 * 2 / 8)
    assert found.methods["B"]["mIoU"] == pytest.approx(100 * 2 / 3)
    assert found.upper_bound["oIoU"] == 100
    assert (found.n_images, found.n_evaluated, found.n_skipped) == (2, 3, 0)
    assert found.failures == {"no proposals": 1}
    assert found.seconds == SECONDS


def test_failures_are_counted_once_for_all_methods_that_fail_alike() -> None:
    tally = Tally(["A", "B"])
    why = [["no proposals", "image: cut off", None], ["no proposals", None, None]]
    add(tally, *[[(0, 1)] * 3] * 3, why=why)
    assert tally.compute(SECONDS).failures == {"image: cut off": 1, "no proposals": 1}


def test_skipped_expressions_are_in_no_figure_but_every_miss() -> None:
    tally = Tally(["A"])
    add(tally, [(0, 1)], [(0, 1)], why=[["skipped, no proposals"]], skipped=True)
    add(tally, [(1, 1)], [(1, 1)])
    found = tally.compute(SECONDS)
    assert (found.methods["A"]["oIoU"], found.n_evaluated, found.n_skipped) == (100, 1, 1)
    assert (found.every_miss["A"]["oIoU"], found.every_miss["A"]["mIoU"]) == (50, 50)
    assert found.every_miss_upper_bound["mIoU"] == 50


def test_ties_and_choices_are_counted_by_method() -> None:
    tally = Tally(["A", "B"])
    why = [[None, "x", None], [None, None, None]]
    add(tally, *[[(0, 1)] * 3] * 3, why=why, ties=[[True, False, True], [False, False, True]])
    add(tally, *[[(0, 1)]] * 3)
    found = tally.compute(SECONDS)
    assert (found.ties, found.choices) == ({"A": 2, "B": 1}, {"A": 3, "B": 4})


def test_a_run_without_a_single_choice_is_an_error_that_says_why() -> None:
    tally = Tally(["A"])
    for _ in range(3):
        add(tally, [(0, 1)], [(0, 1)], why=[["A: RuntimeError: boom"]])
    with pytest.raises(EvaluationError, match=r"Not one expression .* A: RuntimeError: boom \(3\)"):
        tally.compute(SECONDS)


def test_areas_of_another_number_of_methods_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"must be \(2, samples\), got \(1, 1\)"):
        add(Tally(["A"]), [(0, 1)])


def test_methods_without_a_best_choice_have_no_bound() -> None:
    tally = Tally(["A"], bounded=False)
    add(tally, [(1, 2)])
    found = tally.compute(SECONDS)
    assert found.methods["A"]["oIoU"] == 50
    assert all(math.isnan(value) for value in found.upper_bound.values())


def members(*flags: int) -> dict[str, torch.Tensor]:
    return {"some": torch.tensor(flags, dtype=torch.bool), "none": torch.zeros(len(flags), dtype=torch.bool)}


def test_subsets_are_counted_beside_all() -> None:
    tally = Tally(["A", "B"])
    late = [[None, "late"]] * 2
    add(tally, [(1, 2), (0, 2)], [(2, 2), (0, 2)], [(2, 2), (2, 2)], why=late, subsets=members(1, 0))
    add(tally, [(1, 4)], [(4, 4)], [(4, 4)], subsets=members(0))
    add(tally, *[[(0, 1)]] * 3, why=[["skipped"]] * 2, subsets=members(1), skipped=True)
    found = tally.compute(SECONDS)
    assert (found.n_images, found.n_evaluated, found.n_skipped) == (3, 3, 1)
    part, empty = found.subsets["some"], found.subsets["none"]
    assert (part.methods["A"]["oIoU"], part.methods["B"]["oIoU"], part.upper_bound["mIoU"]) == (50, 100, 100)
    assert (part.n_images, part.n_evaluated, part.n_skipped, part.failures) == (2, 1, 1, {"skipped": 1})
    assert (empty.n_images, empty.n_evaluated, empty.failures) == (0, 0, {})
    assert all(math.isnan(value) for value in [*empty.methods["A"].values(), *empty.upper_bound.values()])
    assert set(empty.methods["B"]) == set(part.methods["B"])


def test_the_name_of_a_subset_is_checked() -> None:
    with pytest.raises(ValueError, match=r"must look like unseen or unseen_names, not 'a\.b'"):
        add(Tally(["A"]), [(0, 1)], [(0, 1)], subsets={"a.b": torch.tensor([True])})


def test_parts_of_all_processes_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Tally(["A"])
    second = {"b": torch.tensor([False, True])}
    add(other, [(1, 3), (2, 4)], [(3, 3), (4, 4)], why=[["x", "y"]], subsets=second)
    rest = gather_objects((dict.fromkeys(STAGES, 3.0), other._counts))
    monkeypatch.setattr(module, "gather_objects", lambda own: [own, *rest])
    tally = Tally(["A"])
    add(tally, [(1, 1)], [(1, 1)])
    found = tally.compute(SECONDS)
    assert (found.n_images, found.n_evaluated, found.failures) == (2, 3, {"x": 1, "y": 1})
    assert found.methods["A"]["oIoU"] == 100 * 4 / 8
    assert found.seconds == dict.fromkeys(STAGES, 2.0)
    # a subset that only the other process has met counts, too
    assert (found.subsets["b"].n_images, found.subsets["b"].methods["A"]["mIoU"]) == (1, 50)


def test_one_process_gathers_its_own() -> None:
    assert gather_objects([1]) == [[1]]


def test_the_watch_adds_up_stages() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch("image"):
            time.sleep(0.02)
    watch.mark()
    time.sleep(0.03)
    watch.waited({"data": 2.0, "proposals": 1.0})
    with contextlib.suppress(ValueError), watch("score"):
        time.sleep(0.01)
        raise ValueError
    seconds = watch.stop()
    assert set(seconds) == set(STAGES)
    assert seconds["image"] >= 0.04
    # what was waited for is shared in proportion
    assert seconds["data"] + seconds["proposals"] >= 0.03
    assert seconds["data"] == pytest.approx(2 * seconds["proposals"])
    assert seconds["score"] >= 0.01
    assert seconds["total"] >= sum(seconds[name] for name in STAGES if name != "total")
    assert seconds["text"] == 0
