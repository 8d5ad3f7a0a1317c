"""What each field of a recipe changes: every field takes its other value, alone and all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from experiments.cli.help import class_options
from gl_ris.errors import UserError, unknown_name
from gl_ris.recipe import Recipe
from gl_ris.scorers import load_scorer
from gl_ris.variants import WHOLE_RUN
from gl_ris.zero_shot import ZeroShotRIS

BASE, ALL = "base recipe", "all of them"
NAMED = ("clean", "published")
# The point of the published code that each field of `Recipe` stands for, which its description begins with.
POINTS = {
    name: int(option.text[1:].partition(")")[0])
    for name, option in class_options("gl_ris.recipe:Recipe").items()
}
# Methods that have fields of their own, by how the names of these begin.
_WITH_FIELDS = {name: name for name in ("region_token", "score_map", "grad_cam")}
_WITH_FIELDS |= {"heat": "heat_map", "hybrid": "hybrid_gl"}


def other_recipe(base: str) -> str:
    """Return the name of the recipe that ``base`` is compared with; `UserError` if there is no such base."""
    if base not in NAMED:
        raise unknown_name("recipe", base, NAMED)
    return NAMED[1 - NAMED.index(base)]


def flips(base: str) -> dict[str, Any]:
    """Return each field in which the two named recipes differ, with its value in the other one."""
    own, other = asdict(Recipe.named(base)), asdict(Recipe.named(other_recipe(base)))
    return {name: other[name] for name in POINTS if own[name] != other[name]}


def owner_of(field: str) -> str | None:
    """Return the method that alone a field speaks of; None if it is for all of them."""
    return next((method for start, method in _WITH_FIELDS.items() if field.startswith(start)), None)


def applies(field: str, method: str) -> bool:
    """Say whether a field speaks of a method, given by name or class path."""
    owner = owner_of(field)
    return owner is None or issubclass(load_scorer(method), load_scorer(owner))


class RecipeEffects(ZeroShotRIS):
    """Runs one method under a recipe, under it with each field flipped alone, and with all flipped at once.

    Flipped means: set to the value in the other named recipe. All share one pass over the images and whatever
    their recipes have in common. Three fields are not about scoring and stay as the base has them, because
    they can be tallied afterwards: images without proposals are never left out here.

    Args:
        method: The scoring method: a name such as global_local or score_map, or the path of a class.
        recipe: The base: clean or published.
        precisions: Further rows: the base recipe with the model in bf16 or fp16, e.g. [bf16,fp16].
        more: Further rows: the base recipe with other fields changed, those of later methods among them, e.g.
            [{local_prompt: blur, local_frame: full}, {negatives: 1.0}].
        options: Those of `ZeroShotRIS`.
    """

    def __init__(
        self,
        method: str = "global_local",
        recipe: str = "clean",
        precisions: list[str] | str | None = None,
        more: list[dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        changes = flips(recipe)
        extra = [precisions] if isinstance(precisions, str) else precisions or []
        own = Recipe.named(recipe, skip_images_without_proposals=False)
        # what results call each
        self.more = {", ".join(f"{name}={value}" for name, value in one.items()): one for one in more or []}
        methods = variants(method, changes, extra, self.more)
        super().__init__(methods=methods, recipe=own, precision="fp32", **options)
        self.base, self.flips, self.method = recipe, changes, method

    @property
    def tower(self) -> str:
        """Kind of the image tower, once it is loaded: ``"vit"`` or ``"resnet"``."""
        return cast("Any", self.clips[0]).tower.kind


def variants(
    method: str, changes: dict[str, Any], precisions: Sequence[str], more: Mapping[str, Any]
) -> list[Any]:
    """List the variants of a method: the base, each change alone, all at once, each precision, and more."""
    if len(set(precisions)) < len(precisions) or "fp32" in precisions:
        raise UserError(f"precisions={list(precisions)}: the base has fp32; give bf16 or fp16, each once.")
    scoring = {name: value for name, value in changes.items() if name not in WHOLE_RUN}
    single = {name: {name: value} for name, value in scoring.items() if applies(name, method)}
    return [
        {"method": method, "title": BASE},
        *({"method": method, "title": title, "recipe": fields} for title, fields in single.items()),
        {"method": method, "title": ALL, "recipe": scoring},
        *({"method": method, "title": name, "precision": name} for name in precisions),
        *({"method": method, "title": title, "recipe": fields} for title, fields in more.items()),
    ]
