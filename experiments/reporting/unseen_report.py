"""A comparison on an unseen domain: figures on the seen set, on the unseen one and on its subsets."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.grid.cells import ZERO_SHOT_CELL
from experiments.reporting import frame
from experiments.reporting.frame import FIGURES, number
from experiments.reporting.plots import draw_bars
from gl_ris.errors import EvaluationError
from gl_ris.files import write_json

SEEN, UNSEEN = "seen", "unseen"
_PLACE = ("dataset", "split", "partition", "n_images", "n_expressions_evaluated")
Results = Mapping[str, Any]
Figures = Mapping[str, float | None]


def cell_name(model: str, where: str) -> str:
    """Return the name of the folder of a cell, e.g. ``lavt-tiny_seen``."""
    return f"{model}_{where}"


@dataclass(frozen=True)
class UnseenCells:
    """What is finished of a comparison."""

    baselines: Sequence[str]  # All supervised models that there are to be.
    results: Mapping[str, Results]  # Of the finished cells, by name.

    def of(self, model: str) -> list[Results]:
        """Return the results of a model on the seen and on the unseen set, empty if not finished."""
        return [self.results.get(cell_name(model, where), {}) for where in (SEEN, UNSEEN)]

    def on(self, where: str) -> dict[str, Results]:
        """Return the finished cells on one of the two data sets, the zero-shot one first."""
        names = [cell_name(model, where) for model in (ZERO_SHOT_CELL, *self.baselines)]
        return {name: self.results[name] for name in names if name in self.results}

    def names(self) -> dict[str, str]:
        """Return what to call each supervised model of which a cell is finished."""
        names = {}
        for baseline in self.baselines:
            if cell := next(filter(None, self.of(baseline)), None):
                names[baseline] = (cell.get("training") or {}).get("model") or next(iter(cell["methods"]))
        return frame.unique_names(names)


def write_all(folder: Path, cells: UnseenCells, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write what the finished cells amount to, and return `document`; if that is None, nothing is written."""
    made = document(cells, settings)
    if made is not None:
        frame.write_csv(folder / "unseen_domain.csv", itertools.chain(*lines_of(made).values()))
        draw_bars(folder / "figure4_left.png", bars(made), _title(made))
        write_json(folder / "results.json", made)
    return made


