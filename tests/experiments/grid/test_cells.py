"""Runs of other commands: what is kept, checked and run, in which order, and what a failure does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.grid.cells import SUPERVISED, Cell, first_difference, parts_of, plan
from experiments.grid.runner import LOG, Runner
from experiments.grid.settings import Grid
from experiments.run.evaluate import write_config
from experiments.run.resuming import begin
from finished_cells import Parts, Workshop, trained_results, zero_shot_results
from gl_ris.errors import EvaluationError, UserError
from gl_ris.files import write_json
from gl_ris.inputs import inputs_of


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path / "store")
    made.install(monkeypatch)
    for name in "abcd":
        made.add(name, zero_shot_results())
    return made


def cells(workshop: Workshop, *names: str, **after: str) -> list[Cell]:
    return [Cell(f"cell {n}", [f"name={n}"], n, models="m", after=after.get(n)) for n in names]


class Listed(Grid):
    """Writes down what is finished, each time."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []

    def write(self, folder: Path, results: Mapping[str, Any]) -> str:
        self.written.append(list(results))
        return f"{len(results)} finished"


def perform(
    cells: Sequence[Cell], folder: Path, at_once: int = 1, overwrite: bool = False
) -> list[list[str]]:
    """Carry out; gives the names of what is finished each time when it was written."""
    grid = Listed()
    assert Runner(cells, folder, grid, at_once, {}, overwrite).perform() == f"{len(cells)} finished"
    return grid.written


