from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.files import clean_text, read_json, write_json
from gl_ris.errors import UserError
from gl_ris.files import atomic_file


@pytest.mark.parametrize("text", ["\udcff", "a\udcff\ud800"], ids=["escape", "mixed"])
def test_clean_text_is_always_encodable(text: str) -> None:
    clean_text(text).encode()


@pytest.mark.parametrize(
    "text", ["", "plain", "狗 🐶 ñ", "a\u0000b"], ids=["empty", "ascii", "unicode", "nul"]
)
def test_clean_text_keeps_good_text(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a JSON object: it begins with b''"),
        (b"PK\x03\x04", "not a JSON object: it begins with b'P'"),
        (b"<html>", "not a JSON object: it begins with b'<'"),
        (b"[1, 2]", "not a JSON object: it begins with b'\\['"),
        (b'{"images": [1, 2', "breaks off: its last character is b'2'"),
        (b'{"images": [1, 2}', "damaged JSON"),
        (b'{"images": "\xff"}', "damaged JSON"),
        (b'{"a": "\0\0"}', r"it holds b'\\x00'"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "damaged JSON"),
    ],
    ids=["empty", "zip", "web-page", "list", "cut-off", "unbalanced", "not-utf8", "nul", "nested-deep"],
)
def test_what_is_not_json_is_one_sentence(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=match):
        read_json(tmp_path / "a.json", "{")


@pytest.mark.parametrize(
    ("head", "tail", "size"),
    [
        (b"", b"", 2 << 30),
        (b'{"images": [', b"", 2 << 30),
        (b'{"images": [', b"]}", 2 << 30),
        (b"{", b"}", 8 << 30),
    ],
    ids=["zeros", "json-at-first", "json-at-both-ends", "more-than-annotations-have"],
)
def test_gigabytes_of_something_else_are_refused_unread(
    tmp_path: Path, head: bytes, tail: bytes, size: int
) -> None:
    with (tmp_path / "a.json").open("wb") as file:  # sparse: takes no space
        file.write(head)
        file.truncate(size - len(tail))
        file.seek(0, 2)
        file.write(tail)
    with pytest.raises(
        UserError, match=r"not a JSON object|breaks off|it holds|more than annotations can have"
    ):
        read_json(tmp_path / "a.json", "{")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No annotation file at '.*a\.json'"):
        read_json(tmp_path / "a.json", "{")


def test_white_space_around_json_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b' \n\t{"a": 1} \r\n')
    assert read_json(tmp_path / "a.json", "{") == {"a": 1}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.json"
    write_json(target, {"old": True})
    with pytest.raises(TypeError), atomic_file(target) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert read_json(target, "{") == {"old": True}
    assert list(target.parent.iterdir()) == [target]


def test_json_that_is_not_strict_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"score": float("nan")})
    assert list(tmp_path.iterdir()) == []
