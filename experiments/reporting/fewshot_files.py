"""A few-shot comparison as results.json, CSV, printed table and figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.fewshot_results import FIGURES, Found, document
from experiments.reporting.frame import heading
from experiments.reporting.table_formats import grid
from gl_ris.files import atomic_file, plain, write_json

RESULTS, CSV, FIGURE = "results.json", "curve.csv", "figure4_right.png"


def write_all(folder: Path, found: Found, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write everything that the finished cells amount to into ``folder``, and return the document."""
    from experiments.reporting.fewshot_figure import draw

    made = document(found, settings)
    with atomic_file(folder / CSV) as file:
        file.write(comma_separated(curve_rows(made["few_shot"])).encode())
    draw(folder / FIGURE, made["few_shot"], heading("Few-shot comparison", made, made["few_shot"]["limit"]))
    write_json(folder / RESULTS, made)
    return made


def curve_rows(few_shot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of the CSV: a line for each zero-shot method, then for each model and k."""
    lines = []
    for method, figures in few_shot["zero_shot"].items():
        means = {f"{name}_mean": value for name, value in figures.items()}
        lines.append({"model": method, "k": 0, "n_refs": 0, "share": 0.0, **means})
    for row in few_shot["rows"]:
        place = {key: row[key] for key in ("model", "k", "refs_per_class", "n_refs", "share")}
        spread = {
            f"{name}_{what}": row[name][what] for name in FIGURES for what in ("mean", "std", "min", "max")
        }
        lines.append({**place, "seeds": len(row["seeds"]), **spread})
    return lines


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV at full precision, with a column for everything that a row has."""
    columns = max((list(row) for row in rows), key=len, default=[])
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(list(rows)))
    return text.getvalue()


def report(made: Mapping[str, Any]) -> str:
    """Return what is printed: the table, and a sentence about each crossing."""
    few_shot = made["few_shot"]
    head = ["Model", "k", "Refs", "Share %", "Seeds", "oIoU", "mIoU"]
    rows = [
        [method, "-", "-", "-", "-", *(_number(figures[name]) for name in FIGURES)]
        for method, figures in few_shot["zero_shot"].items()
    ]
    rows += [_line(row) for row in few_shot["rows"]]
    parts = [f"# {heading('Few-shot comparison', made, few_shot['limit'])}", grid(head, rows, left=1)]
    parts.append("\n".join(f"* {note}" for note in notes(made)))
    return "\n\n".join(part for part in parts if part)


def _line(row: Mapping[str, Any]) -> list[str]:
    seeds, planned = len(row["seeds"]), row["seeds_planned"]
    counted = str(seeds) if seeds == planned else f"{seeds} of {planned}"
    figures = [_spread(row[name]) for name in FIGURES]
    return [row["model"], str(row["k"]), f"{row['n_refs']:,}", f"{100 * row['share']:.2f}", counted, *figures]


def notes(made: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know beside the table."""
    few_shot = made["few_shot"]
    found = [crossing["sentence"] for crossing in few_shot["crossings"]]
    if any(row["oIoU"]["std"] is not None for row in few_shot["rows"]):
        found.append("±: sample standard deviation over seeds, each with refs and a training of its own.")
    short: dict[str, str] = {}
    for row in few_shot["rows"]:
        if row["shortfall"]:
            classes, lacking = len(row["shortfall"]), sum(row["shortfall"].values())
            short[str(row["k"])] = f"k={row['k']}: {classes:,} classes have fewer refs ({lacking:,} lacking)."
    if few_shot["finished"] < few_shot["cells"]:
        found.append(f"{few_shot['finished']:,} of {few_shot['cells']:,} cells are finished.")
    return [*found, *short.values()]


def _spread(figure: Mapping[str, Any]) -> str:
    if figure["std"] is None:
        return _number(figure["mean"])
    return f"{figure['mean']:.2f} ± {figure['std']:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
