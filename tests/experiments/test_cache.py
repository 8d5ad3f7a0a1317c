"""``python -m experiments.cache``: what lies in the cache folder, and removing some of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import cache
from gl_ris.errors import UserError

DRAWN, STORE, DRAFT = "refshapes-v2-seed0-train", "toy-unc-val/slic-0123456789ab", ".refshapes-v3-x.tmp"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an entry of each kind: 1,000 bytes drawn, 200 stored, 30 of a draft, 4 of an index, 7 of
    notes."""
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path))
    monkeypatch.delenv("GL_RIS_STORE")
    monkeypatch.setattr(cache, "_is_ours", lambda _: False)
    for name, size in {
        f"{DRAWN}/images/1.png": 1000,
        f"proposals/{STORE}/1.masks": 198,
        f"proposals/{STORE}/manifest.json": 2,
        f"{DRAFT}/1.png": 30,
        "masks.json.index.npz": 4,
        "letter.txt": 5,
        "phrases/0123/4567.json": 7,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    return tmp_path


def test_every_entry_is_listed_with_kind_and_size(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {(entry.name, entry.kind): entry.size for entry in cache.entries()}
    assert found == {
        (DRAWN, "drawn"): 1000,
        (STORE, "store"): 200,
        ("masks.json.index.npz", "index"): 4,
        (DRAFT, "draft"): 30,
        ("letter.txt", "other"): 5,
        ("phrases", "notes"): 7,
    }
    cache.main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert lines[-1] == f"6 entries, 0.0 MB, in {root}"
    assert all(len(line.split()) == 6 for line in lines[:-1]), "kind, size, unit, day, time, name"


@pytest.mark.parametrize(
    ("names", "left"),
    [
        ("store", {DRAWN, DRAFT, "masks.json.index.npz", "letter.txt", "phrases"}),
        (f"{DRAWN},index,notes", {STORE, DRAFT, "letter.txt"}),
        (f"[{STORE}]", {DRAWN, DRAFT, "masks.json.index.npz", "letter.txt", "phrases"}),
    ],
)
def test_what_is_named_is_removed_and_nothing_else(names: str, left: set[str], root: Path) -> None:
    cache.main([f"remove={names}"])
    assert {entry.name for entry in cache.entries()} - {STORE.partition("/")[0]} == left


def test_an_unknown_name_removes_nothing(root: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown entry or kind 'stores'\. Did you mean 'store'\?"):
        cache.main(["remove=draft,stores"])
    assert len(cache.entries()) == 6


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_what_a_live_process_has_open_stays(root: Path) -> None:
    import subprocess
    import sys

    held = root / "proposals" / STORE / "1.masks"
    code = f"file = open({str(held)!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        with pytest.raises(UserError, match=rf"may be in use by process {process.pid}; nothing was removed"):
            cache.main(["remove=drawn,store"])
        assert len(cache.entries()) == 6
        process.stdin.close()
    cache.main(["remove=drawn,store"])
    assert {entry.kind for entry in cache.entries()} == {"draft", "index", "notes", "other"}


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        ("python\0-m\0experiments.zero_shot\0limit=2\0", True),
        ("/usr/bin/python3\0-m\0datamodules.check\0", True),
        ("python\0/home/me/experiments/sweep.py\0", False),
        ("/venv/bin/python\0/venv/bin/gl-ris\0segment\0", True),
        ("vim\0notes.txt\0", False),
    ],
)
def test_commands_of_this_program_are_known(words: str, ours: bool, tmp_path: Path) -> None:
    (tmp_path / "cmdline").write_text(words)
    assert cache._is_ours(tmp_path) == ours
