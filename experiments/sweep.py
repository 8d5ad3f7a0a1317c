"""A grid of alpha, beta and masked blocks in one pass: ``python -m experiments.sweep``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments.cli.command import Command, run

if TYPE_CHECKING:
    from gl_ris.sweep import Cell, Sweep

COMMAND = Command.documented("sweep")


CSV = "sweep.csv"
_MEASURED_ON = ("dataset", "split", "partition", "proposals", "n_images", "n_expressions_evaluated")


def write_sweep(
    folder: Path, sweep: Sweep, evaluated: Mapping[str, Any], image_ids: Sequence[int | str] | None = None
) -> dict[str, Any]:
    """Write ``sweep.csv``, ``sweep.json`` and a heat map for each k, and return the document.

    With intervals of its methods where the ids of the images are given, and the run is not ended.
    """
    from experiments.reporting.frame import write_csv
    from experiments.reporting.plots import draw_heat_maps
    from experiments.run.intervals import Counted, how_resampled
    from gl_ris.files import write_json

    assert sweep.evaluation is not None
    figures = dict(zip(sweep.cells, sweep.evaluation.methods.values(), strict=True))
    document = sweep_document(sweep, figures, evaluated)
    if image_ids is not None:
        cells = {name: name.partition(": ")[2] for name in document["methods"]}
        counted = Counted(folder, sweep, image_ids, cells)
        document |= how_resampled() | counted.part(skipped=document["n_expressions_skipped"] > 0)
    measured_on = {name: document[name] for name in _MEASURED_ON}
    # beside the figures only where it differs
    every_miss = sweep.evaluation.every_miss if sweep.evaluation.n_skipped else {}
    more = {cell: every_miss.get(cell.title, {}).items() for cell in figures}
    rows = [
        {**measured_on, **asdict(cell), **row, **{f"every_miss_{name}": value for name, value in more[cell]}}
        for cell, row in figures.items()
    ]
    write_csv(folder / CSV, rows)
    # a folder with this file is a finished sweep: pictures cannot undo it
    write_json(folder / "sweep.json", document)
    where = f"{document['dataset']} {document['split']}, proposals: {document['proposals']}"
    title = f"{where}, {document['config']['model']['clip']}"
    points = {(cell.masked_blocks, cell.alpha, cell.beta): row for cell, row in figures.items()}
    draw_heat_maps(folder, points, (sweep.alpha, sweep.beta), title)
    return document


def sweep_document(sweep: Sweep, figures: Mapping[Cell, Any], evaluated: Mapping[str, Any]) -> dict[str, Any]:
    """Build ``sweep.json`` of the result document: its methods are the best cells and the default one.

    ``best``: by oIoU and by mIoU, the first of equals. ``default``: None if it is not on the grid.
    """
    from experiments.reporting.frame import FIGURES
    from gl_ris.files import plain

    named = {f"Best {name}": max(figures, key=lambda cell: figures[cell][name]) for name in FIGURES}
    if sweep.default is not None:
        named["Default"] = sweep.default
    cells = {what: {**asdict(cell), **figures[cell]} for what, cell in named.items()}
    every_miss = evaluated["every_miss"]
    more = {
        "methods": {f"{what}: {cell.title}": figures[cell] for what, cell in named.items()},
        "every_miss": {f"{what}: {cell.title}": every_miss[cell.title] for what, cell in named.items()},
        "ties": {f"{what}: {cell.title}": evaluated["ties"][cell.title] for what, cell in named.items()},
        "axes": {"alpha": sweep.alphas, "beta": sweep.betas, "masked_blocks": sweep.blocks},
        "best": {name: cells[f"Best {name}"] for name in FIGURES},
        "default": cells.get("Default"),
    }
    return plain({**evaluated, **more})


def remarks(document: Mapping[str, Any]) -> str:
    """Say how many cells there were, and what must be borne in mind about the best one."""
    cells = math.prod(map(len, document["axes"].values()))
    lines = [f"Cells        {cells:,}; all of them in {CSV}"]
    if document["default"] is None:
        lines.append("Default      its alpha and beta are not on the grid")
    if (split := document["split"]) != "train":
        lines.append(f"Note         choosing a cell by '{split}' is tuning to it; choose by split=train")
    return "\n".join(lines)


def main() -> None:
    """Sweep, and leave table, document and heat maps in the run folder."""
    import msgspec

    from experiments.cli.parts import parts_of
    from experiments.run.evaluate import carry_out, describe
    from experiments.run.resuming import Keeper
    from gl_ris.results import Results, format_table
    from gl_ris.sweep import Sweep

    cli = parts_of(COMMAND, Sweep)

    def report(folder: Path) -> dict[str, float]:
        model = cast("Any", cli.model)
        evaluated = describe(model, cli.datamodule, cli.command.name, cli.settings()).document()
        ids = cast("Any", cli.datamodule).image_ids() if cli.config.intervals else None
        document = write_sweep(folder, model, evaluated, ids)
        print(f"\n{format_table(msgspec.convert(document, Results))}\n{remarks(document)}\n")
        best = document["best"]["oIoU"]
        return {name: best[name] for name in ("alpha", "beta", "masked_blocks")}

    carry_out(cli, Keeper(), report)


if __name__ == "__main__":
    run(COMMAND, main)
