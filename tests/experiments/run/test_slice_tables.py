"""The slices of a run as CSV and Markdown."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from experiments.run.slice_tables import write_slices
from finished_cells import zero_shot_results
from gl_ris.results import Results


def write(folder: Path, sure: bool) -> tuple[str, list[dict[str, str]]]:
    figures: dict[str, Any] = {"oIoU": 50.0, "mIoU": 60.25, "Pr@0.5": 70.0}
    ends = {name: [value - 1, value + 4] for name, value in figures.items()}
    more: dict[str, Any] = {"intervals": ends} if sure else {}
    kinds = {
        "people": {
            "people": {"n": 1200, "n_images": 90, **figures, **more},
            "other": {"n": 29, "n_images": 9, **figures, **more, "small": True},
        }
    }
    document = zero_shot_results()
    method = next(iter(document["methods"]))
    document |= {"slices": {method: kinds}, "slices_left_out": {"head": "no method has parsed"}}
    if sure:
        document |= {"intervals": {method: ends}, "resampling": {"draws": 5000, "seed": 0}}
    Results.new(**document).write(folder / "results.json")
    write_slices(folder, Results.read(folder / "results.json"))
    with (folder / "slices.csv").open(newline="") as file:
        return (folder / "slices.md").read_text(), list(csv.DictReader(file))


@pytest.mark.parametrize("sure", [True, False])
def test_slices_are_written_and_small_ones_marked(sure: bool, tmp_path: Path) -> None:
    text, rows = write(tmp_path, sure)
    lines = [[cell.strip() for cell in line.split("|")][1:-1] for line in text.splitlines() if "|" in line]
    half = " ±2.5" if sure else ""
    cells = [f"50.00{half}", f"60.25{half}", f"70.00{half}"]
    assert lines[2] == ["people", "people", "1,200", "90", *cells]
    assert lines[3] == [f"*{cell}*" for cell in ("people", "other", "29", "9", *cells)]
    assert ("over 5,000 resamples" in text) is sure
    assert "* Not there: head: no method has parsed.\n" in text
    assert [row["small"] for row in rows] == ["0", "1"]
    assert (rows[0]["slice"], rows[0]["n_expressions"], rows[0]["mIoU"]) == ("people", "1200", "60.25")
    assert rows[0].get("mIoU_high") == ("64.25" if sure else None)