def document(cells: UnseenCells, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return ``results.json``: all methods on the unseen set and its subsets; None without a cell on it.

    `EvaluationError` if the cells are not of the same images and phrases.
    """
    seen, unseen = cells.on(SEEN), cells.on(UNSEEN)
    for finished in filter(None, (seen, unseen)):
        frame.check_same_test(finished)
    if not unseen:
        return None
    labels = {cell_name(baseline, UNSEEN): name for baseline, name in cells.names().items()}
    documents = list(unseen.values())
    parts: dict[str, Any] = {**_methods(unseen, labels), "subsets": _subsets(unseen, labels)}
    made = frame.merged(documents, **parts, experiment="unseen_domain", config=settings)
    more = {
        "limit": frame.limit_of(documents[0]),
        "seen": next(({key: cell[key] for key in _PLACE} for cell in seen.values()), None),
        "rows": rows_of(cells),
        "cells": 2 * len(cells.baselines) + 2,
        "finished": len(cells.results),
    }
    return {**made, "unseen_domain": more}


def rows_of(cells: UnseenCells) -> list[dict[str, Any]]:
    """Return a row per method: its figures on each set and subset, None where it is not finished."""
    zero_shot = cells.of(ZERO_SHOT_CELL)
    titles = dict.fromkeys(title for cell in zero_shot for title in cell.get("methods", ()))
    rows = [_row(title, title, None, zero_shot) for title in titles]
    return rows + [_row(name, None, baseline, cells.of(baseline)) for baseline, name in cells.names().items()]


def _row(name: str, title: str | None, baseline: str | None, cells: Sequence[Results]) -> dict[str, Any]:
    seen, unseen = cells
    return {
        "model": name,
        "baseline": baseline,
        "training": seen.get("training"),
        "seen": _figures(seen, title),
        "all": _figures(unseen, title),
        "subsets": {key: _figures(part, title) for key, part in unseen.get("subsets", {}).items()},
    }


def _figures(part: Results, title: str | None) -> Figures | None:
    """Return the figures of a method and the ends of their intervals; of the only one without a title."""
    methods = part.get("methods", {})
    title = next(iter(methods), None) if title is None else title
    if title not in methods:
        return None
    sure = part.get("intervals", {}).get(title, {})
    ends = {end: value for key in FIGURES for end, value in frame.ends_of(key, sure.get(key)).items()}
    return {key: methods[title].get(key) for key in FIGURES} | ends


def _methods(parts: Mapping[str, Results], labels: Mapping[str, str]) -> dict[str, dict[str, Figures]]:
    """Return the methods of parts, a supervised one by its label; with what else all of the parts have."""
    kinds = [key for key in ("methods", "every_miss", "intervals") if all(key in p for p in parts.values())]
    items = [(labels.get(cell), part) for cell, part in parts.items()]
    return {
        key: {label or title: figures for label, part in items for title, figures in part[key].items()}
        for key in kinds
    }


def _subsets(cells: Mapping[str, Results], labels: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    first = next(iter(cells))
    subsets = {}
    for name, subset in cells[first].get("subsets", {}).items():
        parts = {cell: one.get("subsets", {}).get(name, {}) for cell, one in cells.items()}
        for cell, part in parts.items():
            if part.get("n_expressions_expected") != subset["n_expressions_expected"]:
                raise EvaluationError(
                    f"The cells '{first}' and '{cell}' do not compare: their subsets '{name}' differ."
                )
        subsets[name] = {**subset, **_methods(parts, labels)}
    return subsets


def places(made: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of the table, with their names: the seen set, all of the unseen one, its subsets."""
    seen = made["unseen_domain"]["seen"]
    labels = {name: part["label"] for name, part in made.get("subsets", {}).items()}
    return {"seen": f"{seen['dataset']} {seen['split']}" if seen else "Seen set", "all": "All", **labels}


def lines_of(made: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return for each method a line per place, with the change from the seen set where both are there."""
    return {
        row["model"]: [_line(made, row, place, label) for place, label in places(made).items()]
        for row in made["unseen_domain"]["rows"]
    }


def _line(made: Mapping[str, Any], row: Mapping[str, Any], place: str, label: str) -> dict[str, Any]:
    on_seen, before = place == "seen", row["seen"] or {}
    data = (made["unseen_domain"]["seen"] or {}) if on_seen else made
    now = {**row["subsets"], "seen": before, "all": row["all"]}.get(place) or {}
    line = {"model": row["model"], "dataset": data.get("dataset"), "split": data.get("split")}
    line |= {"subset": "All" if on_seen else label} | dict.fromkeys(FIGURES) | now
    for name in FIGURES:
        both = not on_seen and None not in (before.get(name), now.get(name))
        line[f"{name}_change"] = now[name] - before[name] if both else None
    return line


def bars(made: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return what the figure shows: for each method, oIoU on all phrases and on the unseen ones."""
    # of several definitions of a subset, the one with the plain name is shown
    return {
        model: {line["subset"]: line["oIoU"] for line in lines if "(" not in line["subset"]}
        for model, (_, *lines) in lines_of(made).items()
    }


def report(made: Mapping[str, Any] | None) -> str:
    """Return what is printed: a table for each figure, with the changes from the seen set."""
    if made is None:
        return "Nothing has been evaluated on the unseen set yet."
    parts = [f"# {_title(made)}"]
    seen, *others = places(made).values()
    heads = ["Model", seen, *(part for label in others for part in (label, "change"))]
    for figure in FIGURES:
        rows = []
        for model, lines in lines_of(made).items():
            cells = [
                cell
                for line in lines
                for cell in (
                    number(line[figure], interval=frame.interval_in(line, figure)),
                    number(line[f"{figure}_change"], "+.2f"),
                )
            ]
            # the seen set has no change from itself
            rows.append([model, cells[0], *cells[2:]])
        parts.append(f"{figure}\n\n{frame.table(rows, heads)}")
    return "\n\n".join([*parts, frame.bullets(_notes(made, seen))])


def _title(made: Mapping[str, Any]) -> str:
    return frame.heading("Zero-shot transfer", made, made["unseen_domain"]["limit"])


def _notes(made: Mapping[str, Any], seen: str) -> Iterator[str]:
    more, key = made["unseen_domain"], "n_expressions_evaluated"
    test = f"{made['dataset']} {made['split']}"
    yield from frame.note_on_intervals(made)
    yield f"All and subsets are of {test}; changes are from {seen}, in points of percent."
    for part in made.get("subsets", {}).values():
        yield f"{part['label']}: {part[key]:,} of {made[key]:,} phrases."
        yield from frame.notes_on_skipped(part, f"{part['label']}, ")
    yield from frame.notes_on_skipped(made)
    if more["finished"] < more["cells"]:
        yield f"{more['finished']:,} of {more['cells']:,} cells are finished."
