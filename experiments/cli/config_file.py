"""Reading a file of settings that anybody may have written."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from gl_ris.errors import UserError
from gl_ris.recipe import Recipe

_MOST_VALUES = 100_000


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file; a recipe with a base is spelled out.

    `UserError` if it is not there, or no YAML with options in it.
    """
    try:
        content = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The configuration file '{path}' cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        where = f" in line {error.problem_mark.line + 1}" if hasattr(error, "problem_mark") else ""
        what = getattr(error, "problem", None) or "it is not text"
        raise UserError(f"The configuration file '{path}' is not YAML: {what}{where}.") from error
    if _count(content, {}) > _MOST_VALUES:
        raise UserError(f"The configuration file '{path}' repeats its values without end, by its aliases.")
    if not isinstance(content, dict | None) or not _has_names(content):
        raise UserError(f"The configuration file '{path}' must hold options such as 'model: {{alpha: 0.5}}'.")
    model = (content or {}).get("model")
    if isinstance(model, dict) and isinstance(recipe := model.get("recipe"), dict) and "base" in recipe:
        model["recipe"] = asdict(Recipe.resolve(recipe))
    return content or {}


def _count(content: Any, known: dict[int, float]) -> float:
    """Count values, repeated ones each time; ``known`` has the counts by id, infinite until they are done."""
    if not isinstance(content, dict | list):
        return 1
    if id(content) not in known:
        known[id(content)] = float("inf")
        values = content.values() if isinstance(content, dict) else content
        known[id(content)] = 1 + sum(_count(value, known) for value in values)
    return known[id(content)]


def _has_names(content: Any) -> bool:
    """Say whether all keys, at every depth, are text."""
    if isinstance(content, list):
        return all(map(_has_names, content))
    return not isinstance(content, dict) or all(
        isinstance(name, str) and _has_names(value) for name, value in content.items()
    )
