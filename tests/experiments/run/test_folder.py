from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.run.folder import RunFolder
from gl_ris.errors import UserError


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def test_default_folders_carry_the_time_and_never_collide() -> None:
    paths = [RunFolder("zero_shot").create() for _ in range(5)]
    assert len(set(paths)) == 5
    assert all(path.is_dir() and path.parent == Path("runs/zero_shot") for path in paths)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?", path.name) for path in paths)


def test_nothing_is_made_before_create(tmp_path: Path) -> None:
    RunFolder("zero_shot")
    RunFolder("zero_shot", tmp_path / "new")
    assert not Path("runs").exists()
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_refused_with_the_fix(tmp_path: Path) -> None:
    fill(tmp_path, "anything")
    with pytest.raises(UserError, match=r"is not empty; name another one, or .* overwrite=true"):
        RunFolder("zero_shot", tmp_path)


def test_a_folder_that_came_into_use_is_refused(tmp_path: Path) -> None:
    folder = RunFolder("zero_shot", tmp_path / "run")
    fill(tmp_path, "run/results.json")
    with pytest.raises(UserError, match="is not empty"):
        folder.create()


def test_a_file_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    with pytest.raises(UserError, match="is a file"):
        RunFolder("zero_shot", tmp_path / "file")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    with pytest.raises(UserError, match=r"file/run' cannot be made \(.+\); name another one by run_dir"):
        RunFolder("zero_shot", tmp_path / "file" / "run").create()


def test_overwriting_removes_the_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    run = ["results.json", "predictions.jsonl", "predictions_rank3.jsonl", "table.csv", "overlays/1.png"]
    fill(tmp_path, *run, "notes.txt", "wandb/offline-run-1/x", "sub/results.json")
    RunFolder("zero_shot", tmp_path, overwrite=True).create()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"notes.txt", "wandb/offline-run-1/x", "sub/results.json"}


@pytest.mark.parametrize("given", [None, "deep/er"])
def test_a_run_that_predicted_nothing_leaves_nothing(given: str | None) -> None:
    folder = RunFolder("zero_shot", given)
    fill(folder.create(), "config.yaml")
    (folder.path / "predictions_rank0.jsonl").touch()
    assert folder.discard_if_empty()
    assert not list(Path().iterdir())


def test_a_folder_that_was_there_before_stays(tmp_path: Path) -> None:
    folder = RunFolder("zero_shot", tmp_path)
    fill(folder.create(), "config.yaml", "notes.txt")
    assert folder.discard_if_empty()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_predictions_are_kept() -> None:
    folder = RunFolder("zero_shot")
    fill(folder.create(), "config.yaml", "predictions_rank1.jsonl")
    assert not folder.discard_if_empty()
    assert (folder.path / "predictions_rank1.jsonl").is_file()
