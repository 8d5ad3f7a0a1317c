from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.run.folder import RunFolder, room_needed
from experiments.run.lock import RunLock
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
    folder = RunFolder("zero_shot", tmp_path, overwrite=True)
    folder.create()
    folder.close()
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


@pytest.mark.parametrize("name", ["weights.pt", "training/last.ckpt"])
def test_what_was_learnt_is_kept(name: str) -> None:
    folder = RunFolder("supervised")
    fill(folder.create(), "config.yaml", name)
    assert not folder.discard_if_empty()
    assert (folder.path / "config.yaml").is_file()
    assert (folder.path / name).is_file()


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}], ids=str)
def test_a_folder_has_one_owner(tmp_path: Path, how: dict[str, bool]) -> None:
    """Whether the second run comes when the first has begun, or both begin at once."""
    first, late = RunFolder("zero_shot", tmp_path), RunFolder("zero_shot", tmp_path, **how)
    fill(first.create(), "config.yaml", "predictions_rank0.jsonl", "weights.pt")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    owner = rf"is in use by process {os.getpid()} on {re.escape(socket.gethostname())}; wait"
    with pytest.raises(UserError, match=owner):
        late.create()
    assert late.discard_if_empty()
    with pytest.raises(UserError, match=owner):
        RunFolder("zero_shot", tmp_path, **how)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    first.close()
    assert not (tmp_path / ".lock").exists()
    RunFolder("zero_shot", tmp_path, overwrite=True).create()


def test_a_refused_run_removes_what_it_has_made_itself(tmp_path: Path) -> None:
    late = RunFolder("zero_shot", tmp_path / "new" / "run")
    fill(tmp_path, "new/run/config.yaml", "new/run/predictions_rank0.jsonl")
    with pytest.raises(UserError, match="is not empty"):
        late.create()
    late.discard_if_empty()
    assert sorted(path.name for path in (tmp_path / "new" / "run").iterdir()) == [
        "config.yaml",
        "predictions_rank0.jsonl",
    ]


def test_the_lock_of_a_killed_process_is_nobodys(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom experiments.run.folder import RunFolder, RunLock\n"
        "folder = RunFolder('zero_shot', sys.argv[1]).create()\n"
        "RunLock(folder, 1).take()\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".lock1"}
    folder = RunFolder("zero_shot", tmp_path)
    folder.create()
    folder.close()
    assert not list(tmp_path.iterdir())


def test_processes_of_an_earlier_run_must_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.run.lock._PATIENCE", 0.1)
    orphan = RunLock(tmp_path, 1)
    orphan.take()
    folder = RunFolder("zero_shot", tmp_path)
    with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        folder.create()
    folder.discard_if_empty()
    orphan.release()
    folder.create()
    folder.close()


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"no room for .* \(No space left .* resume=true\."),
        room_needed(tmp_path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(PermissionError), room_needed(tmp_path):
        raise PermissionError(errno.EACCES, "no")
