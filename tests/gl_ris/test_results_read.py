"""Result documents that were damaged after their run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gl_ris.errors import UserError
from gl_ris.files import write_json
from gl_ris.results import STAGES, Results, format_table


def document(**changes: Any) -> dict[str, Any]:
    made = Results.new(
        experiment="zero_shot",
        dataset="toy",
        split="val",
        partition=None,
        proposals="ground_truth",
        n_images=3,
        n_expressions_expected=27,
        n_expressions_evaluated=26,
        methods={"Random": {"oIoU": 12.5, "mIoU": float("nan"), "Pr@0.5": 100.0}},
        upper_bound={"oIoU": 100.0, "mIoU": 0.0},
        seconds=dict.fromkeys(STAGES, 1.5),
        config={"model": {}},
        failures={"no proposals": 1},
    ).document()
    return {**made, **changes}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in document().items() if key != name}


def test_what_a_run_wrote_is_read(tmp_path: Path) -> None:
    ends = {"oIoU": [10.0, 20.0], "mIoU": [0.0, 100.0]}
    sure = {
        "intervals": {name: ends for name in document()["methods"]},
        "resampling": {"draws": 5, "seed": 0},
    }
    for written in (document(), {**document(), **sure}):
        write_json(tmp_path / "results.json", written)
        assert Results.read(tmp_path / "results.json").document() == written


def test_a_document_of_schema_1_is_read(tmp_path: Path) -> None:
    new = {"n_expressions_skipped", "ties"}
    before = {key: value for key, value in document(schema=1).items() if key not in new}
    write_json(tmp_path / "results.json", before)
    found = Results.read(tmp_path / "results.json")
    assert found.document() == {**before, "n_expressions_skipped": 0, "ties": {}}
    assert "every miss" not in format_table(found)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "empty"),
        (json.dumps(document())[:300], "truncated"),
        (b"\xff\xfe", "malformed"),
        ("[" * 100_000, "got `array`"),
        ("[]", "Expected `object`"),
        (document(schema=3), r"value 3 - at `\$.schema`"),
        (without("schema"), "field `schema`"),
        *((without(name), f"field `{name}`") for name in ("methods", "config", "created", "dataset")),
        (document(config=[]), r"got `array` - at `\$.config`"),
        (document(n_images="3"), r"got `str` - at `\$.n_images`"),
        (document(failures={"x": None}), r"got `null` - at `\$.failures\[...\]`"),
        (document(seconds={}), "seconds must have exactly"),
        (document(upper_bound={}), "field `oIoU`"),
        (document(methods={"A": {"oIoU": "x", "mIoU": 1}}), r"got `str` - at `\$.methods\[...\]\[...\]`"),
        (document(methods={"A": {"oIoU": 1}}), "the figures of 'A' lack oIoU or mIoU"),
        (document(methods={"A": {"oIoU": 101, "mIoU": 1}}), "`float` <= 100"),
        (document(methods={"A": None}), "got `null`"),
    ],
)
def test_damage_is_told_with_the_fix(content: Any, why: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    text = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = rf"'{re.escape(str(path))}' is no result document, or damaged \(.*{why}.*\). Delete it"
    with pytest.raises(UserError, match=message) as caught:
        Results.read(path)
    assert "\n" not in str(caught.value)
