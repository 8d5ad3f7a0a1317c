from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.files import Sized, clean_text, compact_json, convert, read_annotations, write_bytes
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


LISTS = dict[str, list[int]]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"PK\x03\x04", "malformed"),
        (b"<html>", "malformed"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b'{"images": [1, 2', "truncated"),
        (b'{"images": [1, 2}', "malformed"),
        (b'{"\xff": [1]}', "utf-8"),
        (b'{"a": \0\0}', "malformed"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "Expected `int`|recursion"),
    ],
    ids=["empty", "zip", "web-page", "list", "cut-off", "unbalanced", "not-utf8", "nul", "nested-deep"],
)
def test_what_is_no_file_of_annotations_is_one_sentence(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json' is no annotation file, or damaged \(.*{match}.*Fetch"):
        read_annotations(tmp_path / "a.json", LISTS)


@pytest.mark.parametrize("head", [b"", b'{"images": ['], ids=["zeros", "json-at-first"])
def test_gigabytes_of_something_else_are_refused(tmp_path: Path, head: bytes) -> None:
    with (tmp_path / "a.json").open("wb") as file:  # sparse: takes no space
        file.write(head)
        file.truncate(2 << 30)
    with pytest.raises(UserError, match="no annotation file, or damaged"):
        read_annotations(tmp_path / "a.json", LISTS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No annotation file at '.*a\.json'"):
        read_annotations(tmp_path / "a.json", LISTS)


def test_white_space_around_json_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b' \n\t{"a": [1]} \r\n')
    assert read_annotations(tmp_path / "a.json", LISTS) == {"a": [1]}


def test_a_value_of_another_kind_says_where_it_stands() -> None:
    with pytest.raises(
        UserError, match=r"'b': image 3 is damaged: Expected `int`, got `str` - at `\$\.width`"
    ):
        convert({"height": 3, "width": "4"}, Sized, "'b': image 3")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.json"
    write_bytes(target, b'{"old": []}')
    with pytest.raises(TypeError), atomic_file(target) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert read_annotations(target, LISTS) == {"old": []}
    assert list(target.parent.iterdir()) == [target]


def test_json_that_is_not_strict_is_not_made() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        compact_json({"score": float("nan")}, dict, "the file")
    with pytest.raises(UserError, match="the file would be damaged: Expected `int`"):
        compact_json({"a": ["b"]}, LISTS, "the file")
    assert compact_json({"a": [1, 2], "狗": []}, LISTS, "the file") == '{"a":[1,2],"狗":[]}'.encode()
