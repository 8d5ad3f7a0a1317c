"""The report on proposals as Markdown, CSV, JSON and a picture of the curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from experiments.reporting.frame import frame_of, render
from experiments.run.measuring import Measured
from gl_ris.files import atomic_file, plain, write_json
from gl_ris.proposals.base import League
from gl_ris.proposals.quality import COCO_BOUNDS, SIZES, THRESHOLDS, size_bounds
from gl_ris.results import git_commit, versions

_TEXT = ("league", "generator")
_WHOLE = ("images", "none", "failed", "missing")


def write_report(folder: Path, module: Any, data: Any, settings: Mapping[str, Any]) -> str:
    """Write everything into ``folder``, and return the Markdown.

    Args:
        folder: The run folder.
        module: A `experiments.run.measuring.ProposalReport` after its run.
        data: The data module.
        settings: The resolved configuration.
    """
    most = max(module.rows, key=lambda row: len(row.quality.objects))
    bounds = size_bounds([found.area for found in most.quality.objects])
    rows = in_order(module.rows)
    lines = [line_of(row, bounds) for row in rows]
    document = {
        "schema": 1,
        "experiment": "proposal_report",
        **{"dataset": data.dataset_name, "split": data.split, "partition": data.partition},
        "n_images": data.n_images,
        "n_unusable": module.unusable,
        "n_objects": len(most.quality.objects),
        "post": str(module.post) or None,
        "size_bounds": bounds,
        "rows": [{**line, "store": row.store} for line, row in zip(lines, rows, strict=True)],
        "curves": {row.name: {str(t): row.quality.curve(t) for t in THRESHOLDS} for row in rows},
        "config": settings,
        "versions": versions(),
        "git_commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = markdown(document)
    _write(folder / "report.md", text)
    _write(folder / "report.csv", comma_separated(document["rows"]))
    _write(folder / "curve.csv", comma_separated(list(curve_rows(rows))))
    draw_curves(folder / "curve.png", rows, heading(document))
    write_json(folder / "report.json", document)
    return text


def in_order(rows: Sequence[Measured]) -> list[Measured]:
    """Order by league, and within a league by upper bound, the best first."""
    leagues = list(get_args(League))
    return sorted(rows, key=lambda row: (leagues.index(row.league), -row.quality.upper_bound()["oIoU"]))


def line_of(row: Measured, bounds: tuple[float, float]) -> dict[str, Any]:
    """Return the figures of one generator, those in percent at full precision."""
    quality = row.quality
    classes = zip(SIZES, ((0.0, bounds[0]), bounds, (bounds[1], float("inf"))), strict=True)
    return {
        "league": row.league,
        "generator": row.name,
        "images": len(quality.counts),
        "per image": sum(quality.counts) / max(1, len(quality.counts)),
        "none": sum(count == 0 for count in quality.counts),
        "failed": quality.failed,
        "missing": quality.missing,
        **quality.upper_bound(),
        **{f"R@{threshold}": quality.recall(threshold) for threshold in THRESHOLDS},
        **{f"{name} R@{THRESHOLDS[0]}": quality.recall(THRESHOLDS[0], area) for name, area in classes},
        "s/image": row.seconds,
    }


def heading(document: Mapping[str, Any]) -> str:
    """Say what was measured."""
    partition = f" ({document['partition']})" if document["partition"] else ""
    post = f", after {document['post']}" if document["post"] else ""
    return f"Proposals for {document['dataset']} {document['split']}{partition}{post}"


def markdown(document: Mapping[str, Any]) -> str:
    """Return the table with the notes that it needs; percent with two decimals."""
    rows = document["rows"]
    shown = [name for name in rows[0] if name != "store"]
    shown = [name for name in shown if name not in ("failed", "missing") or any(row[name] for row in rows)]
    cells = [[_cell(name, row[name]) for name in shown] for row in rows]
    small, large = document["size_bounds"]
    notes = [
        f"{document['n_images']:,} images, {document['n_objects']:,} objects. oIoU and mIoU: the upper "
        "bound, the best proposal for every expression. R@t: share of the objects of which some proposal "
        "has an IoU of t or more.",
        "Small, medium and large part at "
        + (
            "COCO's 32 x 32 and 96 x 96 pixels."
            if tuple(document["size_bounds"]) == COCO_BOUNDS
            else f"{small:,.0f} and {large:,.0f} pixels, thirds of these objects: COCO's bounds would leave "
            "a class all but empty."
        ),
        "s/image is what making them took, wherever that was.",
    ]
    if "missing" in shown:
        notes.append(
            "Images that are missing in a store count for nothing in its line: lines do not compare."
        )
    if document["n_unusable"]:
        notes.append(f"{document['n_unusable']:,} images could not be read and count for nothing.")
    text = "\n".join(f"* {note}" for note in notes)
    return f"# {heading(document)}\n\n{render(frame_of(cells, shown), 'markdown', text=(0, 1))}\n\n{text}\n"


def _cell(name: str, value: Any) -> str:
    if name in _TEXT:
        return str(value)
    if value is None or value != value:
        return "-"
    return f"{value:,}" if name in _WHOLE else f"{value:.3f}" if name == "s/image" else f"{value:.2f}"


def curve_rows(rows: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """Yield recall in percent for each number of proposals kept, generator by generator."""
    for row in rows:
        curves = [row.quality.curve(threshold) for threshold in THRESHOLDS]
        for kept, values in enumerate(zip(*curves, strict=True), start=1):
            figures = {f"R@{threshold}": value for threshold, value in zip(THRESHOLDS, values, strict=True)}
            yield {
                "league": row.league,
                "generator": row.name,
                "store": row.store,
                "proposals": kept,
                **figures,
            }


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of one shape as CSV, at full precision; empty where there is no figure."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(list(rows)))
    return text.getvalue()


def draw_curves(path: Path, rows: Sequence[Measured], title: str) -> None:
    """Draw recall against the number of proposals kept, a panel per IoU and a line per generator."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11, 5), dpi=120, layout="constrained")
    picture.suptitle(title)
    panels: Any = picture.subplots(1, len(THRESHOLDS), sharey=True)
    for panel, threshold in zip(panels, THRESHOLDS, strict=True):
        for row in rows:
            values = row.quality.curve(threshold)
            label = f"{row.name} ({row.league})" if row.store else row.name
            panel.plot(range(1, len(values) + 1), values, label=label, linestyle="-" if row.store else "--")
        panel.set_title(f"IoU {threshold} or more")
        panel.set_xscale("log")
        panel.set_xlabel("proposals kept per image, best-scored first")
        panel.set_ylim(0, 101)
        panel.grid(visible=True, alpha=0.3)
    panels[0].set_ylabel("recall of objects (%)")
    handles, names = panels[0].get_legend_handles_labels()
    picture.legend(handles, names, loc="outside lower center", ncols=1, frameon=False)
    with atomic_file(path) as file:
        picture.savefig(file, format="png", bbox_inches="tight")


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
