"""The forms of a frame, against texts written by hand."""

from __future__ import annotations

import csv
import io

from pandas import DataFrame

from experiments.reporting.frame import frame_of, render

CELLS = DataFrame([["a_b", "1.00", "2"], ["c|d", "-", "+3"]], columns=["Name", "oIoU", "change"])


def test_markdown_is_aligned_and_escaped() -> None:
    assert (
        render(CELLS, "markdown")
        == r"""| Name   |   oIoU |   change |
|:-------|-------:|---------:|
| a_b    |   1.00 |        2 |
| c\|d   |      - |       +3 |"""
    )


def test_latex_is_escaped_and_sets_rows_apart() -> None:
    assert render(CELLS, "latex", italics=[1]).splitlines() == [
        r"Name & oIoU & change \\",
        r"a\_b & 1.00 & 2 \\",
        r"\emph{c|d} & \emph{-} & \emph{+3} \\",
    ]


def test_csv_keeps_whole_numbers_and_every_digit_and_leaves_gaps_empty() -> None:
    text = render(frame_of([{"a": 1, "b": float("nan")}, {"b": 0.1 + 0.2, "c": 'x, "y"', "d": True}]), "csv")
    assert list(csv.reader(io.StringIO(text))) == [
        ["a", "b", "c", "d"],
        ["1", "", "", ""],
        ["", "0.30000000000000004", 'x, "y"', "True"],
    ]
