"""What made a result: the versions of the libraries, and the commit of the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gl_ris.program import git_commit, versions


def test_versions_name_python_and_the_libraries() -> None:
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["numpy"] == np.__version__
    assert {"torch", "open_clip_torch", "lightning"} <= set(found)


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    for package in ("gl_ris", "venv"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "file.py").touch()
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "gl_ris")
    _git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_commit_of_a_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = _git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git_commit(checkout / "gl_ris") == head


def test_no_commit_where_the_package_is_not_versioned(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert git_commit(checkout / "venv") is None
    assert git_commit(tmp_path_factory.mktemp("bare")) is None
    assert git_commit(checkout / "nowhere") is None


def test_no_commit_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert git_commit(checkout / "gl_ris") is None
