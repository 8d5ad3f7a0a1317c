from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.json_stream import stream_lists
from gl_ris.errors import UserError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    value=st.fixed_dictionaries(
        {"a": st.lists(VALUES, max_size=4), "b": st.lists(VALUES, max_size=4), "other": VALUES}
    ),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_it_agrees_with_json(
    tmp_path_factory: pytest.TempPathFactory, value: Any, indent: Any, ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("stream") / "a.json"
    path.write_bytes(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace"))
    again = json.loads(path.read_bytes())
    wanted = [(name, item) for name in again if name != "other" for item in again[name]]
    assert list(stream_lists(path, ("b", "a"))) == wanted


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"a": [1], "a": [2]}', "'a' is there twice"),
        ('{"a": {"b": 1}}', "'a' should be list, not dict"),
        ('{"a": null}', "'a' should be list, not NoneType"),
        ('{"b": [1]}', "has no 'a'"),
        ("{}", "has no 'a'"),
        ('{"a": [1,]}', "damaged JSON"),
        ('{"a": [1 2]}', "damaged JSON"),
        ('{"a": [1],}', "damaged JSON"),
        ('{"a" [1]}', "damaged JSON"),
        ("{a: [1]}", "damaged JSON"),
        ('{"a": [1]} {}', "damaged JSON"),
        ('{"a": [1}', "damaged JSON"),
        ('{"a": [' + "[" * 100_000 + "]" * 100_000 + "]}", "damaged JSON"),
        ('{"a": [' + "1" * 5000 + "]}", "damaged JSON"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=match) as raised:
        list(stream_lists(tmp_path / "a.json", ["a"]))
    assert "\n" not in str(raised.value)
