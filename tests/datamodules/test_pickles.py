"""A pickle can hold refs and nothing else: no code, no words that do not print."""

from __future__ import annotations

import builtins
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.files import clean_text
from datamodules.pickles import read_plain_pickle
from gl_ris.errors import UserError


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
        # numbered so high that the unpickler makes room for as many values: 0.5 GB, and up to 64
        b"]r\x00\x00\x00\x02.",
        b"(lp33554432\n.",
        b"I47\x00aVdog\n.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00lat\x00n1\x86R.",
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
        "huge-memo",
        "huge-memo-of-python-2",
        "number-with-a-zero",
        "codec",
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


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"(S'x'\nios\nsystem\n.", "asks for 'os.system'"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for 'os.system'"),
        (b"]Pname\n.", "not a readable pickle .*persistent"),
        (b"]K\x01Q.", "not a readable pickle .*persistent"),
        (b"]K\x01)R.", "not a readable pickle .*callable"),
        (b"]}b.", "not a readable pickle"),
        (b"(]o.", "not a readable pickle"),
        (b"])\x81.", "not a readable pickle"),
        (b"])}\x92.", "not a readable pickle"),
        (b"]\x82\x01.", "not a readable pickle .*extension"),
        (b"]\x83\x01\x00.", "not a readable pickle .*extension"),
        (b"]\x84\x01\x00\x00\x00.", "not a readable pickle .*extension"),
        (b"]\x97.", "not a readable pickle .*out-of-band"),
        (b"\x80\x04\x8c\x06\xed\xa0\x80abc\x8c\x01x\x93.", "not a readable pickle|asks for"),
    ],
    ids=[
        "inst",
        "stack_global",
        "persid",
        "binpersid",
        "reduce",
        "build",
        "obj",
        "newobj",
        "newobj_ex",
        "ext1",
        "ext2",
        "ext4",
        "buffer",
        "surrogate",
    ],
)
def test_operations_that_call_or_change_something_are_refused(
    tmp_path: Path, content: bytes, match: str
) -> None:
    (tmp_path / "refs.p").write_bytes(content)
    with pytest.raises(UserError, match=match) as raised:
        read_plain_pickle(tmp_path / "refs.p")
    str(raised.value).encode()


def test_lists_in_lists_are_built_once_and_not_walked(tmp_path: Path) -> None:
    laughs = (
        b"\x80\x02]q\x00"
        + b"".join(b"](" + b"h%c" % (k - 1) * 10 + b"eq%c" % k for k in range(1, 100))
        + b"."
    )
    (tmp_path / "refs.p").write_bytes(laughs)
    value, depth = read_plain_pickle(tmp_path / "refs.p"), 0
    while value:
        assert all(item is value[0] for item in value)
        value, depth = value[0], depth + 1
    assert depth == 99


def test_a_file_larger_than_any_refs_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "refs.p").open("wb") as file:
        file.write(b"(S'")
        file.truncate(2 << 30)
    with pytest.raises(UserError, match="2,147,483,648 bytes, more than refs can have"):
        read_plain_pickle(tmp_path / "refs.p")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No annotation file at '.*a\.p'"):
        read_plain_pickle(tmp_path / "a.p")


def numpy_refs() -> list[dict[str, Any]]:
    """Refs as they come out of pandas."""
    sentence = {
        "sent_id": np.int64(7),
        "sent": np.str_("狗 dog"),
        "raw": "Dog",
        "tokens": np.array(["狗", "dog"]),
    }
    return [
        {
            "ref_id": np.int32(-5),
            "ann_id": np.uint8(200),
            "big": np.array([1, 1 << 40], ">i8"),
            "score": np.float64(0.1),
            "half": np.float16(0.5),
            "flag": np.bool_(True),
            "sent_ids": np.array([7, 8]),
            "bbox": np.asfortranarray([[1.0, 2.5], [3.0, 4.0]]),
            "none": np.zeros(0, np.int64),
            "sentences": np.array([sentence, {**sentence, "sent_id": np.int64(8)}], dtype=object),
        }
    ]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_numbers_of_numpy_are_made_plain(tmp_path: Path, protocol: int, module: str) -> None:
    written = pickle.dumps(numpy_refs(), protocol)
    if protocol < 4:  # there, names have no length in front
        written = written.replace(b"numpy._core", module.encode())
    (tmp_path / "refs.p").write_bytes(written)
    read = read_plain_pickle(tmp_path / "refs.p")
    assert read == plain(numpy_refs())
    assert type(read[0]["ref_id"]) is int
    assert type(read[0]["sentences"][0]["sent"]) is str


