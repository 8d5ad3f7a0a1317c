"""What each field of a recipe changes: every field takes its other value, alone and all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from gl_ris.errors import UserError, unknown_name
from gl_ris.proposals.base import ProposalGenerator
from gl_ris.proposals.post import AS_MADE, PostProcessing
from gl_ris.recipe import Recipe
from gl_ris.variants import WHOLE_RUN
from gl_ris.zero_shot import ZeroShotRIS

BASE, ALL = "base recipe", "all of them"
NAMED = ("clean", "published")
POINTS = {
    "normalization": 1,
    "working_size": 1,
    "interpolation": 2,
    "antialias": 2,
    "grid_mask": 2,
    "crop_fill": 3,
    "box_rounding": 3,
    "boxes": 4,
    "vit_unit_visual": 5,
    "vit_unit_text": 5,
    "resnet_unit_map": 6,
    "resnet_unit_global": 6,
    "resnet_unit_local": 6,
    "resnet_unit_text": 6,
    "resnet_cosine": 6,
    "text": 7,
    "skip_images_without_proposals": 8,
    "target_overlap": 9,
    "unseen": 10,
}
"""The point of the published code that each field of `Recipe` stands for."""


def other_recipe(base: str) -> str:
    """Return the name of the recipe that ``base`` is compared with.

    Raises:
        UserError: No recipe has the name ``base``.
    """
    if base not in NAMED:
        raise unknown_name("recipe", base, NAMED)
    return NAMED[1 - NAMED.index(base)]


def flips(base: str) -> dict[str, Any]:
    """Return each field in which the two named recipes differ, with its value in the other one.

    Example:
        >>> flips("clean")["normalization"]
        'imagenet'
    """
    own, other = asdict(Recipe.named(base)), asdict(Recipe.named(other_recipe(base)))
    return {name: other[name] for name in POINTS if own[name] != other[name]}


class RecipeEffects(ZeroShotRIS):
    """Runs one method under a recipe, under it with each field flipped alone, and with all flipped at once.

    Flipped means: set to the value in the other named recipe. All share one pass over the images and whatever
    their recipes have in common. Three fields are not about scoring and stay as the base has them, because
    they can be tallied afterwards: images without proposals are never left out here.

    Args:
        clip: The CLIP model: refshapes-vit, refshapes-rn, an open_clip name such as ViT-B-32-quickgelu, or
            local-dir:FOLDER.
        pretrained: Weights for an open_clip name, e.g. openai; folders bring their own.
        method: The scoring method: global_local, cropping, or the path of a class.
        alpha: Share of the global visual feature, from 0 to 1 (Eq. 5).
        beta: Share of the global text feature, from 0 to 1 (Eq. 8).
        masked_blocks: Blocks of a ViT with masked tokens, counted from the last (k in the paper).
        recipe: The base: clean or published.
        precisions: Further rows: the base recipe with the model in bf16 or fp16, e.g. [bf16,fp16].
        proposals: What makes the masks of images that bring none.
        parser: What finds noun phrases: null for the shipped pipeline, an installed one such as
            en_core_web_lg, or a folder.
        store: Where proposals are kept: true for the usual place, a folder, or false.
        post: What is done to proposals before one is chosen.

    Raises:
        UserError: No recipe of that name, a precision that is fp32 or unknown, or an error of `ZeroShotRIS`.
    """

    def __init__(
        self,
        clip: str = "refshapes-rn",
        pretrained: str | None = None,
        method: str = "global_local",
        alpha: float = 0.85,
        beta: float = 0.5,
        masked_blocks: int = 3,
        recipe: str = "clean",
        precisions: list[str] | str | None = None,
        proposals: ProposalGenerator | None = None,
        parser: str | None = None,
        store: bool | str = True,
        post: PostProcessing = AS_MADE,
    ) -> None:
        changes = flips(recipe)
        extra = [precisions] if isinstance(precisions, str) else precisions or []
        own = Recipe.named(recipe, skip_images_without_proposals=False)
        methods = variants(method, changes, extra)
        scoring = (clip, pretrained, methods, alpha, beta, masked_blocks, own)
        super().__init__(*scoring, proposals, parser, store=store, post=post)
        self.base, self.flips = recipe, changes

    @property
    def tower(self) -> str:
        """Kind of the image tower, once it is loaded: ``"vit"`` or ``"resnet"``."""
        return cast("Any", self.clips[0]).tower.kind


def variants(method: str, changes: dict[str, Any], precisions: Sequence[str]) -> list[Any]:
    """List the variants of a method: the base, each change alone, all at once, and each precision.

    Raises:
        UserError: A precision is given twice or is that of the base.
    """
    if len(set(precisions)) < len(precisions) or "fp32" in precisions:
        raise UserError(f"precisions={list(precisions)}: the base has fp32; give bf16 or fp16, each once.")
    scoring = {name: value for name, value in changes.items() if name not in WHOLE_RUN}
    single = [{"method": method, "title": name, "recipe": {name: value}} for name, value in scoring.items()]
    return [
        {"method": method, "title": BASE},
        *single,
        {"method": method, "title": ALL, "recipe": scoring},
        *({"method": method, "title": name, "precision": name} for name in precisions),
    ]
