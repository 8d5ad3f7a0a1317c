"""Tables, pictures with masks, and the files of a run, as wandb has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FIGURES = ("sweep_k*.png", "curve.png", "figure*.png")
# what is kept beside the document, where a run has it
FILES = (
    *("results.json", "sweep.json", "report.json", "proposals.json", "config.yaml", "predictions.jsonl"),
    *("table.csv", "slices.csv", "sweep.csv", "report.csv"),
)

Document = Mapping[str, Any]
Table = tuple[list[str], list[list[Any]]]


def tables_of(document: Document) -> dict[str, Table]:
    """Return columns and rows of kinds of miss and of slices, by the name of the table; those that are there.

    Example:
        >>> tables_of({"errors": {"Random": {"part": {"count": 3, "share": 50.0}}}})
        {'errors': (['method', 'kind', 'count', 'share'], [['Random', 'part', 3, 50.0]])}
    """
    found = {"errors": list(_misses(document)), "slices": list(_slices(document))}
    return {name: _table(rows) for name, rows in found.items() if rows}


def _misses(document: Document) -> Iterator[dict[str, Any]]:
    for method, kinds in document.get("errors", {}).items():
        for kind, figures in kinds.items():
            yield {"method": method, "kind": kind, **figures}


def _slices(document: Document) -> Iterator[dict[str, Any]]:
    for method, kinds in document.get("slices", {}).items():
        for kind, values in kinds.items():
            for value, figures in values.items():
                plain = {name: number for name, number in figures.items() if name != "intervals"}
                yield {"method": method, "slice": kind, "value": value} | with_ends(plain, figures)


def with_ends(figures: Mapping[str, Any], of: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures with both ends of their intervals behind them, by ``intervals`` of what they are of."""
    ends = of.get("intervals", {}).items()
    return {**figures, **{f"{name} {end}": pair[i] for name, pair in ends for i, end in enumerate(_ENDS)}}


_ENDS = ("low", "high")


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return columns, [[row.get(name) for name in columns] for row in rows]


def pictures(folder: Path) -> dict[str, Any]:
    """Return charts and the sheet of overlays by their names, and samples with their masks as one list."""
    import wandb

    from gl_ris.visualize import MASKS

    charts = [file for pattern in FIGURES for file in sorted(folder.glob(pattern))]
    sheet = folder / "overlays" / "contact_sheet.png"
    samples = [_sample(file) for file in sorted((folder / "overlays" / MASKS).glob("*.png"))]
    singles = [*charts, *([sheet] if sheet.is_file() else [])]
    return {file.stem: wandb.Image(str(file)) for file in singles} | ({"samples": samples} if samples else {})


def _sample(file: Path) -> Any:
    """Return an image whose prediction and target are masks that wandb switches on and off."""
    import numpy as np
    import wandb
    from PIL import Image

    from gl_ris.visualize import BITS, CAPTION

    with Image.open(file) as labels:
        bits, caption = np.asarray(labels), getattr(labels, "text", {}).get(CAPTION)
    masks = {
        name: {"mask_data": (bits & bit) // bit, "class_labels": {0: "rest", 1: name}}
        for name, bit in BITS.items()
    }
    return wandb.Image(str(file.with_suffix(".jpg")), caption=caption, masks=masks)


def artifact(folder: Path, name: str) -> Any:
    """Return the documents of a run as an artifact, whose files stay where they are until they are sent."""
    import wandb

    made = wandb.Artifact(re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:100], type="results")
    for file in FILES:
        if (folder / file).is_file():
            made.add_file(str(folder / file), policy="immutable")
    return made