def test_numbers_of_numpy_in_python_2_are_read(tmp_path: Path) -> None:
    # cPickle of [numpy.int64(0x0102A9C3)], protocol 2: bytes are a str there, here of a letter in UTF-8
    kind = b"cnumpy\ndtype\nU\x02i8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    number = b"U\x08\xc3\xa9\x02\x01\x00\x00\x00\x00\x86R"
    (tmp_path / "refs.p").write_bytes(b"\x80\x02](cnumpy.core.multiarray\nscalar\n" + kind + number + b"e.")
    assert read_plain_pickle(tmp_path / "refs.p") == [0x0102A9C3]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.datetime64("2020-01-01"), "numpy values of type 'M8'"),
        (np.complex64(1), "numpy values of type 'c8'"),
        (np.zeros(2, [("a", "i4")]), "numpy values of type 'V4'"),
        (np.dtype("i8").newbyteorder, "asks for"),
    ],
    ids=["datetime", "complex", "record", "method"],
)
def test_other_things_of_numpy_are_refused(tmp_path: Path, value: Any, match: str) -> None:
    (tmp_path / "refs.p").write_bytes(pickle.dumps([value], protocol=4))
    with pytest.raises(UserError, match=f"refused: it .*{match}"):
        read_plain_pickle(tmp_path / "refs.p")


def test_a_data_frame_comes_with_the_way_out(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"a": [1]}).to_pickle(tmp_path / "refs.p")
    with pytest.raises(UserError, match=r"save a data frame as frame.to_dict\('records'\)"):
        read_plain_pickle(tmp_path / "refs.p")


DTYPE = b"cnumpy\ndtype\n(S'%s'\nI0\nI1\ntR"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\nndarray\n(I3\ntR.",
        b"cnumpy\nndarray\n)\x81.",
        b"cnumpy\ndtype\n}S'name'\nS'O8'\nsb.",
        b"cnumpy.core.multiarray\nscalar\n}S'_make'\nI1\nsb.",
        b"cnumpy.core.multiarray\nscalar\n(N}S'_make'\nI1\nstb.",
        DTYPE % b"U5,i4" + b".",
        DTYPE % b"V8" + b".",
        b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"O8" + b"S'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"i8" + b"S'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"U999999999" + b"S'x'\ntR.",
        ARRAY + b"(I1\n(I-1\nt" + DTYPE % b"i1" + b"I00\nS'x'\ntb.",
        ARRAY + b"(I1\n(I999999999\nt" + DTYPE % b"i1" + b"I00\nS'x'\ntb.",
        ARRAY + b"(I1\n(I1\nt" + DTYPE % b"O8" + b"I00\nS'x'\ntb.",
        b"c__builtin__\nbytes\n(I999999999\ntR.",
        b"c_codecs\nencode\n(I1\nS'zip'\ntR.",
    ],
)
def test_what_stands_for_numpy_can_neither_be_changed_nor_misled(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "refs.p").write_bytes(content)
    with pytest.raises(UserError, match=r"not a readable pickle|was refused"):
        read_plain_pickle(tmp_path / "refs.p")


def test_numbers_that_are_made_again_and_again_of_the_same_bytes_are_refused(tmp_path: Path) -> None:
    data = b"X" + (1_000_000).to_bytes(4, "little") + b"x" * 1_000_000
    once = ARRAY + b"(I1\n(I1000000\nt" + DTYPE % b"i1" + b"I00\nh\x00tb"
    (tmp_path / "refs.p").write_bytes(b"\x80\x02](" + data + b"q\x00" + once * 1000 + b"e.")
    with pytest.raises(UserError, match="more numbers than fit into the file"):
        read_plain_pickle(tmp_path / "refs.p")
