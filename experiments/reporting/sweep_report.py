"""A sweep as a line per cell, a document with the cells that matter, and heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.reporting.frame import FIGURES, frame_of, render, write_text
from experiments.reporting.plots import draw_heat_map, limits_of
from gl_ris.files import plain, write_json

if TYPE_CHECKING:
    from gl_ris.sweep import Cell, Sweep

Document = Mapping[str, Any]
CSV = "sweep.csv"
_MEASURED_ON = ("dataset", "split", "partition", "proposals", "n_images", "n_expressions_evaluated")


def write_sweep(folder: Path, sweep: Sweep, evaluated: Document) -> tuple[dict[str, Any], list[Path]]:
    """Write ``sweep.csv``, ``sweep.json`` and a heat map for each k; return document and heat maps."""
    document = sweep_document(sweep, evaluated)
    measured_on = {name: document[name] for name in _MEASURED_ON}
    rows = [{**measured_on, **asdict(cell), **figures} for cell, figures in figures_of(sweep).items()]
    write_text(folder / CSV, render(frame_of(rows), "csv"))
    # a folder with this file is a finished sweep: pictures cannot undo it
    write_json(folder / "sweep.json", document)
    return document, draw_heat_maps(folder, sweep, document)


def figures_of(sweep: Sweep) -> dict[Cell, dict[str, float]]:
    """Return the figures of every cell of a finished sweep."""
    assert sweep.evaluation is not None
    return dict(zip(sweep.cells, sweep.evaluation.methods.values(), strict=True))


def sweep_document(sweep: Sweep, evaluated: Document) -> dict[str, Any]:
    """Build ``sweep.json`` of the result document: its methods are the best cells and the default one.

    ``best``: by oIoU and by mIoU, the first of equals. ``default``: None if it is not on the grid.
    """
    figures = figures_of(sweep)
    named = {f"Best {name}": max(figures, key=lambda cell: figures[cell][name]) for name in FIGURES}
    if sweep.default is not None:
        named["Default"] = sweep.default
    cells = {what: {**asdict(cell), **figures[cell]} for what, cell in named.items()}
    more = {
        "methods": {f"{what}: {cell.title}": figures[cell] for what, cell in named.items()},
        "axes": {"alpha": sweep.alphas, "beta": sweep.betas, "masked_blocks": sweep.blocks},
        "best": {name: cells[f"Best {name}"] for name in FIGURES},
        "default": cells.get("Default"),
    }
    return plain({**evaluated, **more})


def draw_heat_maps(folder: Path, sweep: Sweep, document: Mapping[str, Any]) -> list[Path]:
    """Draw a heat map for each number of masked blocks, all with the same colours."""
    figures = figures_of(sweep)
    maps = {
        k: {(cell.alpha, cell.beta): row for cell, row in figures.items() if cell.masked_blocks == k}
        for k in sweep.blocks
    }
    where = f"{document['dataset']} {document['split']}, proposals: {document['proposals']}"
    title = f"{where}, {document['config']['model']['clip']}"
    limits = limits_of(list(maps.values()))
    for k, cells in maps.items():
        path, default = folder / f"sweep_k{k}.png", (sweep.alpha, sweep.beta)
        draw_heat_map(path, cells, default, f"{title}, k = {k}", limits)
    return [folder / f"sweep_k{k}.png" for k in maps]


def remarks(document: Mapping[str, Any]) -> str:
    """Say how many cells there were, and what must be borne in mind about the best one."""
    cells = math.prod(map(len, document["axes"].values()))
    lines = [f"Cells        {cells:,}; all of them in {CSV}"]
    if document["default"] is None:
        lines.append("Default      its alpha and beta are not on the grid")
    if (split := document["split"]) != "train":
        lines.append(f"Note         choosing a cell by '{split}' is tuning to it; choose by split=train")
    return "\n".join(lines)