def test_models_are_checked_once_and_what_is_finished_not_at_all(workshop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    runs = plan(cells(workshop, "a", "b"), folder, False)
    assert [models for _, models in workshop.checked] == [True, False]
    assert perform(runs, folder) == [["a"], ["a", "b"]]
    workshop.checked.clear()
    runs = plan(cells(workshop, "c", "a", "b"), folder, False)
    assert workshop.checked == [(["name=c"], True)]
    assert perform(runs, folder) == [["c", "a", "b"]]
    assert perform(plan(cells(workshop, "c"), folder, False), folder) == [["c"]]
    assert all(run.done is None for run in plan(cells(workshop, "a", "b"), folder, True))


def test_other_settings_are_refused_by_name(workshop: Workshop, tmp_path: Path) -> None:
    perform(plan(cells(workshop, "a"), tmp_path, False), tmp_path)
    (cell,) = cells(workshop, "a")
    other = Cell(cell.label, ["name=other"], "a")
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
    assert perform(plan(wanted, tmp_path, False), tmp_path, 2) == [["a"], ["b", "a"]]
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


def set_aside(cell: Cell, folder: Path, program: str = "zero_shot") -> Path:
    """Leave in a cell's folder what a run of it that is cut off leaves."""
    cli = parts_of(replace(cell, arguments=cell.line(folder)))
    path = folder / cell.name
    write_config(path / "config.yaml", cli.settings(), f"python -m experiments.{program}")
    begin(path, [], inputs_of(cli.model, cli.datamodule))
    return path / "progress" / "run.json"


def edit(path: Path, **changes: Any) -> None:
    """Change some keys of a document."""
    write_json(path, {**json.loads(path.read_text()), **changes})


def test_what_was_cut_off_goes_on_if_nothing_has_changed(toy: list[str], tmp_path: Path) -> None:
    cell = plan([Cell("toy val", toy)], None, False)[0]
    began = set_aside(cell, tmp_path)
    kept = json.loads(began.read_text())["inputs"]
    assert set(kept["annotations"]) == {"refs(unc).p", "instances.json"}

    def planned(*more: str, overwrite: bool = False) -> Cell:
        return plan([Cell("toy val", [*toy, *more])], tmp_path, overwrite)[0]

    again = planned("trainer.devices=2", "data.num_workers=1")
    assert (again.goes_on, again.anew, again.command(tmp_path)[-1]) == (True, "", "resume=true")
    other = planned("alpha=0.3")
    assert (other.goes_on, other.command(tmp_path)[-1]) == (False, "overwrite=true")
    assert other.anew == "what was cut off had other settings (model.alpha was 0.4 and is 0.3)"
    other = planned(overwrite=True)
    assert (other.goes_on, other.anew) == (False, "")
    changed = {**kept, "annotations": {**kept["annotations"], "instances.json": "0" * 64}}
    for changes, said in (
        ({"inputs": changed}, "instances.json of its annotations has changed"),
        ({"inputs": kept, "methods_version": 1}, "its figures are of version 1 of the methods"),
    ):
        edit(began, **changes)
        other = planned()
        assert (other.goes_on, said in other.anew) == (False, True)


def test_what_was_cut_off_goes_on_only_with_the_weights_that_it_began_with(
    toy: list[str], tmp_path: Path
) -> None:
    given = [word for word in toy if not word.startswith(("model.", "methods=", "proposals="))]
    options = [*given, "baseline=cris-tiny", "training.split=val", "epochs=1", "k=1"]
    cells = [
        Cell("trained", options, "a", SUPERVISED, "cris"),
        Cell("other split", options, "b", SUPERVISED, "cris", after="a"),
    ]
    first, second = plan(cells, None, False)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights.pt").write_bytes(b"as they were")
    results = trained_results("CRIS-tiny", 1, 0, 30.0, config=json.loads(json.dumps(first.settings)))
    write_json(tmp_path / "a" / "results.json", results)
    set_aside(second, tmp_path, "supervised")
    assert plan(cells, tmp_path, False)[1].goes_on
    (tmp_path / "a" / "weights.pt").write_bytes(b"as they are")
    assert plan(cells, tmp_path, False)[1].anew == "weights.pt of its weights has changed"
    (tmp_path / "a" / "results.json").unlink()
    assert plan(cells, tmp_path, False)[1].anew == "the weights that it evaluates are made anew"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"methods_version": 1}, "its figures are of version 1 of the methods, which is 4 now"),
        (
            {"inputs": {"annotations": {"instances.json": "0"}}},
            "instances.json of its annotations has changed",
        ),
        ({"inputs": {"annotations": {"gone.json": "0"}}}, "gone.json of its annotations has changed"),
        # what nobody could hash then or could hash now
        ({"inputs": {"annotations": {"a.json": None}, "clip": {"x": "0"}}}, ""),
    ],
)
def test_figures_that_would_be_others_now_are_not_kept(
    changes: dict[str, Any],
    said: str,
    workshop: Workshop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.json").write_text("{}")
    files = {"a.json": tmp_path / "a.json"}
    monkeypatch.setattr(Parts.datamodule, "input_files", lambda: files, raising=False)
    perform(plan(cells(workshop, "a"), tmp_path, False), tmp_path)
    edit(tmp_path / "a" / "results.json", **changes)
    capfd.readouterr()
    (again,) = plan(cells(workshop, "a"), tmp_path, False)
    assert (again.anew, again.done is None) == (said, bool(said))
    perform([again], tmp_path)
    assert (f"cell a: begins anew, since {said}\n" in capfd.readouterr().out) == bool(said)
    # files that are not there any more say nothing about what was measured
    (tmp_path / "a.json").unlink()
    assert plan(cells(workshop, "a"), tmp_path, False)[0].done


def test_documents_of_before_have_the_first_version(workshop: Workshop, tmp_path: Path) -> None:
    perform(plan(cells(workshop, "a"), tmp_path, False), tmp_path)
    path = tmp_path / "a" / "results.json"
    old = json.loads(path.read_text())
    del old["methods_version"]
    write_json(path, old)
    assert "are of version 1" in plan(cells(workshop, "a"), tmp_path, False)[0].anew


def test_a_training_that_was_cut_off_stays_where_its_run_goes_on_alone(
    workshop: Workshop, tmp_path: Path
) -> None:
    state = tmp_path / "a" / "training" / "last.ckpt"
    state.parent.mkdir(parents=True)
    state.touch()
    planned = plan(cells(workshop, "a"), tmp_path, False)
    perform([replace(cell, goes_on=True) for cell in planned], tmp_path)
    assert state.is_file()
    perform(planned, tmp_path)
    assert not state.parent.exists()


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_failure_keeps_what_is_finished(
    at_once: int, workshop: Workshop, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workshop.remove("c")
    # one after the other, so that both are finished when c fails, however busy the machine is
    runs = plan(cells(workshop, "a", "b", "c", "d", b="a", c="b"), tmp_path, False)
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


def test_a_supervised_cell_says_what_it_learnt_from(workshop: Workshop, tmp_path: Path) -> None:
    cell = Cell("cell t", ["name=t"], "t", SUPERVISED)
    good = trained_results("LAVT", 4, 0, 30.0)
    two = {**good, "methods": {**good["methods"], "B": {"oIoU": 1.0, "mIoU": 1.0}}}
    without = {key: value for key, value in good.items() if key != "training"}
    for results, whole in ((good, True), ({**good, "training": None}, True), (two, False), (without, False)):
        workshop.add("t", results)
        perform(plan([cell], tmp_path, True), tmp_path)
        if whole:
            assert plan([cell], tmp_path, False)[0].done
        else:
            with pytest.raises(UserError, match=r"results\.json.* cannot be read .they are not those of one"):
                plan([cell], tmp_path, False)


@pytest.mark.parametrize(
    ("k", "more", "expected"),
    [
        (1, {}, 2 * 1),
        (4, {}, 2 * 2),
        ("all", {}, 2 * 10),
        (4, {"batch_size": 2}, 2 * 4),
        (4, {"schedule": "min_steps", "min_steps": 7}, 4 * 2),
    ],
)
def test_steps_of_a_training(k: int | str, more: dict[str, Any], expected: int) -> None:
    """Two epochs on refs of classes with 30 and 10, in batches of four."""
    model = {"weights": None, "baseline": {"init_args": {"epochs": 2, "batch_size": 4}}}
    cell = Cell("t", [], settings={"model": model, "training": {"k": k, **more}})
    assert cell.steps([30, 10]) == expected
    assert replace(cell, after="another").steps([30, 10]) == 0
    assert Cell("t", [], settings={"model": {}}).steps([30, 10]) == 0


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, "a.b was [1] and is [1, 2]"),
        ({}, {"a": 1}, "a was None and is 1"),
        ({"a": "x" * 99}, {"a": 1}, f"a was {'x' * 60}... and is 1"),
        ({"b": {"c": 1, "d": 1}, "e": 1}, {"b": {"c": 2}, "e": {}, "f": 0}, "f was None and is 0"),
    ],
)
def test_the_first_difference(before: dict[str, Any], now: dict[str, Any], said: str) -> None:
    assert first_difference(before, now, ("b.c", "b.d", "e")) == said
