"""Reads the result document of a finished run as plain values; `gl_ris.results.Results` is the typed one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gl_ris.errors import UserError


def read_results(path: Path) -> dict[str, Any]:
    """Read a ``results.json``; see `gl_ris.results.Results.read`."""
    from gl_ris.results import Results

    return Results.read(path).document()


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
    if "training" not in document:
        raise _damaged(path, "they do not say what was learnt from")


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"The results in '{path}' cannot be read ({why}); delete them to run it again.")
