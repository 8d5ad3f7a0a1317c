from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from datamodules.rows import Rows, encode_row, write_rows

VALUES: list[Any] = [{"a": [1, 2.5, None]}, "\u72d7 \ud800 \0", [], -(2**63), [[0.1, 1e300]], True]


def written(path: Path, values: list[Any]) -> Path:
    with path.open("wb") as file:
        write_rows(file, map(encode_row, values), {"count": len(values), "name": "\u72d7"})
    return path


@pytest.mark.parametrize("values", [VALUES, []], ids=["some", "none"])
def test_what_is_written_is_read_back(tmp_path: Path, values: list[Any]) -> None:
    path = written(tmp_path / "a.rows", values)
    for rows in (Rows(path), Rows(path.read_bytes())):
        assert list(rows) == values
        assert (len(rows), rows[: len(values) // 2]) == (len(values), values[: len(values) // 2])
        assert rows.head == {"count": len(values), "name": "\u72d7"}
        with pytest.raises(IndexError):
            rows[len(values)]
    assert not values or Rows(path)[-1] == values[-1]


@pytest.mark.parametrize("as_bytes", [False, True], ids=["file", "memory"])
def test_a_copy_in_another_process_reads_the_same(tmp_path: Path, as_bytes: bool) -> None:
    path = written(tmp_path / "a.rows", VALUES)
    rows = Rows(path.read_bytes() if as_bytes else path)
    assert list(pickle.loads(pickle.dumps(rows))) == VALUES


def test_a_copy_of_what_was_replaced_is_refused(tmp_path: Path) -> None:
    copy = pickle.dumps(Rows(written(tmp_path / "a.rows", VALUES)))
    written(tmp_path / "a.rows", VALUES[1:])
    with pytest.raises(ValueError, match="was made anew while it was in use"):
        pickle.loads(copy)


def test_every_changed_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.rows", VALUES).read_bytes()
    for place in range(len(whole)):
        with pytest.raises(ValueError, match=r"checksum|too short"):
            Rows(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"checksum|too short"):
            Rows(whole[:place])
