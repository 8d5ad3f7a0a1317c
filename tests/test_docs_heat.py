"""What docs/heat.md promises."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from datamodules import RefShapes
from gl_ris.recipe import Recipe
from gl_ris.scorers.from_files import ScoreFile
from gl_ris.zero_shot import ZeroShotRIS
from toy_scenes import run

PAGE = (Path(__file__).parents[1] / "docs" / "heat.md").read_text(encoding="utf-8")


def test_every_value_of_the_fields_is_on_the_page() -> None:
    kinds = get_type_hints(Recipe)
    assert all(f"`{value}`" in PAGE for field in ("heat", "heat_rule") for value in get_args(kinds[field]))


def test_the_lines_of_the_page_are_read(tmp_path: Path) -> None:
    import gl_ris

    lines = re.findall(r"^    (\{.*\})$", PAGE, re.MULTILINE)
    (tmp_path / "scores.jsonl").write_text("\n".join(lines))
    found = ScoreFile(gl_ris.load_clip("refshapes-rn"), file=tmp_path / "scores.jsonl").lines
    assert [line.row(3) for line in found.values()] == [[0.2, 0.9, 0.1], [float("-inf"), 0.9, 0.4]]


@pytest.mark.usefixtures("drawn_refshapes")
def test_the_heat_map_of_the_page_takes_less_than_twenty_lines_and_takes_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(code.strip().splitlines()) < 20
    monkeypatch.chdir(tmp_path)
    exec(code.replace("limit=40", "limit=3"), {})
    (command,) = re.findall(r"^    python -m (.*heat_files.*)$", PAGE, re.MULTILINE)
    (given,) = (word for word in shlex.split(command) if word.startswith("methods="))
    data = RefShapes(limit=3, proposals="ground_truth")
    model = ZeroShotRIS(methods=yaml.safe_load(given.removeprefix("methods=")))
    records: list[Any] = [record for batch in run(model, data) for record in batch]
    assert all(record.failure is None and record.method == "Mine" for record in records)
    assert len({record.choice for record in records}) > 1
    assert np.load(next(Path("maps").glob("*.npz"))).files
