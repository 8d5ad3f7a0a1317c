"""Let one field of a named recipe be changed: ``recipe=published model.recipe.antialias=true``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from gl_ris.recipe import Recipe

_OPTION = "--model.recipe"


def spelled_out(args: Sequence[str], defaults: Path) -> Iterator[str]:
    """Spell a recipe's name out where a field of it is set behind it.

    jsonargparse puts a field into the fields that are there, and a name has none: it would be forgotten, and
    the other fields be those of ``clean``.

    Args:
        args: Arguments of the form ``--name=value``.
        defaults: The configuration file of the command, read before them.

    Yields:
        The arguments; before the first field that follows a name, all fields of the recipe of that name.

    Raises:
        UserError: There is no recipe of that name.
    """
    name = _recipe_in(defaults)
    for token in args:
        if token.startswith("--config="):
            name = _recipe_in(Path(token.removeprefix("--config="))) or name
        elif token.startswith(f"{_OPTION}="):
            name = yaml.safe_load(token.removeprefix(f"{_OPTION}="))
        elif token.startswith(f"{_OPTION}.") and "=" in token and isinstance(name, str):
            yield f"{_OPTION}={json.dumps(dataclasses.asdict(Recipe.named(name)))}"
            name = None
        yield token


def _recipe_in(path: Path) -> Any:
    """Return the recipe of a configuration file, a name or fields; None if it has none."""
    content = yaml.safe_load(path.expanduser().read_text(encoding="utf-8")) or {}
    model = content.get("model")
    return model.get("recipe") if isinstance(model, dict) else None
