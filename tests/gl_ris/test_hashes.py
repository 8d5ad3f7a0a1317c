"""Hashes of files, and shipped files that are not as they were shipped."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

import gl_ris.assets
from gl_ris import hashes, text
from gl_ris.clip.loading import SHIPPED, SWIN
from gl_ris.errors import UserError
from gl_ris.hashes import check_shipped, sha256_of

ASSETS = Path(gl_ris.assets.__file__).parent


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_every_shipped_file_is_as_the_list_says() -> None:
    wanted = dict(line.split("  ")[::-1] for line in (ASSETS / "SHA256SUMS").read_text().splitlines())
    there = {
        path.relative_to(ASSETS).as_posix(): digest(path.read_bytes())
        for path in ASSETS.rglob("*")
        if path.is_file() and path.parent != ASSETS and path.suffix not in (".md", ".csv")
    }
    assert there == wanted
    assert {name.partition("/")[0] for name in wanted} == {*SHIPPED, SWIN, "parser"}


@pytest.mark.parametrize("damage", ["changed", "missing", "more"])
def test_a_changed_shipped_file_says_reinstall(damage: str, tmp_path: Path) -> None:
    shutil.copy(ASSETS / "SHA256SUMS", tmp_path)
    folder = tmp_path / "refshapes-rn"
    shutil.copytree(ASSETS / "refshapes-rn", folder)
    check_shipped(folder)
    path = folder / ("another.bin" if damage == "more" else "open_clip_model.safetensors")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\0")
    with pytest.raises(UserError, match=rf"{path.name}' is not as it was released .*; reinstall gl-ris"):
        check_shipped(folder)


def test_a_changed_parser_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ASSETS / "SHA256SUMS", tmp_path)
    shutil.copytree(ASSETS / "parser", tmp_path / "parser")
    monkeypatch.setattr(text, "SHIPPED", tmp_path / "parser")
    with (tmp_path / "parser" / "config.cfg").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"config.cfg' is not as it was released"):
        text.load_parser()


def test_a_folder_is_hashed_as_the_lines_of_sha256sum(tmp_path: Path) -> None:
    for name, content in {"b": b"2", "a/c": b"1", ".hidden": b"3"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert sha256_of(tmp_path) == digest(f"{digest(b'1')}  a/c\n{digest(b'2')}  b\n".encode())
    assert sha256_of(tmp_path / "b") == digest(b"2")


def test_a_large_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "_LARGE", 8)
    read: list[Path] = []
    monkeypatch.setattr(hashes, "file_hash", lambda path: read.append(path) or digest(path.read_bytes()))
    path = tmp_path / "weights.pth"

    def at(second: int, content: bytes) -> str:
        path.write_bytes(content)
        os.utime(path, (second, second))
        # as another process would find it
        hashes._known.cache_clear()
        return sha256_of(path)

    assert at(1000, b"0123456789") == digest(b"0123456789")
    assert at(1000, b"0123456789") == digest(b"0123456789")
    assert len(read) == 1
    assert at(2000, b"9876543210") == digest(b"9876543210")
    assert at(2000, b"98765432100") == digest(b"98765432100")
    assert len(read) == 3
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_bytes(b"[")
    assert at(2000, b"98765432100") == digest(b"98765432100")


def test_a_file_that_may_still_change_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "_LARGE", 0)
    (tmp_path / "new").write_bytes(b"x")
    sha256_of(tmp_path / "new")
    assert not (tmp_path / "cache").exists()
