"""A JSON file is read as one type, or refused in one sentence that names file and place."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gl_ris.errors import UserError
from gl_ris.files import decode


class Box(msgspec.Struct):
    name: str
    sides: list[int]


def test_what_fits_comes_through_and_raw_values_stay_readable(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text('[{"name": "a", "sides": [1, 2], "more": null}]')
    assert decode(path, list[Box]) == [Box("a", [1, 2])]
    (raw,) = decode(path, list[msgspec.Raw])
    path.unlink()
    assert msgspec.json.decode(raw, type=Box).sides == [1, 2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot mmap an empty file"),
        ('[{"name": "a", "sides": [1,', "truncated"),
        ('[{"name": "a", "sides": [true]}]', r"Expected `int`, got `bool` - at `\$\[0\].sides\[0\]`"),
        ('[{"name": "a", "sides": [NaN]}]', "malformed"),
        ('[{"name": "a"}]', "missing required field `sides`"),
        ("<html>", "malformed"),
    ],
)
def test_all_else_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(
        UserError, match=rf"'.*boxes.json' is no box file, or damaged \(.*{reason}.*\)\. Ask again\."
    ):
        decode(path, list[Box], "box file", "Ask again.")
    path.unlink()
    with pytest.raises(UserError, match=r"No box file at '.*boxes.json'\."):
        decode(path, list[Box], "box file")
