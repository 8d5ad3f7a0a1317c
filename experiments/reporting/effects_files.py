"""The table of recipe effects as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.reporting.effects_table import Row
from gl_ris.files import atomic_file, plain, write_json

NAME = "recipe_effects"
_HEAD = ("Point", "Field", "Value", "oIoU", "change", "mIoU", "change", "other choices %", "misses", "Note")


def write_effects(folder: Path, rows: Sequence[Row], document: Mapping[str, Any]) -> str:
    """Write ``recipe_effects.md``, ``.csv`` and ``.json`` into ``folder``.

    Args:
        folder: The run folder.
        rows: The lines; the first is what the others are compared with.
        document: The result document of the run; the JSON has it without its figures.

    Returns:
        The Markdown table.
    """
    table = markdown(rows)
    heading = f"{document['dataset']} {document['split']}, proposals: {document['proposals']}"
    with atomic_file(folder / f"{NAME}.md") as file:
        file.write(f"{heading}\n\n{table}\n".encode())
    _write_csv(folder / f"{NAME}.csv", rows)
    about = {name: value for name, value in document.items() if name not in ("methods", "upper_bound")}
    write_json(folder / f"{NAME}.json", {**about, "rows": [asdict(row) for row in rows]})
    return table


def markdown(rows: Sequence[Row]) -> str:
    """Lay out the lines as a Markdown table that is also aligned as plain text."""
    cells = [list(_HEAD), *(_cells(row, rows[0]) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    ends = [":" if 3 <= place <= 8 else "-" for place in range(len(_HEAD))]
    rule = "|".join("-" * (width + 1) + end for width, end in zip(widths, ends, strict=True))
    lines = [_line(line, widths, ends) for line in cells]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int], ends: Sequence[str]) -> str:
    placed = [
        cell.rjust(width) if end == ":" else cell.ljust(width)
        for cell, width, end in zip(cells, widths, ends, strict=True)
    ]
    return f"| {' | '.join(placed)} |"


def _cells(row: Row, base: Row) -> list[str]:
    figures = []
    for name in ("oIoU", "mIoU"):
        value, against = row.figures.get(name), base.figures[name]
        change = value is not None and row is not base
        figures += [_number(value), f"{value - against:+.2f}" if value is not None and change else "-"]
    misses = "-" if row.missed is None else f"{row.missed:,} of {row.expressions:,}"
    values = ["-" if row.point is None else str(row.point), row.name, _value(row.value) or "-"]
    return [*values, *figures, _number(row.changed), misses, row.note]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _value(value: Any) -> str:
    """Write a value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    fixed = ("point", "name", "value", "changed", "expressions", "missed", "note")
    writer = csv.DictWriter(text, [*fixed, *rows[0].figures], restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        content = asdict(row)
        writer.writerow(
            plain({**{name: content[name] for name in fixed}, "value": _value(row.value), **row.figures})
        )
    with atomic_file(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))
