"""A few-shot comparison: figures over seeds for each model and k, and where curves cross zero-shot lines."""

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from experiments.grid.cells import ZERO_SHOT_CELL
from experiments.reporting import frame
from experiments.reporting.frame import FIGURES, number
from experiments.reporting.plots import axis_place, draw_curves, rounded
from gl_ris.files import decode, write_json

Results = Mapping[str, Any]


class Shot(NamedTuple):
    """A supervised cell: name of its settings, refs of each class (or "all"), seed."""

    baseline: str
    k: int | str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.baseline}_k{self.k}_seed{self.seed}"


@dataclass(frozen=True)
class FewShotCells:
    """What is finished of a comparison."""

    shots: Sequence[Shot]  # All supervised cells that there are to be.
    results: Mapping[str, Results]  # Of finished cells by name, the zero-shot one's among them; one or more.
    # For each class with refs, how many; empty until a supervised cell is finished.
    available: Sequence[int] = ()

    @property
    def zero_shot(self) -> Mapping[str, Mapping[str, float | None]]:
        """Figures of the zero-shot methods; empty before that run is finished."""
        return self.results[ZERO_SHOT_CELL]["methods"] if ZERO_SHOT_CELL in self.results else {}


def read_available(folder: Path) -> list[int]:
    """Read from the manifest of a supervised cell how many refs each class has, of those that have any."""
    manifest = decode(folder / "manifest.json", _Manifest, "manifest of refs", f"Delete '{folder}'.")
    return [available for available, _ in manifest["per_class"].values() if available]


class _Manifest(TypedDict):
    per_class: dict[str, tuple[int, int]]  # For each class, how many refs there are and how many were chosen.


