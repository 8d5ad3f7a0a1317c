"""From the results of the cells of a comparison on an unseen domain to its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.grid.unseen_settings import SEEN, UNSEEN, ZERO_SHOT_CELLS, cell_name
from experiments.reporting.fewshot_results import FIGURES, unique_names
from experiments.reporting.frame import check_same_test, limit_of, merged
from gl_ris.errors import EvaluationError

Results = Mapping[str, Any]
Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Found:
    """What is finished of a comparison.

    Attributes:
        baselines: The supervised models that there are to be.
        results: The results of finished cells by name.
    """

    baselines: Sequence[str]
    results: Mapping[str, Results]

    def of(self, model: str, where: str) -> Results | None:
        """Return the results of a model on one of the two data sets."""
        return self.results.get(cell_name(model, where))

    def on(self, where: str) -> dict[str, Results]:
        """Return the finished cells on one of the two data sets, the zero-shot one first."""
        names = [cell_name(model, where) for model in (ZERO_SHOT_CELLS, *self.baselines)]
        return {name: self.results[name] for name in names if name in self.results}


def model_names(found: Found) -> dict[str, str]:
    """Return what to call each supervised model of which a cell is finished."""
    names = {}
    for baseline in found.baselines:
        cell = found.of(baseline, SEEN) or found.of(baseline, UNSEEN)
        if cell is not None:
            training = cell.get("training") or {}
            names[baseline] = training.get("model") or next(iter(cell["methods"]))
    return unique_names(names)


def rows_of(found: Found) -> list[dict[str, Any]]:
    """Return a row per method: its figures on the seen set, on all of the unseen one and on its subsets.

    What is not finished is None.
    """
    cells = [found.of(ZERO_SHOT_CELLS, where) for where in (SEEN, UNSEEN)]
    titles = dict.fromkeys(title for cell in cells if cell is not None for title in cell["methods"])
    rows = [_row(title, title, None, cells) for title in titles]
    for baseline, name in model_names(found).items():
        own = [found.of(baseline, where) for where in (SEEN, UNSEEN)]
        rows.append(_row(name, None, baseline, own))
    return rows


def _row(
    name: str, title: str | None, baseline: str | None, cells: Sequence[Results | None]
) -> dict[str, Any]:
    seen, unseen = cells
    subsets = {} if unseen is None else unseen.get("subsets", {})
    return {
        "model": name,
        "baseline": baseline,
        "training": None if seen is None else seen.get("training"),
        "seen": _figures(seen, title),
        "all": _figures(unseen, title),
        "subsets": {key: _figures(part, title) for key, part in subsets.items()},
    }


def _figures(part: Results | None, title: str | None) -> Figures | None:
    """Return the figures of a method; those of the only one if it has no title here."""
    if part is None:
        return None
    found = part["methods"].get(title) if title is not None else next(iter(part["methods"].values()))
    return None if found is None else {key: found.get(key) for key in FIGURES}


def document(found: Found, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of ``results.json``: all methods on the set with unseen concepts, and its subsets.

    Args:
        found: What is finished.
        settings: Those of the comparison.

    Returns:
        The document; None before a cell on that set is finished.

    Raises:
        EvaluationError: The cells are not of the same images and phrases.
    """
    for where in (SEEN, UNSEEN):
        cells = found.on(where)
        if cells:
            check_same_test(cells)
    unseen = found.on(UNSEEN)
    if not unseen:
        return None
    names = model_names(found)
    labels = {cell_name(baseline, UNSEEN): name for baseline, name in names.items()}
    made = merged(
        list(unseen.values()),
        _methods(unseen, labels),
        experiment="unseen_domain",
        config=settings,
        subsets=_subsets(unseen, labels),
    )
    limit = limit_of(next(iter(unseen.values())))
    more = {"limit": limit, "seen": _place(found.on(SEEN)), "rows": rows_of(found)}
    return {
        **made,
        "unseen_domain": {**more, "cells": 2 * len(found.baselines) + 2, "finished": len(found.results)},
    }


def _place(cells: Mapping[str, Results]) -> dict[str, Any] | None:
    """Say which data set and split the models know; None before a cell on it is finished."""
    keys = ("dataset", "split", "partition", "n_images", "n_expressions_evaluated")
    return next(({key: cell[key] for key in keys} for cell in cells.values()), None)


def _methods(parts: Mapping[str, Results], labels: Mapping[str, str]) -> dict[str, Figures]:
    """Return the methods of several documents, or of subsets of them, a supervised one by its label."""
    return {
        labels.get(cell, title): figures
        for cell, part in parts.items()
        for title, figures in part["methods"].items()
    }


def _subsets(cells: Mapping[str, Results], labels: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the subsets with the methods of all documents.

    Raises:
        EvaluationError: The documents have other subsets, or other phrases in them.
    """
    first_name, first = next(iter(cells.items()))
    subsets = {}
    for name, subset in first.get("subsets", {}).items():
        parts = {cell: document.get("subsets", {}).get(name, {}) for cell, document in cells.items()}
        for cell, part in parts.items():
            if part.get("n_expressions_expected") != subset["n_expressions_expected"]:
                raise EvaluationError(
                    f"The cells '{first_name}' and '{cell}' do not compare: their subsets '{name}' differ."
                )
        subsets[name] = {**subset, "methods": _methods(parts, labels)}
    return subsets
