"""Drafts that killed processes have left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gl_ris.drafts import draft_of, sweep
from gl_ris.files import atomic_file


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("place", "lives", "days", "stays"),
    [
        ("here", True, 9, True),
        ("here", False, 0, False),
        ("elsewhere", True, 0, True),
        ("elsewhere", False, 0.9, True),
        ("elsewhere", False, 1.1, False),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_drafts_of_dead_processes_go(
    kind: str, place: str, lives: bool, days: float, stays: bool, gone: int, tmp_path: Path
) -> None:
    draft = draft_of(tmp_path / "set.json")
    name = draft.name if lives else draft.name.replace(f"-{os.getpid()}-", f"-{gone}-")
    if place == "elsewhere":
        host = name.split(".")[3].partition("-")[0]
        name = name.replace(host, "0" * 8)
    draft = draft.with_name(name)
    parts = [draft] if kind == "file" else [draft / "images", draft]
    for part in parts:
        part.mkdir(parents=True, exist_ok=True) if kind == "folder" else part.write_text("half")
    for part in parts:
        os.utime(part, (time.time() - days * 24 * 3600,) * 2)
    sweep(tmp_path)
    assert draft.exists() == stays


def test_a_folder_that_is_written_into_below_is_not_old(tmp_path: Path) -> None:
    draft = tmp_path / f".set.{'0' * 8}-1-{'0' * 8}.tmp"
    (draft / "images").mkdir(parents=True)
    os.utime(draft, (0, 0))
    sweep(tmp_path)
    assert draft.is_dir()


def test_other_files_stay(tmp_path: Path) -> None:
    names = [".profile", "a.tmp", ".a.tmp", ".a.12.tmp", f"a.{'0' * 8}-1-{'0' * 8}.tmp", ".a-abcdefgh"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_writing_a_file_sweeps_the_drafts_of_it(gone: int, tmp_path: Path) -> None:
    draft = draft_of(tmp_path / "a.json")
    left = [draft.with_name(draft.name.replace(f"-{os.getpid()}-", f"-{gone}-")), tmp_path / ".a.json.7.tmp"]
    for path in left:
        path.touch()
    os.utime(left[1], (0, 0))
    with atomic_file(tmp_path / "a.json") as file:
        file.write(b"whole")
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == ["a.json"]
