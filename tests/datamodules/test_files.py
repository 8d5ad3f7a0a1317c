from __future__ import annotations

import builtins
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from datamodules.files import clean_text, read_json, write_json
from datamodules.plain_pickle import read_plain_pickle
from gl_ris.errors import UserError
from gl_ris.files import atomic_file


class Hostile:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch owned",)),
        (builtins.eval, ("open('owned', 'w')",)),
        (builtins.getattr, (os, "system")),
    ],
    ids=["os.system", "eval", "getattr"],
)
def test_a_pickle_that_names_code_is_refused_and_nothing_runs(
    tmp_path: Path, protocol: int, function: Any, arguments: tuple[Any, ...]
) -> None:
    if os in arguments:
        payload = b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR."  # a module does not pickle
    else:
        payload = pickle.dumps([{"ref_id": Hostile(function, *arguments)}], protocol)
    (tmp_path / "refs.p").write_bytes(payload)
    with pytest.raises(UserError, match=r"refused: it asks for '(posix|nt|os|builtins|__builtin__)\."):
        read_plain_pickle(tmp_path / "refs.p")
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    "value",
    [{1, 2}, frozenset(), 1 + 2j, bytearray(b"x"), range(3), Path("a")],
    ids=["set", "frozenset", "complex", "bytearray", "range", "path"],
)
def test_even_harmless_globals_are_refused(tmp_path: Path, value: Any) -> None:
    (tmp_path / "refs.p").write_bytes(pickle.dumps([value], protocol=2))
    with pytest.raises(UserError, match="refused: it asks for"):
        read_plain_pickle(tmp_path / "refs.p")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip\n",
        b"<!DOCTYPE html><html></html>",
        b"\x80\x02]q\x00(K\x01K\x02",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f].",
        b"\x80\x63].",
        b"(lp0\nI1\nas.",
    ],
    ids=[
        "empty",
        "zip",
        "web-page",
        "cut-off",
        "long-string",
        "huge-bytes",
        "huge-frame",
        "protocol",
        "stack",
    ],
)
def test_a_damaged_pickle_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "refs.p").write_bytes(content)
    with pytest.raises(
        UserError, match=r"refs\.p' is not a readable pickle \(.+\)\. Fetch the file anew\.$"
    ) as raised:
        read_plain_pickle(tmp_path / "refs.p")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_pickle_cut_off_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    whole = pickle.dumps([{"ref_id": 1, "split": "val", "sentences": [{"sent": "a"}]}], protocol=2)
    (tmp_path / "refs.p").write_bytes(whole[:-cut])
    with pytest.raises(UserError, match="not a readable pickle"):
        read_plain_pickle(tmp_path / "refs.p")


def test_strings_of_python_2_are_read_as_utf8_or_else_latin1(tmp_path: Path) -> None:
    # SHORT_BINSTRING, the opcode of a Python 2 str
    (tmp_path / "refs.p").write_bytes(b"\x80\x02](U\x04caf\xe9U\x05caf\xc3\xa9U\x04\x93hi\x94e.")
    texts = read_plain_pickle(tmp_path / "refs.p")
    assert [clean_text(text) for text in texts] == ["café", "café", "\x93hi\x94"]


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
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "damaged JSON"),
    ],
    ids=["empty", "zip", "web-page", "list", "cut-off", "unbalanced", "not-utf8", "nested-deep"],
)
def test_what_is_not_json_is_one_sentence(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=match):
        read_json(tmp_path / "a.json", "{")


@pytest.mark.parametrize("head", [b"", b'{"images": ['], ids=["zeros", "json-at-first"])
def test_two_gigabytes_of_something_else_are_refused_unread(tmp_path: Path, head: bytes) -> None:
    with (tmp_path / "a.json").open("wb") as file:  # sparse: takes no space
        file.write(head)
        file.truncate(2 << 30)
    with pytest.raises(UserError, match=r"not a JSON object|breaks off"):
        read_json(tmp_path / "a.json", "{")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No annotation file at '.*a\.json'"):
        read_json(tmp_path / "a.json", "{")
    with pytest.raises(UserError, match=r"No annotation file at '.*a\.p'"):
        read_plain_pickle(tmp_path / "a.p")


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
