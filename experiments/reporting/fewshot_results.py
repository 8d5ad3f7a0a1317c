"""From the results of the cells of a few-shot comparison to its figures: per model and k, over seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.grid.fewshot_settings import ZERO_SHOT_CELL, Shot
from experiments.reporting.crossing import Point, find_crossing, sentence
from experiments.reporting.frame import check_same_test, limit_of, merged
from gl_ris.errors import UserError

FIGURES = ("oIoU", "mIoU")
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """What is finished of a comparison.

    Attributes:
        shots: All supervised cells that there are to be.
        results: The results of finished cells by name, the zero-shot one's among them.
        available: For each class with refs, how many; empty until a supervised cell is finished.
    """

    shots: Sequence[Shot]
    results: Mapping[str, Results]
    available: Sequence[int] = ()

    @property
    def zero_shot(self) -> Mapping[str, Mapping[str, float | None]]:
        """Figures of the zero-shot methods; empty before that run is finished."""
        return self.results[ZERO_SHOT_CELL]["methods"] if ZERO_SHOT_CELL in self.results else {}


def read_available(folder: Path) -> list[int]:
    """Read from the manifest of a supervised cell how many refs each class has, of those that have any.

    Raises:
        UserError: It is missing or damaged.
    """
    path = folder / "manifest.json"
    try:
        per_class = json.loads(path.read_text(encoding="utf-8"))["per_class"]
        return [int(available) for available, _ in per_class.values() if available]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"The manifest '{path}' cannot be read ({error}); delete its folder.") from error


def few_shot(found: Found) -> dict[str, Any]:
    """Return what the document of a comparison has beside that of any evaluation."""
    rows = rows_of(found)
    return {
        "cells": len(found.shots) + 1,
        "limit": limit_of(next(iter(found.results.values()))),
        "finished": len(found.results),
        "classes": len(found.available) or None,
        "zero_shot": {name: {key: row[key] for key in FIGURES} for name, row in found.zero_shot.items()},
        "rows": rows,
        "crossings": crossings(rows, found),
    }


def rows_of(found: Found) -> list[dict[str, Any]]:
    """Return a row for each model and k of which a seed is finished: model by model, the smallest k first."""
    rows = []
    for baseline in dict.fromkeys(shot.baseline for shot in found.shots):
        for k in dict.fromkeys(shot.k for shot in found.shots):
            planned = [shot for shot in found.shots if (shot.baseline, shot.k) == (baseline, k)]
            finished = [shot for shot in planned if shot.name in found.results]
            if finished:
                rows.append(_row(finished, len(planned), found))
    return _told_apart(rows)


def _row(shots: Sequence[Shot], planned: int, found: Found) -> dict[str, Any]:
    cells = [found.results[shot.name] for shot in shots]
    training = [cell["training"] for cell in cells]
    figures = [next(iter(cell["methods"].values())) for cell in cells]
    first, k = training[0], shots[0].k
    per_class = first["n_refs"] / len(found.available) if found.available else None
    return {
        "model": first["model"],
        "baseline": shots[0].baseline,
        "k": k,
        "refs_per_class": per_class,
        "n_refs": first["n_refs"],
        "share": first["share"],
        "shortfall": first["shortfall"],
        "seeds": [shot.seed for shot in shots],
        "seeds_planned": planned,
        **{key: over_seeds([row.get(key) for row in figures]) for key in FIGURES},
        "figures": {key: _mean([row.get(key) for row in figures]) for key in figures[0]},
        "steps": [one["steps"] for one in training],
        "training_seconds": [one["seconds"] for one in training],
        "evaluation_seconds": [cell["seconds"]["total"] for cell in cells],
    }


def _told_apart(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the name of the baseline to models of the same name, e.g. to those of lavt and lavt-tiny."""
    names = unique_names({row["baseline"]: row["model"] for row in rows})
    return [
        {**row, "model": name, "title": f"{name} k={row['k']}"}
        for row in rows
        if (name := names[row["baseline"]])
    ]


def unique_names(models: Mapping[str, str]) -> dict[str, str]:
    """Return a name of its own for each baseline.

    Args:
        models: Names of the models by baseline.

    Example:
        >>> unique_names({"lavt": "LAVT", "lavt-tiny": "LAVT", "cris": "CRIS"})
        {'lavt': 'LAVT (lavt)', 'lavt-tiny': 'LAVT (lavt-tiny)', 'cris': 'CRIS'}
    """
    taken = list(models.values())
    return {key: f"{name} ({key})" if taken.count(name) > 1 else name for key, name in models.items()}


def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    """Return a figure of several seeds: each value, mean, sample standard deviation, least and greatest.

    The deviation is None for fewer than two; all are None where no seed has a figure.

    Example:
        >>> over_seeds([10.0, 14.0])["mean"], round(over_seeds([10.0, 14.0])["std"], 3)
        (12.0, 2.828)
    """
    there = [value for value in values if value is not None]
    return {
        "values": list(values),
        "mean": _mean(values),
        "std": statistics.stdev(there) if len(there) > 1 else None,
        "min": min(there, default=None),
        "max": max(there, default=None),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None


def curve(rows: Sequence[Mapping[str, Any]], model: str, shots: Sequence[Shot]) -> list[Point]:
    """Return the curve of a model in oIoU: a point for every k that there is to be."""
    own = {row["k"]: row for row in rows if row["model"] == model}
    ks = dict.fromkeys(shot.k for shot in shots)
    return [
        Point(str(k), place(own[k]), own[k]["oIoU"]["mean"])
        if k in own
        else Point(str(k), math.nan if isinstance(k, str) else float(k), None)
        for k in ks
    ]


def place(row: Mapping[str, Any]) -> float:
    """Return where a row stands on the axis of k; ``all`` at the mean number of refs of a class."""
    return float(row["k"]) if row["k"] != "all" else float(row["refs_per_class"] or math.nan)


def crossings(rows: Sequence[Mapping[str, Any]], found: Found) -> list[dict[str, Any]]:
    """Return how each model's curve lies to the line of each zero-shot method, in oIoU."""
    told = []
    for model in dict.fromkeys(row["model"] for row in rows):
        points = curve(rows, model, found.shots)
        for method, figures in found.zero_shot.items():
            if figures["oIoU"] is None:
                continue
            level = figures["oIoU"]
            told.append(
                {"model": model, "method": method, "level": level}
                | asdict(find_crossing(points, level))
                | {"sentence": sentence(model, method, level, points)}
            )
    return told


def document(found: Found, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``results.json``.

    Args:
        found: What is finished, at least one cell.
        settings: Those of the comparison.

    Raises:
        EvaluationError: The cells are not of the same images.
    """
    names = sorted(found.results, key=lambda name: name != ZERO_SHOT_CELL)
    cells = [found.results[name] for name in names]
    check_same_test(dict(zip(names, cells, strict=True)))
    more = few_shot(found)
    methods = {**found.zero_shot, **{row["title"]: row["figures"] for row in more["rows"]}}
    made = merged(cells, methods, experiment="fewshot", config=settings)
    kept = [{key: value for key, value in row.items() if key != "figures"} for row in more["rows"]]
    return {**made, "few_shot": {**more, "rows": kept}}
