"""Result documents that were damaged after their run, alone and in the folder of a table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.reporting.finished_results import read_results
from gl_ris.errors import UserError
from gl_ris.results import STAGES, result_document, write_json


def document(**changes: Any) -> dict[str, Any]:
    made = result_document(
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
    )
    return {**made, **changes}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in document().items() if key != name}


def test_what_a_run_wrote_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", document())
    assert read_results(tmp_path / "results.json") == document()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        (json.dumps(document())[:300], r"line 1 column \d+"),
        (b"\xff\xfe", "utf-8"),
        ("[" * 100_000, "recursion"),
        ("[]", "they are no object"),
        (document(schema=2), "their schema is 2, not 1"),
        (without("schema"), "their schema is None, not 1"),
        *(
            (without(name), f"their '{name}' is missing")
            for name in ("methods", "config", "created", "dataset")
        ),
        (document(config=[]), "their 'config' is missing or damaged"),
        (document(n_images="3"), "their 'n_images' is missing or damaged"),
        (document(failures={"x": None}), "their 'failures' are damaged"),
        (document(seconds={}), "their 'seconds' have no total"),
        (document(upper_bound={}), "the figures of the upper bound are damaged"),
        (document(methods={"A": {"oIoU": "x", "mIoU": 1}}), "the figures of A are damaged"),
        (document(methods={"A": {"oIoU": 1}}), "the figures of A are damaged"),
        (document(methods={"A": {"oIoU": 101, "mIoU": 1}}), "the figures of A are damaged"),
        (document(methods={"A": None}), "the figures of A are damaged"),
    ],
)
def test_damage_is_told_with_the_fix(content: Any, why: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    text = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = (
        rf"The results in '{re.escape(str(path))}' cannot be read \(.*{why}.*\); delete them to run it again"
    )
    with pytest.raises(UserError, match=message) as caught:
        read_results(path)
    assert "\n" not in str(caught.value)
