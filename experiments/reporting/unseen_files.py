"""A comparison on an unseen domain as results.json, CSV, printed table and figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.reporting.fewshot_files import comma_separated
from experiments.reporting.fewshot_results import FIGURES
from experiments.reporting.frame import heading
from experiments.reporting.table_formats import grid
from experiments.reporting.unseen_results import Found, document
from gl_ris.files import atomic_file, write_json

RESULTS, CSV, FIGURE = "results.json", "unseen_domain.csv", "figure4_left.png"


def write_all(folder: Path, found: Found, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write everything that the finished cells amount to into ``folder``.

    Returns:
        The document; None, and nothing is written, before a cell on the unseen set is finished.
    """
    from experiments.reporting.unseen_figure import draw

    made = document(found, settings)
    if made is None:
        return None
    with atomic_file(folder / CSV) as file:
        file.write(comma_separated(csv_rows(made)).encode())
    draw(folder / FIGURE, bars(made), heading("Zero-shot transfer", made, made["unseen_domain"]["limit"]))
    write_json(folder / RESULTS, made)
    return made


def places(made: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of the table, with their names: the seen set, all of the unseen one, its subsets."""
    seen = made["unseen_domain"]["seen"]
    labels = {name: part["label"] for name, part in made.get("subsets", {}).items()}
    return {
        "seen": "Seen set" if seen is None else f"{seen['dataset']} {seen['split']}",
        "all": "All",
    } | labels


def figures_at(row: Mapping[str, Any], place: str) -> Mapping[str, float | None]:
    """Return the figures of a row in a column; none if they are not there yet."""
    return (row[place] if place in ("seen", "all") else row["subsets"].get(place)) or {}


def csv_rows(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a line for each method and place, with the change from the seen set."""
    lines = []
    seen = made["unseen_domain"]["seen"] or {}
    for row in made["unseen_domain"]["rows"]:
        for place, label in places(made).items():
            data = seen if place == "seen" else made
            figures = figures_at(row, place)
            lines.append(
                {"model": row["model"], "dataset": data.get("dataset"), "split": data.get("split")}
                | {"subset": "All" if place == "seen" else label}
                | {name: figures.get(name) for name in FIGURES}
                | {f"{name}_change": change(row, place, name) for name in FIGURES}
            )
    return lines


def change(row: Mapping[str, Any], place: str, figure: str) -> float | None:
    """Return what a figure is more (or less) than on the seen set; None on that, and where one is lacking."""
    before, now = figures_at(row, "seen").get(figure), figures_at(row, place).get(figure)
    return None if place == "seen" or before is None or now is None else now - before


def bars(made: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return what the figure shows: for each method, oIoU on all phrases and on the unseen ones.

    Of several definitions of a subset, the one with the plain name is shown.
    """
    shown = {place: label for place, label in places(made).items() if place != "seen" and "(" not in label}
    return {
        row["model"]: {label: figures_at(row, place).get("oIoU") for place, label in shown.items()}
        for row in made["unseen_domain"]["rows"]
    }


def report(made: Mapping[str, Any] | None) -> str:
    """Return what is printed: a table for each figure, with the changes from the seen set."""
    if made is None:
        return "Nothing has been evaluated on the unseen set yet."
    parts = [f"# {heading('Zero-shot transfer', made, made['unseen_domain']['limit'])}"]
    columns = places(made)
    head = ["Model", *(part for place, label in columns.items() for part in _heads(place, label))]
    for figure in FIGURES:
        rows = [[row["model"], *_cells(row, columns, figure)] for row in made["unseen_domain"]["rows"]]
        parts.append(f"{figure}\n\n{grid(head, rows, left=1)}")
    parts.append("\n".join(f"* {note}" for note in _notes(made)))
    return "\n\n".join(parts)


def _heads(place: str, label: str) -> list[str]:
    return [label] if place == "seen" else [label, "change"]


def _cells(row: Mapping[str, Any], columns: Mapping[str, str], figure: str) -> list[str]:
    cells = []
    for place in columns:
        value, changed = figures_at(row, place).get(figure), change(row, place, figure)
        cells.append("-" if value is None else f"{value:.2f}")
        if place != "seen":
            cells.append("-" if changed is None else f"{changed:+.2f}")
    return cells


def _notes(made: Mapping[str, Any]) -> list[str]:
    seen, more = places(made)["seen"], made["unseen_domain"]
    test = f"{made['dataset']} {made['split']}"
    found = [f"All and subsets are of {test}; changes are from {seen}, in points of percent."]
    every = f"{made['n_expressions_evaluated']:,}"
    for part in made.get("subsets", {}).values():
        found.append(f"{part['label']}: {part['n_expressions_evaluated']:,} of {every} phrases.")
    if more["finished"] < more["cells"]:
        found.append(f"{more['finished']:,} of {more['cells']:,} cells are finished.")
    return found
