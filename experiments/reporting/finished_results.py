"""Reads the result document of a finished run, which may have been damaged or edited since."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gl_ris.errors import UserError

_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("dataset", "split", "proposals", "created"), str),
    **dict.fromkeys(("n_images", "n_expressions_expected", "n_expressions_evaluated"), int),
    **dict.fromkeys(("methods", "upper_bound", "seconds", "failures", "config"), dict),
    **dict.fromkeys(("partition", "git_commit"), (str, type(None))),
}

_TRAINING: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "k": (int, str),
    **dict.fromkeys(("seed", "n_refs", "steps"), int),
    **dict.fromkeys(("share", "seconds"), (int, float)),
    "shortfall": dict,
}


def read_results(path: Path) -> dict[str, Any]:
    """Read a ``results.json`` and check what a table makes use of.

    Raises:
        UserError: It cannot be read, is of another schema, or lacks something.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        fault = _fault(document)
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if fault:
        raise _damaged(path, fault)
    return dict(document)


def check_methods(document: Mapping[str, Any], titles: Iterable[str], path: Path) -> None:
    """Check that the results in ``path`` have every method of these titles.

    Raises:
        UserError: One is missing.
    """
    for title in titles:
        if title not in document["methods"]:
            raise _damaged(path, f"they lack the method '{title}'")


def check_training(document: Mapping[str, Any], path: Path) -> None:
    """Check that the results in ``path`` are those of one model, and say what it learnt from, if it did.

    Raises:
        UserError: They are not, or something is missing.
    """
    if len(document["methods"]) != 1:
        raise _damaged(path, "they have more methods than one")
    training = document.get("training", "")
    if training is None:
        return
    if not isinstance(training, Mapping):
        raise _damaged(path, "they do not say what was learnt from")
    for name, kind in _TRAINING.items():
        if not isinstance(training.get(name), kind):
            raise _damaged(path, f"their training's '{name}' is missing or damaged")


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"The results in '{path}' cannot be read ({why}); delete them to run it again.")


def _fault(document: Any) -> str:
    """Say what is wrong with a document; empty if nothing is."""
    from gl_ris.results import SCHEMA

    if not isinstance(document, dict):
        return "they are no object"
    if document.get("schema") != SCHEMA:
        return f"their schema is {document.get('schema')!r}, not {SCHEMA}"
    for name, kind in _KINDS.items():
        if name not in document or not isinstance(document[name], kind):
            return f"their '{name}' is missing or damaged"
    counts = document["failures"].values()
    if not all(isinstance(count, int) for count in counts):
        return "their 'failures' are damaged"
    if not _is_number(document["seconds"].get("total")):
        return "their 'seconds' have no total"
    rows = {**document["methods"], "the upper bound": document["upper_bound"]}
    faulty = [title for title, figures in rows.items() if not _are_figures(figures)]
    return f"the figures of {faulty[0]} are damaged" if faulty else ""


def _are_figures(figures: Any) -> bool:
    """Say whether oIoU and mIoU are there, in percent; None is the figure of no expression at all."""
    if not isinstance(figures, Mapping) or not {"oIoU", "mIoU"} <= set(figures):
        return False
    return all(value is None or (_is_number(value) and 0 <= value <= 100) for value in figures.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
