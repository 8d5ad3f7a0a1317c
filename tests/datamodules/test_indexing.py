from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules import indexing
from datamodules.indexing import Content, index_path, indexed
from datamodules.rows import encode_row


class Reader:
    """Reads a file of words, and counts how often."""

    def __init__(self, path: Path) -> None:
        self.path, self.times = path, 0

    def __call__(self) -> Content:
        self.times += 1
        return map(encode_row, self.path.read_text().split()), {"n": 1}

    def words(self) -> list[str]:
        return list(indexed([self.path], "words", self))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indexing, "SMALL", 0)
    path = tmp_path / "words.txt"
    path.write_text("a b c")
    return Reader(path)


def test_files_are_read_once(reader: Reader) -> None:
    assert [reader.words() for _ in range(3)] == [["a", "b", "c"]] * 3
    assert reader.times == 1
    assert list(index_path([reader.path], "words").parent.iterdir()) == [index_path([reader.path], "words")]


def test_a_change_is_noticed_even_with_the_old_time_and_size(reader: Reader) -> None:
    reader.words()
    before = reader.path.stat()
    reader.path.write_text("x y z")
    os.utime(reader.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert reader.words() == ["x", "y", "z"]
    assert reader.times == 2
    assert len(list(index_path([reader.path], "words").parent.iterdir())) == 1


def test_another_version_of_rows_is_made_anew(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.words()
    monkeypatch.setattr(indexing, "FORMAT", indexing.FORMAT + 1)
    reader.words()
    assert reader.times == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_index_is_announced_and_made_anew(
    reader: Reader, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    reader.words()
    path = index_path([reader.path], "words")
    whole = path.read_bytes()
    content = {"cut": whole[:-1], "flipped": whole[:9] + b"!" + whole[10:], "empty": b""}
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(content[damage])
    caplog.clear()
    assert reader.words() == ["a", "b", "c"]
    assert reader.times >= 2
    assert "damaged" in caplog.text
    if damage != "folder":
        assert path.read_bytes() == whole


def test_without_a_cache_folder_the_rows_stay_in_memory(
    reader: Reader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert [reader.words(), reader.words()] == [["a", "b", "c"]] * 2
    assert "cannot be kept in" in caplog.text
    assert "GL_RIS_CACHE" in caplog.text


def test_small_files_leave_nothing_in_the_cache(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "SMALL", 1000)
    assert reader.words() == ["a", "b", "c"]
    assert not (tmp_path / "cache").exists()


def test_an_index_that_fails_half_way_leaves_nothing(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Content:
        def rows() -> Iterator[bytes]:
            yield b"1"
            raise RuntimeError("half way")

        return rows(), {}

    with pytest.raises(RuntimeError, match="half way"):
        indexed([reader.path], "words", broken)
    assert list(index_path([reader.path], "words").parent.iterdir()) == []
