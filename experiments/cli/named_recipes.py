"""Let one field of a named recipe be changed: ``recipe=published model.recipe.antialias=true``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from gl_ris.errors import UserError
from gl_ris.recipe import Recipe

_OPTION = "--model.recipe"


def spelled_out(args: Sequence[str], *earlier: Any) -> Iterator[str]:
    """Spell a recipe's name out where a field of it is set behind it.

    jsonargparse puts a field into the fields that are there, and a name has none: it would be forgotten, and
    the other fields be those of ``clean``.

    Args:
        args: Arguments of the form ``--name=value``.
        *earlier: What `recipe_in` found where options were read before them, the last one first.

    Yields:
        The arguments; before the first field that follows a name, all fields of the recipe of that name.

    Raises:
        UserError: A recipe is no YAML, there is none of that name, or it has a field or value that is none.
    """
    name = next((recipe for recipe in earlier if recipe is not None), None)
    for token in args:
        if token.startswith("--config="):
            name = recipe_in(Path(token.removeprefix("--config="))) or name
        elif token.startswith(f"{_OPTION}="):
            name = read_recipe(token.removeprefix(f"{_OPTION}="))
        elif token.startswith(f"{_OPTION}.") and "=" in token and isinstance(name, str):
            yield f"{_OPTION}={json.dumps(dataclasses.asdict(Recipe.named(name)))}"
            name = None
        yield token


def read_recipe(text: str) -> Any:
    """Read what is given as a recipe: a name, or fields, which are checked.

    jsonargparse takes fields of which one is wrong for the name of a recipe, and could not say which.

    Raises:
        UserError: It is no YAML, or it has a field or value that is none.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _unusable(text, getattr(error, "problem", None) or "it cannot be read") from error
    if isinstance(value, dict):
        try:
            Recipe().replace(**{str(name): item for name, item in value.items()})
        except TypeError as error:
            raise _unusable(text, "a field has a value of another kind") from error
    return value


def _unusable(text: str, why: str) -> UserError:
    return UserError(
        f"model.recipe cannot be '{text}': {why}. Give a name, or fields such as {{antialias: false}}."
    )


def recipe_in(path: Path) -> Any:
    """Return the recipe of a configuration file, a name or fields; None if it has none."""
    content = yaml.safe_load(path.expanduser().read_text(encoding="utf-8")) or {}
    model = content.get("model")
    return model.get("recipe") if isinstance(model, dict) else None