def write_all(folder: Path, cells: FewShotCells, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write everything that the finished cells amount to into ``folder``, and return the document."""
    made = document(cells, settings)
    few_shot = made["few_shot"]
    frame.write_csv(folder / "curve.csv", curve_rows(few_shot))
    draw_curves(folder / "figure4_right.png", few_shot, _title(made))
    write_json(folder / "results.json", made)
    return made


def document(cells: FewShotCells, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``results.json``: that of an evaluation with a method for each model and k.

    `EvaluationError` if the cells are not of the same images.
    """
    # the zero-shot run first: its proposals and upper bound are those of the document
    results = {name: cells.results[name] for name in sorted(cells.results, key=lambda n: n != ZERO_SHOT_CELL)}
    frame.check_same_test(results)
    first = next(iter(results.values()))
    rows = rows_of(cells)
    methods = {**cells.zero_shot, **{row["title"]: row.pop("figures") for row in rows}}
    # the sets of cells with and without intervals may be mixed, where some are of an old run
    sure = {row["title"]: row.pop("intervals") for row in rows if "intervals" in row}
    sure = {**cells.results.get(ZERO_SHOT_CELL, {}).get("intervals", {}), **sure}
    few_shot = {
        "cells": len(cells.shots) + 1,
        "limit": frame.limit_of(first),
        "finished": len(results),
        "classes": len(cells.available) or None,
        "zero_shot": {name: {key: row[key] for key in FIGURES} for name, row in cells.zero_shot.items()},
        "rows": rows,
        "crossings": crossings(rows, cells),
    }
    # what draws its masks leaves nothing out
    zero_shot = cells.results.get(ZERO_SHOT_CELL, {"every_miss": {}})
    more = {"every_miss": methods | zero_shot["every_miss"]} if "every_miss" in zero_shot else {}
    more |= {"intervals": sure} if sure else {}
    made = frame.merged(list(results.values()), methods, experiment="fewshot", config=settings, **more)
    return {**made, "few_shot": few_shot}


def rows_of(cells: FewShotCells) -> list[dict[str, Any]]:
    """Return a row for each model and k of which a seed is finished: model by model, the smallest k first."""
    baselines = [shot.baseline for shot in cells.shots]
    by_model = sorted(cells.shots, key=lambda shot: baselines.index(shot.baseline))
    points = itertools.groupby(by_model, key=lambda shot: (shot.baseline, shot.k))
    rows = list(filter(None, (_row(list(shots), cells) for _, shots in points)))
    names = frame.unique_names({row["baseline"]: row["model"] for row in rows})
    for row in rows:
        row["model"] = names[row["baseline"]]
        row["title"] = f"{row['model']} k={row['k']}"
    return rows


def _row(planned: Sequence[Shot], cells: FewShotCells) -> dict[str, Any]:
    """Return the row of one model and k, over the seeds that are finished; empty without any."""
    shots = [shot for shot in planned if shot.name in cells.results]
    if not shots:
        return {}
    results = [cells.results[shot.name] for shot in shots]
    training = [one["training"] for one in results]
    figures = [next(iter(one["methods"].values())) for one in results]
    spreads = {name: over_seeds([row.get(name) for row in figures]) for name in figures[0]}
    sure = [next(iter(one["intervals"].values())) for one in results if one.get("intervals")]
    by_end = {name: zip(*(one[name] for one in sure), strict=True) for name in (sure[0] if sure else ())}
    # what images leave open, without what seeds do
    ends = {name: tuple(map(statistics.fmean, own)) for name, own in by_end.items()}
    return {
        "model": training[0]["model"],
        "baseline": shots[0].baseline,
        "k": shots[0].k,
        "refs_per_class": training[0]["n_refs"] / len(cells.available) if cells.available else None,
        **{key: training[0][key] for key in ("n_refs", "share", "shortfall")},
        "seeds": [shot.seed for shot in shots],
        "seeds_planned": len(planned),
        **{name: spreads[name] for name in FIGURES},
        "figures": {name: spread["mean"] for name, spread in spreads.items()},
        "steps": [one["steps"] for one in training],
        "training_seconds": [one["seconds"] for one in training],
        "evaluation_seconds": [one["seconds"]["total"] for one in results],
        **({"intervals": ends} if len(sure) == len(results) else {}),
    }


def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    """Return the values of all seeds, mean, sample deviation (None for fewer than two), least, greatest."""
    # exact sums: the last bits of pandas' means and deviations depend on the order of the seeds
    there = [value for value in values if value is not None]
    return {
        "values": list(values),
        "mean": statistics.fmean(there) if there else None,
        "std": statistics.stdev(there) if len(there) > 1 else None,
        "min": min(there, default=None),
        "max": max(there, default=None),
    }


def curve_rows(few_shot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of the CSV: one for each zero-shot method, then one for each model and k."""
    about = ("model", "k", "refs_per_class", "n_refs", "share")
    kinds = ("mean", "std", "min", "max")
    return [
        {key: row.get(key) for key in about}
        | {"seeds": len(row["seeds"]) if "seeds" in row else None}
        | {f"{name}_{kind}": row[name].get(kind) for name in FIGURES for kind in kinds}
        for row in (*_levels(few_shot), *few_shot["rows"])
    ]


def _levels(few_shot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each zero-shot method, which learns from nothing."""
    nothing = {"k": 0, "n_refs": 0, "share": 0.0}
    return [
        {"model": method, "title": method, **nothing, **{name: {"mean": row[name]} for name in FIGURES}}
        for method, row in few_shot["zero_shot"].items()
    ]


def report(made: Mapping[str, Any]) -> str:
    """Return what is printed: the table, a sentence about each crossing, and what a reader must know."""
    few_shot, sure = made["few_shot"], made.get("intervals", {})
    heads = ["Model", "k", "Refs", "Share %", "Seeds", *("oIoU", "over seeds", "mIoU", "over seeds")]
    lines = [
        [row["model"], *_about(row), *_figures(row, sure.get(row["title"], {}))]
        for row in (*_levels(few_shot), *few_shot["rows"])
    ]
    said = (*frame.note_on_intervals(made), *notes(few_shot, bool(sure)), *frame.notes_on_skipped(made))
    return f"# {_title(made)}\n\n{frame.table(lines, heads)}\n\n{frame.bullets(said)}".rstrip()


def _title(made: Mapping[str, Any]) -> str:
    return frame.heading("Few-shot comparison", made, made["few_shot"]["limit"])


def _about(row: Mapping[str, Any]) -> list[str]:
    if "seeds" not in row:
        return ["-"] * 4
    seeds, planned = len(row["seeds"]), row["seeds_planned"]
    counted = str(seeds) if seeds == planned else f"{seeds} of {planned}"
    return [str(row["k"]), f"{row['n_refs']:,}", f"{100 * row['share']:.2f}", counted]


def _figures(row: Mapping[str, Any], sure: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Write each figure with its interval, and how it spreads over seeds."""
    for name in FIGURES:
        yield number(row[name]["mean"], interval=sure.get(name))
        yield number(row[name].get("std"))


def notes(few_shot: Mapping[str, Any], sure: bool) -> list[str]:
    """Return what a reader must know beside the table."""
    lines = [crossing["sentence"] for crossing in few_shot["crossings"]]
    if any(row["oIoU"]["std"] is not None for row in few_shot["rows"]):
        said = "sample standard deviation, each with refs and a training of its own"
        lines.append(f"Over seeds: {said}{'; ± is then the mean of their intervals' if sure else ''}.")
    if few_shot["finished"] < few_shot["cells"]:
        lines.append(f"{few_shot['finished']:,} of {few_shot['cells']:,} cells are finished.")
    # models of one k learn from the same refs
    short = {row["k"]: row["shortfall"] for row in few_shot["rows"] if row["shortfall"]}
    for k, lacking in short.items():
        lines.append(f"k={k}: {len(lacking):,} classes have fewer refs ({sum(lacking.values()):,} lacking).")
    return lines


class Point(NamedTuple):
    """One k of a curve: its name ("16" or "all"), its place on the axis of k, and its figure if measured."""

    name: str
    place: float
    value: float | None


@dataclass(frozen=True)
class Crossing:
    """How a curve lies to a level; its points go by their names."""

    start: str | None = None  # the first point measured: "above" (or at the level), "below"; None if none was
    last: str | None = None  # the last point measured
    # the points before and behind the first crossing upwards; None without one
    below: str | None = None
    above: str | None = None
    place: float | None = None  # where the line between the two over log k meets the level, if it does
    falls: tuple[str, ...] = ()  # points at which the curve comes from above to below
    rises: int = 0  # how often it comes from below to above
    missing: tuple[str, ...] = ()  # points between the first and the last that were not measured


def crossings(rows: Sequence[Mapping[str, Any]], cells: FewShotCells) -> list[dict[str, Any]]:
    """Return how each model's curve lies to the line of each zero-shot method, in oIoU."""
    # a k of which nothing is finished has no refs per class, and no figure
    nothing = {"refs_per_class": None, "oIoU": {"mean": None}}
    levels = {method: row["oIoU"] for method, row in cells.zero_shot.items() if row["oIoU"] is not None}
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = {row["k"]: row for row in rows if row["model"] == model}
        curve = [own.get(k, {"k": k, **nothing}) for k in dict.fromkeys(shot.k for shot in cells.shots)]
        points = [Point(str(row["k"]), axis_place(row), row["oIoU"]["mean"]) for row in curve]
        for method, level in levels.items():
            found, about = find_crossing(points, level), {"model": model, "method": method, "level": level}
            said = sentence(model, f"{method} ({level:.2f})", points[0].name, found)
            lines.append({**about, **asdict(found), "sentence": said})
    return lines


def find_crossing(points: Sequence[Point], level: float) -> Crossing:
    """Find the first crossing upwards of a curve (smallest k first), and what else is to be said of it.

    A point exactly at the level counts as above it. Points without a value are left out.
    """
    measured = [point for point in points if point.value is not None]
    if not measured:
        return Crossing()
    above = [value >= level for _, _, value in points if value is not None]
    steps = list(zip(measured, measured[1:], above, above[1:], strict=False))
    rises = [(before, after) for before, after, was, now in steps if now and not was]
    between = points[points.index(measured[0]) : points.index(measured[-1])]
    return Crossing(
        start="above" if above[0] else "below",
        last=measured[-1].name,
        below=rises[0][0].name if rises else None,
        above=rises[0][1].name if rises else None,
        place=_meeting(*rises[0], level) if rises else None,
        falls=tuple(after.name for _, after, was, now in steps if was and not now),
        rises=len(rises),
        missing=tuple(point.name for point in between if point.value is None),
    )


def _meeting(below: Any, above: Any, level: float) -> float | None:
    # all refs may be fewer of each class, on average, than the k before
    if not above.place > below.place:
        return None
    part = (level - below.value) / (above.value - below.value)
    return math.exp((1 - part) * math.log(below.place) + part * math.log(above.place))


def sentence(model: str, line: str, first: str, found: Crossing) -> str:
    """Say how the curve of a model, whose first point is ``first``, lies to the ``line`` of a method."""
    if found.start is None:
        return f"{model} has no figure to compare with {line}."
    missing = f" Not measured: k={', '.join(found.missing)}." if found.missing else ""
    return f"{model} {_course(found, line, first)}.{missing}"


def _course(found: Crossing, line: str, first: str) -> str:
    if found.above is not None:
        about = f", at about k={rounded(found.place)} (linear in log k between means)" if found.place else ""
        falls = f"; it falls below at k={', '.join(found.falls)}" if found.falls else ""
        return f"crosses {line} between k={found.below} and k={found.above}{about}{falls}"
    if found.falls:
        return f"is above {line} at first, but below from k={found.falls[0]} on"
    if first == found.last:
        return f"is {found.start} {line} at k={first}"
    if found.start == "above":
        return f"is above {line} at every k from {first}"
    return f"stays below {line} at every k up to {found.last}"
