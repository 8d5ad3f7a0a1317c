"""Runs of other commands: what is kept, checked and run, in which order, and what a failure does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.grid import machine
from experiments.grid.child_runs import LOG, Cell, Crew, Run, first_difference, plan
from experiments.grid.machine import shares
from finished_cells import Workshop, trained_results, zero_shot_results
from gl_ris.errors import EvaluationError, UserError


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path / "store")
    made.install(monkeypatch)
    for name in "abcd":
        made.add(name, zero_shot_results())
    return made


def cells(workshop: Workshop, *names: str, **after: str) -> list[Cell]:
    program = workshop.program("experiments.supervised")
    return [
        Cell(f"cell {name}", [f"name={name}"], name, program, models="m", after=after.get(name))
        for name in names
    ]


def perform(runs: list[Run], folder: Path, at_once: int = 1) -> list[tuple[str, bool]]:
    """Carry out; gives the names in the order in which they were handed over, and whether they were run."""
    told: list[tuple[str, bool]] = []
    Crew(folder, at_once).perform(runs, lambda run, _, seconds: told.append((run.name, seconds is not None)))
    return told


def test_models_are_checked_once_and_what_is_finished_not_at_all(workshop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    runs = plan(cells(workshop, "a", "b"), folder, False)
    assert [models for _, models in workshop.checked] == [True, False]
    assert perform(runs, folder) == [("a", True), ("b", True)]
    workshop.checked.clear()
    runs = plan(cells(workshop, "c", "a", "b"), folder, False)
    assert workshop.checked == [(["name=c"], True)]
    assert perform(runs, folder) == [("a", False), ("b", False), ("c", True)]
    assert all(run.done is None for run in plan(cells(workshop, "a", "b"), folder, True))


def test_other_settings_are_refused_by_name(workshop: Workshop, tmp_path: Path) -> None:
    perform(plan(cells(workshop, "a"), tmp_path, False), tmp_path)
    (cell,) = cells(workshop, "a")
    other = Cell(cell.label, ["name=other"], "a", cell.program)
    with pytest.raises(UserError, match=r"had other settings \(arguments was .*name=a.* and is .*name=other"):
        plan([other], tmp_path, False)


def test_a_cell_named_twice_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cell a is there twice"):
        plan(cells(workshop, "a", "a"), tmp_path, False)


def test_what_reads_weights_waits_for_them_and_is_not_kept_without_them(
    workshop: Workshop, tmp_path: Path
) -> None:
    wanted = cells(workshop, "b", "a", b="a")
    # b is in front, but reads the weights of a
    assert perform(plan(wanted, tmp_path, False), tmp_path, 2) == [("a", True), ("b", True)]
    assert f"weights={tmp_path / 'a' / 'weights.pt'}" in workshop.started[-1]
    in_order = cells(workshop, "a", "b", b="a")
    assert all(run.done for run in plan(in_order, tmp_path, False))
    (tmp_path / "a" / "results.json").unlink()
    workshop.checked.clear()
    assert not any(run.done for run in plan(in_order, tmp_path, False))
    assert workshop.checked == [(["name=a"], True)]


def test_old_results_are_gone_before_what_they_depend_on_is_made_anew(
    workshop: Workshop, tmp_path: Path
) -> None:
    wanted = cells(workshop, "a", "b", b="a")
    perform(plan(wanted, tmp_path, False), tmp_path)
    (tmp_path / "a" / "results.json").unlink()
    workshop.remove("b")  # cut off between the two
    with pytest.raises(EvaluationError):
        perform(plan(wanted, tmp_path, False), tmp_path)
    assert [run.done is not None for run in plan(wanted, tmp_path, False)] == [True, False]


def test_a_training_that_was_cut_off_goes_on_unless_all_is_run_anew(
    workshop: Workshop, tmp_path: Path
) -> None:
    state = tmp_path / "a" / "training" / "last.ckpt"
    state.parent.mkdir(parents=True)
    state.touch()
    perform(plan(cells(workshop, "a"), tmp_path, False), tmp_path)
    assert state.is_file()
    perform(plan(cells(workshop, "a"), tmp_path, True), tmp_path)
    assert not state.parent.exists()


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_failure_keeps_what_is_finished(
    at_once: int, workshop: Workshop, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workshop.remove("c")
    runs = plan(cells(workshop, "a", "b", "c", "d", c="b"), tmp_path, False)
    with pytest.raises(
        EvaluationError, match=f"cell c was not evaluated, see above.*run_dir={tmp_path} goes"
    ):
        perform(runs, tmp_path, at_once)
    assert json.loads((tmp_path / "a" / "results.json").read_text())["config"]["arguments"] == ["name=a"]
    assert (tmp_path / "b" / "results.json").is_file()
    assert "error: it could not be done" in capfd.readouterr().err


def test_output_of_several_goes_to_files(
    workshop: Workshop, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    perform(plan(cells(workshop, "a", "b", "c"), tmp_path, False), tmp_path, 2)
    output = capfd.readouterr().out
    assert "at work" not in output
    for name in "abc":
        assert (tmp_path / name / LOG).read_text() == "at work\n"
        assert output.count(f"cell {name}: begins, its output is in {tmp_path / name / LOG}\n") == 1
        assert output.count(f"cell {name}: ended after ") == 1


@pytest.mark.parametrize(
    ("at_once", "environment", "expected"),
    [
        (1, {"CUDA_VISIBLE_DEVICES": "0,1"}, [{}]),
        (2, {"CUDA_VISIBLE_DEVICES": ""}, [{"OMP_NUM_THREADS": "4"}] * 2),
        (3, {"CUDA_VISIBLE_DEVICES": "7"}, [{"OMP_NUM_THREADS": "2"}] * 3),
        (9, {"CUDA_VISIBLE_DEVICES": ""}, [{"OMP_NUM_THREADS": "1"}] * 9),
        (2, {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}, [{}] * 2),
        (
            2,
            {"CUDA_VISIBLE_DEVICES": "4,5,6", "OMP_NUM_THREADS": "1"},
            [{"CUDA_VISIBLE_DEVICES": "4,6"}, {"CUDA_VISIBLE_DEVICES": "5"}],
        ),
        (
            3,
            {"CUDA_VISIBLE_DEVICES": "4,5", "OMP_NUM_THREADS": "1"},
            [{"CUDA_VISIBLE_DEVICES": name} for name in "454"],
        ),
    ],
)
def test_shares_of_the_machine(
    at_once: int,
    environment: dict[str, str],
    expected: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("experiments.grid.machine.cores", lambda: 8)
    assert shares(at_once, environment) == expected


def test_a_supervised_cell_says_what_it_learnt_from(tmp_path: Path) -> None:
    from experiments.reporting.finished_results import check_training, read_results

    def check(document: dict[str, Any]) -> None:
        path = tmp_path / "results.json"
        path.write_text(json.dumps(document))
        check_training(read_results(path), path)

    whole = trained_results("LAVT", 4, 0, 30.0)
    check(whole)
    check({**whole, "training": None})
    for change, said in (
        ({"training": 3}, r"got `int` - at `\$.training`"),
        ({"training": {**whole["training"], "k": None}}, r"got `null` - at `\$.training.k`"),
        ({"methods": {**whole["methods"], "B": {"oIoU": 1, "mIoU": 1}}}, "more methods than one"),
    ):
        with pytest.raises(UserError, match=said):
            check({**whole, **change})


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, "a.b was [1] and is [1, 2]"),
        ({}, {"a": 1}, "a was None and is 1"),
        ({"a": "x" * 99}, {"a": 1}, f"a was {'x' * 60}... and is 1"),
    ],
)
def test_the_first_difference(before: dict[str, Any], now: dict[str, Any], said: str) -> None:
    assert first_difference(before, now) == said


@pytest.mark.parametrize(
    ("options", "devices", "count", "expected"),
    [
        ([], "0,1,2", 8, 3),
        ([], "", 8, 2),
        ([], "", 1, 1),
        (["--trainer.devices=3"], "0,1,2", 8, 1),
        (["trainer.devices=2"], "", 8, 1),
    ],
)
def test_how_many_go_side_by_side_by_themselves(
    options: list[str], devices: str, count: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: count)
    assert machine.usual_jobs(options, {"CUDA_VISIBLE_DEVICES": devices}) == expected
