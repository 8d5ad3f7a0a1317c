"""Writes down a sweep: a line per cell, and a document with the cells that matter."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from experiments.reporting.heat_map import draw_heat_map, limits_of
from experiments.run.recorder import describe
from gl_ris.files import atomic_file, plain, write_json

if TYPE_CHECKING:
    from gl_ris.sweep import Cell, Sweep

CSV, JSON = "sweep.csv", "sweep.json"
_MEASURED_ON = ("dataset", "split", "partition", "proposals", "n_images", "n_expressions_evaluated")


class SweepRecorder(Callback):
    """Writes ``sweep.csv`` and, last, ``sweep.json`` in rank 0: a folder with that file is a finished sweep.

    Args:
        path: The run folder in rank 0, None elsewhere.
        experiment: Name of the experiment.
        settings: The resolved configuration.
    """

    def __init__(self, path: Path | None, experiment: str, settings: dict[str, Any]) -> None:
        self.path, self.experiment, self.settings = path, experiment, settings

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both."""
        if self.path is None:
            return
        module: Any = pl_module
        data: Any = getattr(trainer, "datamodule", None)
        document = sweep_document(module, describe(module, data, self.experiment, self.settings).document())
        write_cells(self.path / CSV, module, document)
        write_json(self.path / JSON, document)


def figures_of(sweep: Sweep) -> dict[Cell, dict[str, float]]:
    """Return the figures of every cell of a finished sweep."""
    assert sweep.evaluation is not None
    return dict(zip(sweep.cells, sweep.evaluation.methods.values(), strict=True))


def sweep_document(sweep: Sweep, document: Mapping[str, Any]) -> dict[str, Any]:
    """Build the content of ``sweep.json``.

    Args:
        sweep: After its run.
        document: The result document, in which every cell is a method.

    Returns:
        The document with the best cells and the default one as its methods, and with ``axes``, ``best`` (by
        oIoU and by mIoU; the first of equals) and ``default`` (None if it is not on the grid).
    """
    figures = figures_of(sweep)
    best = {name: max(figures, key=lambda cell: figures[cell][name]) for name in ("oIoU", "mIoU")}
    named = {f"Best {name}": cell for name, cell in best.items()}
    if sweep.default is not None:
        named["Default"] = sweep.default
    cells = {what: {**asdict(cell), **figures[cell]} for what, cell in named.items()}
    return plain(
        {
            **document,
            "methods": {f"{what}: {cell.title}": figures[cell] for what, cell in named.items()},
            "axes": {"alpha": sweep.alphas, "beta": sweep.betas, "masked_blocks": sweep.blocks},
            "best": {name: cells[f"Best {name}"] for name in best},
            "default": cells.get("Default"),
        }
    )


def write_cells(path: Path, sweep: Sweep, document: Mapping[str, Any]) -> None:
    """Write a line per cell, atomically: what it was measured on, its place, and its figures in percent."""
    text = io.StringIO()
    rows = [
        {**{name: document[name] for name in _MEASURED_ON}, **asdict(cell), **figures}
        for cell, figures in figures_of(sweep).items()
    ]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(rows))
    with atomic_file(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def draw_heat_maps(folder: Path, sweep: Sweep, document: Mapping[str, Any]) -> list[Path]:
    """Draw a heat map for each number of masked blocks into ``folder``, all with the same colours."""
    figures = figures_of(sweep)
    maps = {
        k: {(cell.alpha, cell.beta): row for cell, row in figures.items() if cell.masked_blocks == k}
        for k in sweep.blocks
    }
    limits = limits_of(list(maps.values()))
    where = f"{document['dataset']} {document['split']}, proposals: {document['proposals']}"
    paths = [folder / f"sweep_k{k}.png" for k in maps]
    for path, (k, cells) in zip(paths, maps.items(), strict=True):
        clip = document["config"]["model"]["clip"]
        draw_heat_map(path, cells, (sweep.alpha, sweep.beta), f"{where}, {clip}, k = {k}", limits)
    return paths
