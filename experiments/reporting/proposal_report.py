"""The report on proposals as Markdown, CSV, JSON and a picture of the curves."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from experiments.reporting.frame import bullets, note, number, table, write_csv, write_text
from experiments.reporting.plots import legend_below, panels, save
from experiments.run.proposal_jobs import Measured, ProposalReport
from gl_ris.files import write_json
from gl_ris.program import git_commit, versions
from gl_ris.proposals.base import League
from gl_ris.proposals.quality import COCO_BOUNDS, SIZES, THRESHOLDS, size_bounds

_WHOLE = ("images", "none", "failed", "missing")


def write_report(folder: Path, module: ProposalReport, data: Any, settings: Mapping[str, Any]) -> str:
    """Write what a module measured on ``data`` into the run folder, and return the Markdown."""
    most = max(module.rows, key=lambda row: len(row.quality.objects))
    bounds = size_bounds([found.area for found in most.quality.objects])
    leagues = get_args(League)  # by league, and within a league by upper bound, the best first
    best_first = sorted(module.rows, key=lambda row: -row.quality.upper_bound()["oIoU"])
    rows = sorted(best_first, key=lambda row: leagues.index(row.league))
    document = {
        "schema": 1,
        "experiment": "proposal_report",
        "dataset": data.dataset_name,
        "split": data.split,
        "partition": data.partition,
        "n_images": data.n_images,
        "n_unusable": module.unusable,
        "n_objects": len(most.quality.objects),
        "post": str(module.post) or None,
        "size_bounds": bounds,
        "rows": [{**line_of(row, bounds), "store": row.store} for row in rows],
        "curves": {row.name: {str(t): row.quality.curve(t) for t in THRESHOLDS} for row in rows},
        "config": settings,
        "versions": versions(),
        "git_commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = markdown(document)
    write_text(folder / "report.md", text)
    write_csv(folder / "report.csv", document["rows"])
    write_csv(folder / "curve.csv", curve_rows(rows))
    draw_curves(folder / "curve.png", rows, _heading(document))
    write_json(folder / "report.json", document)
    return text


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


def _heading(document: Mapping[str, Any]) -> str:
    partition = f" ({document['partition']})" if document["partition"] else ""
    post = f", after {document['post']}" if document["post"] else ""
    return f"Proposals for {document['dataset']} {document['split']}{partition}{post}"


def markdown(document: Mapping[str, Any]) -> str:
    """Return the table with the notes that it needs; percent with two decimals."""
    rows = document["rows"]
    hidden = {"store", *(name for name in ("failed", "missing") if not any(row[name] for row in rows))}
    shown = [name for name in rows[0] if name not in hidden]
    lines = [[_cell(name, row[name]) for name in shown] for row in rows]
    notes = bullets(_notes(document, "missing" in shown))
    return f"# {_heading(document)}\n\n{table(lines, shown, text=(0, 1))}\n\n{notes}\n"


def _notes(document: Mapping[str, Any], missing: bool) -> Iterator[str]:
    small, large = document["size_bounds"]
    yield note("proposals", **document)
    yield note("sizes of COCO" if (small, large) == COCO_BOUNDS else "own sizes", small=small, large=large)
    yield note("seconds")
    if missing:
        yield note("missing")
    if document["n_unusable"]:
        yield note("unusable", **document)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return number(value, "," if name in _WHOLE else ".3f" if name == "s/image" else ".2f")


def curve_rows(rows: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """Yield recall in percent for each number of proposals kept, generator by generator."""
    for row in rows:
        named = {"league": row.league, "generator": row.name, "store": row.store}
        curves = [row.quality.curve(threshold) for threshold in THRESHOLDS]
        for kept, values in enumerate(zip(*curves, strict=True), start=1):
            recalls = {f"R@{t}": value for t, value in zip(THRESHOLDS, values, strict=True)}
            yield {**named, "proposals": kept, **recalls}


def draw_curves(path: Path, rows: Sequence[Measured], title: str) -> None:
    """Draw recall against the number of proposals kept, a panel per IoU and a line per generator."""
    picture, both = panels(11, 5, title, len(THRESHOLDS), sharey=True)
    for panel, threshold in zip(both, THRESHOLDS, strict=True):
        for row in rows:
            values = row.quality.curve(threshold)
            label = f"{row.name} ({row.league})" if row.store else row.name
            panel.plot(range(1, len(values) + 1), values, label=label, linestyle="-" if row.store else "--")
        panel.set_title(f"IoU {threshold} or more")
        panel.set_xscale("log")
        panel.set_xlabel("proposals kept per image, best-scored first")
        panel.set_ylim(0, 101)
        panel.grid(visible=True, alpha=0.3)
    both[0].set_ylabel("recall of objects (%)")
    legend_below(picture, both[0], 1)
    save(picture, path)
