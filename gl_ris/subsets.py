"""Subsets: named parts of a data set's expressions whose figures a run counts beside those of all.

The data say which expressions are in which subset. A name is in lower case and has the form ``kind`` or
``kind_definition``: where there are several definitions of one kind, the recipe's field of that name says
which of them carries the plain label. ``unseen_names`` is labelled "Unseen" under a recipe with
``unseen="names"``, and "Unseen (names)" under any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)?")


def check_subset_name(name: str) -> str:
    """Return a name of the form above.

    Raises:
        ValueError: It is of another form.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"The name of a subset must look like unseen or unseen_names, not {name!r}.")
    return name


def subset_label(name: str, recipe: Any) -> str:
    """Return what a table calls a subset.

    Args:
        name: Of the subset.
        recipe: A `gl_ris.recipe.Recipe`.

    Example:
        >>> from gl_ris.recipe import Recipe
        >>> [subset_label(name, Recipe(unseen="names")) for name in ("unseen_names", "unseen_synonyms")]
        ['Unseen', 'Unseen (synonyms)']
        >>> subset_label("crowded", Recipe())
        'Crowded'
    """
    kind, _, definition = name.partition("_")
    plain = definition in ("", getattr(recipe, kind, None))
    return kind.capitalize() if plain else f"{kind.capitalize()} ({definition})"


def in_order(names: Iterable[str], recipe: Any) -> list[str]:
    """Order names so that those with a plain label come first, and otherwise as they are."""
    return sorted(names, key=lambda name: "(" in subset_label(name, recipe))


def subsets_of(scene: Any) -> dict[str, Tensor]:
    """Return the subsets of a scene: for each name, bool ``(E,)``, which of its expressions are in it.

    Empty for a scene without the attribute, as those of most data sets are.
    """
    return dict(getattr(scene, "subsets", {}))
