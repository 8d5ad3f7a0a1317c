"""The details that the paper leaves open, each as one named field.

Two recipes have names. ``clean`` does what the paper and the weights' own preprocessing say and counts
every miss; it is what `Recipe()` gives. ``published`` does what the published code does, which is needed to
reach the published numbers. The number in front of a field's description is the point of the published code
that it stands for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from gl_ris.errors import UserError, in_short, unknown_name
from gl_ris.files import read_table

_RECIPES = Path(__file__).parent / "assets" / "recipes.yaml"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# what most photographs show some of
NEGATIVE_TEXTS = (
    "a person", "an animal", "a vehicle", "a piece of furniture", "food", "a kitchen utensil", "a plant",
    "an electronic device", "a piece of clothing", "sports equipment", "a building", "a wall", "the ground",
    "the sky", "water",
)  # fmt: skip


@dataclass(frozen=True)
class Mixing:
    """How one kind of tower mixes and compares its features; fields of `Recipe` for that tower."""

    unit_map: bool  # L2-normalise the feature map over channels, position by position, before it is masked
    unit_global: bool  # L2-normalise the global visual feature (Eq. 3) before mixing (Eq. 5)
    unit_local: bool  # L2-normalise the local visual feature (Eq. 4) before mixing
    unit_text: bool  # L2-normalise both text features (Eqs. 6, 7) before mixing (Eq. 8)
    cosine: bool  # compare by cosine; a plain dot product if False


@dataclass(frozen=True)
class Recipe:
    """The details of scoring and evaluation; the defaults are the ``clean`` recipe.

    Attributes:
        normalization: (1) Mean and standard deviation of the image: the weights' own (``"clip"``) or
            ``"imagenet"``.
        working_size: (1) Short side in pixels that the image is first resized to (Pillow, bilinear), from
            which both the tower's input and the crops are then made; None makes them from the original
            image.
        interpolation: (2) Of the image and the crops: ``"weights"`` is what the weights were made with
            (bicubic or bilinear), ``"bilinear"`` always bilinear.
        antialias: (2) Antialias when the image and the crops are made smaller.
        grid_mask: (2) Mask on the feature grid: ``"area"`` is the covered share of each cell, so that a
            mask with a pixel never vanishes; ``"sampled"`` is bilinear interpolation without antialiasing,
            at which a small mask can vanish. Both in [0, 1].
        crop_fill: (3) RGB of the background of a crop, in *normalised* space: zeros are the mean colour.
        box_rounding: (3) Crop boxes to whole pixels: ``"cover"`` rounds outwards, ``"truncate"`` towards
            zero.
        boxes: (4) Crop boxes when the caller gives none: ``"tight"`` around the mask, or ``"projection"``,
            FreeSOLO's own (see `gl_ris.masks.projection_boxes`).
        vit_unit_visual: (5) VisionTransformer: normalise global and local feature before mixing.
        vit_unit_text: (5) VisionTransformer: normalise both text features before mixing.
        resnet_unit_map: (6) ModifiedResNet: normalise the feature map over channels before masking.
        resnet_unit_global: (6) ModifiedResNet: normalise the global feature before mixing.
        resnet_unit_local: (6) ModifiedResNet: normalise the local feature before mixing.
        resnet_unit_text: (6) ModifiedResNet: normalise both text features before mixing.
        resnet_cosine: (6) ModifiedResNet: compare by cosine; a plain dot product if False.
        text: (7) Expressions ``"as_given"``, or ``"tokens"``: in lower case, spaCy's tokens joined by
            single blanks, and noun phrases that may be pronouns (see `gl_ris.text.noun_phrases`).
        skip_images_without_proposals: (8) Leave such images out of the metrics instead of counting misses.
        target_overlap: (9) Pixels under two polygons of one annotation: ``"union"`` keeps them,
            ``"sum_equals_one"`` makes them background.
        unseen: (10) Which phrases of PhraseCut the label "Unseen" stands for: those whose category is not
            literally one of COCO's 80 names (``"names"``; "man" and "table" are unseen then), or those whose
            category is no word for one of COCO's classes (``"synonyms"``). A label alone: both are counted
            in every run, see `gl_ris.tally`.
        region_token_patches: (11) Region token: patches lie on the cells of the grid (``"cells"``), or are
            centred on the cells' upper left corners (``"corners"``), as in Adapting CLIP.
        region_token_members: (11) Region token: a region has the patches whose cells the mask covers by half
            (``"covered"``), or those at whose cells' upper left corners the mask has a pixel (``"nearest"``:
            where patches on ``"corners"`` are centred; a region without a patch sees itself alone).
        score_map_mask: (12) Score map: the mask is brought to the map's ``"grid"``, as the paper says, or the
            map to the mask's ``"pixels"`` (bilinear).
        grad_cam_pooling: (13) Grad-CAM: ``"sum"`` or ``"mean"`` of the map inside the mask. Neither the paper
            nor the published code says which; both recipes sum.
        local_prompt: (14) Picture of a mask in the local branch: ``"crop"`` has ``crop_fill`` outside the
            mask, ``"blur"`` and ``"grey"`` the image blurred or grey; ``"contour"`` and ``"ellipse"`` draw a
            red line around the mask or its box; see `gl_ris.clip.prompts`. Points 14 and 15 are of later
            methods (FGVP); both recipes do without.
        local_frame: (14) Of that picture: the ``"crop"`` by the box, or the ``"full"`` image.
        negatives: (15) Weight of the mean similarity to ``negative_texts``, which is subtracted from that to
            the expression; 1 in FGVP. For methods that use `Scorer.similarity`: Global-Local and Cropping.
        negative_texts: (15) The texts for it, written as sentences are. FGVP draws 500 expressions of the
            split anew for each one, so that its scores depend on chance and on what else is asked; here it is
            a list, by default of what photographs show.
        heat: (16) Heat map, HybridGL: the map, see `gl_ris.heat.heat_maps`; ``"auto"`` is gem on a ViT and
            maskclip on a ResNet.
        heat_rule: (16) Heat map: from the map to scores, see `gl_ris.heat.mask_scores`.
        heat_size: (16) Heat map, HybridGL: side in pixels of what the map is made from (GEM has 448); None
            is the weights' own.
        hybrid_mode: (17) HybridGL: the stream that is fed, ``"g2l"`` the local, ``"l2g"`` the global one.
        hybrid_guidance: (17) HybridGL: ranks the best masks anew by ``"relation"``, ``"coherence"``, both
            (``"full"``) or ``"none"``.
        hybrid_position: (17) HybridGL: places that weigh the map; its code has no top and bottom.
        hybrid_relation: (17) HybridGL: in ``"published"`` the word "right" is never a relation.
        hybrid_candidates: (17) HybridGL: at most three masks, six for anchors, of each ``"image"``; or as
            many as the smallest image of the ``"run"`` so far has, in each process and anew where a run goes
            on, so that figures depend on the order of images.
        hybrid_full_frame: (17) HybridGL: a mask of the whole image is in and outside as warm as the map
            (``"even"``); or such a candidate ``"wins"``, as 0 / 0 does in its code.
        hybrid_fill: (17) HybridGL: RGB around a mask, in *normalised* space; its code has CLIP's mean there.
    """

    normalization: Literal["clip", "imagenet"] = "clip"
    working_size: int | None = None
    interpolation: Literal["weights", "bilinear"] = "weights"
    antialias: bool = True
    grid_mask: Literal["area", "sampled"] = "area"
    crop_fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
    box_rounding: Literal["cover", "truncate"] = "cover"
    boxes: Literal["tight", "projection"] = "tight"
    vit_unit_visual: bool = True
    vit_unit_text: bool = True
    resnet_unit_map: bool = False
    resnet_unit_global: bool = True
    resnet_unit_local: bool = True
    resnet_unit_text: bool = True
    resnet_cosine: bool = True
    text: Literal["as_given", "tokens"] = "as_given"
    skip_images_without_proposals: bool = False
    target_overlap: Literal["union", "sum_equals_one"] = "union"
    unseen: Literal["synonyms", "names"] = "synonyms"
    region_token_patches: Literal["cells", "corners"] = "cells"
    region_token_members: Literal["covered", "nearest"] = "covered"
    score_map_mask: Literal["grid", "pixels"] = "grid"
    grad_cam_pooling: Literal["sum", "mean"] = "sum"
    local_prompt: Literal["crop", "blur", "grey", "contour", "ellipse"] = "crop"
    local_frame: Literal["crop", "full"] = "crop"
    negatives: float = 0.0
    negative_texts: tuple[str, ...] = NEGATIVE_TEXTS
    heat: Literal["auto", "maskclip", "sclip", "clearclip", "naclip", "gem"] = "auto"
    heat_rule: Literal["in", "in_out", "balanced", "peak", "sum_sqrt_area"] = "in_out"
    heat_size: int | None = None
    hybrid_mode: Literal["g2l", "l2g", "both"] = "g2l"
    hybrid_guidance: Literal["full", "relation", "coherence", "none"] = "full"
    hybrid_position: Literal["all", "horizontal", "none"] = "all"
    hybrid_relation: Literal["fixed", "published"] = "fixed"
    hybrid_candidates: Literal["image", "run"] = "image"
    hybrid_full_frame: Literal["even", "wins"] = "even"
    hybrid_fill: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Check every value."""
        for field, kind in get_type_hints(type(self)).items():
            value, allowed = getattr(self, field), get_args(kind)
            if isinstance(allowed[0] if allowed else None, str) and value not in allowed:
                raise unknown_name(f"value of recipe field '{field}'", value, allowed)
            if kind is bool and not isinstance(value, bool):
                raise UserError(f"recipe.{field}={value!r} must be true or false.")
        for field in ("working_size", "heat_size"):
            if (size := getattr(self, field)) is not None and not size >= 1:
                raise UserError(f"recipe.{field}={size} must be a length in pixels or null.")
        for field in ("crop_fill", "hybrid_fill"):
            if len(colour := getattr(self, field)) != 3:
                raise UserError(f"recipe.{field}={colour!r} must be three numbers.")
            # A list from a configuration file would make the recipe unhashable.
            object.__setattr__(self, field, tuple(float(value) for value in colour))
        weight, texts = self.negatives, self.negative_texts
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight < math.inf:
            raise UserError(f"recipe.negatives={weight!r} must be a weight, 0 or more.")
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise UserError(
                f"recipe.negative_texts={texts!r} must be a list of texts, e.g. [a person, water]."
            )
        object.__setattr__(self, "negative_texts", tuple(texts))

    @classmethod
    def named(cls, name: str, **changes: Any) -> Recipe:
        """Return the recipe of a name, ``"published"`` or ``"clean"``, with the given fields changed.

        `UserError` for no such recipe or field, or a value that is not allowed.

        Example:
            >>> Recipe.named("published", antialias=True).normalization
            'imagenet'
        """
        named = {"clean": {}, **read_table(_RECIPES)}
        if name not in named:
            raise unknown_name("recipe", name, named)
        return cls(**named[name]).replace(**changes)

    @classmethod
    def resolve(cls, recipe: str | Recipe | Mapping[str, Any]) -> Recipe:
        """Return a recipe for a name, a recipe, or fields with the ``base`` whose others they leave.

        Fields may also be given as YAML; without a ``base`` they change the clean recipe. `UserError` if no
        recipe has that name, or it has a field or value that is none.

        Example:
            >>> Recipe.resolve({"base": "published", "antialias": True}).normalization
            'imagenet'
        """
        import yaml

        if isinstance(recipe, Recipe):
            return recipe
        try:
            # the command line hands over as text what it cannot read as a recipe
            given = yaml.safe_load(recipe) if isinstance(recipe, str) and "{" in recipe else recipe
            known = given if isinstance(given, Mapping) else {"base": given}
            fields = {str(name): value for name, value in known.items()}
            return cls.named(fields.pop("base", "clean"), **fields)
        except (TypeError, yaml.YAMLError) as error:
            raise UserError(
                f"recipe cannot be '{recipe}' ({in_short(error)}); give a name, or fields such as "
                "{base: published, antialias: true}."
            ) from error

    def replace(self, **changes: Any) -> Recipe:
        """Return the recipe with some fields changed; `UserError` for no such field or value."""
        fields = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in fields:
                raise unknown_name("recipe field", name, fields)
        return dataclasses.replace(self, **changes)

    def mixing(self, tower: str) -> Mixing:
        """Return how features are mixed and compared for a kind of tower, ``"vit"`` or ``"resnet"``."""
        return {
            "vit": Mixing(False, self.vit_unit_visual, self.vit_unit_visual, self.vit_unit_text, True),
            "resnet": Mixing(
                self.resnet_unit_map,
                self.resnet_unit_global,
                self.resnet_unit_local,
                self.resnet_unit_text,
                self.resnet_cosine,
            ),
        }[tower]
