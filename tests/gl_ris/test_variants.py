from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gl_ris.errors import UserError
from gl_ris.recipe import Recipe
from gl_ris.variants import resolve_variants
from gl_ris.zero_shot import ZeroShotRIS

DEFAULTS = {
    "alpha": 0.85,
    "beta": 0.5,
    "masked_blocks": 3,
    "recipe": Recipe(),
    "clip": "ViT-B-32-quickgelu",
    "pretrained": "openai",
}


def test_what_a_variant_leaves_out_is_as_for_the_others() -> None:
    plain, own = resolve_variants(
        ["cropping", {"method": "global_local", "title": "local text", "alpha": 1, "beta": 0.0}], DEFAULTS
    )
    assert (plain.method, plain.title, plain.alpha, plain.beta) == ("cropping", "Cropping", 0.85, 0.5)
    assert (own.title, own.alpha, own.beta) == ("local text", 1.0, 0.0)
    assert (own.masked_blocks, own.recipe, own.clip, own.pretrained) == (
        3,
        Recipe(),
        "ViT-B-32-quickgelu",
        "openai",
    )


def test_one_mapping_is_a_list_of_one() -> None:
    (one,) = resolve_variants({"method": "random", "title": "Floor"}, DEFAULTS)
    assert (one.method, one.title) == ("random", "Floor")


def test_fields_of_a_recipe_change_the_recipe_of_the_run() -> None:
    defaults = {**DEFAULTS, "recipe": Recipe.named("published")}
    named, changed = resolve_variants(
        [{"method": "cropping", "recipe": "published"}, {"method": "random", "recipe": {"antialias": True}}],
        defaults,
    )
    assert named.recipe == Recipe.named("published")
    assert changed.recipe == Recipe.named("published", antialias=True)


def test_only_what_mixes_by_shares_speaks_of_those_of_another_world() -> None:
    drawn = {"alpha": 0.4, "beta": 0.75, "masked_blocks": 1, "clip": "ViT-B-32-quickgelu"}
    mixing, cropping = resolve_variants(["global_local", "cropping"], {**DEFAULTS, **drawn})
    assert "ViT-B-32-quickgelu has alpha=0.4 beta=0.75 masked_blocks=1" in str(mixing.foreign_shares)
    assert cropping.foreign_shares is None


def test_weights_belong_to_the_clip_that_is_named_with_them() -> None:
    shipped, other = resolve_variants(
        [
            {"method": "cropping", "clip": "refshapes-vit"},
            {"method": "random", "clip": "RN50", "pretrained": "yfcc15m"},
        ],
        DEFAULTS,
    )
    assert (shipped.clip, shipped.pretrained) == ("refshapes-vit", None)
    assert (other.clip, other.pretrained) == ("RN50", "yfcc15m")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ([{"method": "cropping", "alhpa": 1}], "Did you mean 'alpha'"),
        ([{"title": "A"}], "lacks the method"),
        ([{"method": "cropping"}, "cropping"], "'Cropping' is there 2 times: give each a title"),
        ([{"method": "cropping", "title": "Random"}, "random"], "'Random' is there 2 times"),
        ([{"method": "croping"}], "Did you mean 'cropping'"),
        ([{"method": "cropping", "alpha": 1.5}], "alpha=1.5 is out of range"),
        ([{"method": "cropping", "beta": float("nan")}], "beta=nan is out of range"),
        ([{"method": "cropping", "alpha": "much"}], "'alpha' of method 'cropping' must be a share"),
        ([{"method": "cropping", "alpha": True}], "must be a share from 0 to 1, not True"),
        ([{"method": "cropping", "masked_blocks": 1.5}], "must be a whole number"),
        (
            [{"method": "cropping", "precision": "fp8"}],
            "Unknown precision 'fp8'. Available: bf16, fp16, fp32",
        ),
        ([{"method": "cropping", "title": ""}], "'title' of method 'cropping' must be a text"),
        ([{"method": ["cropping"]}], "must be a name or the path of a class"),
        ([{"method": "cropping", "recipe": "clan"}], "Did you mean 'clean'"),
        ([{"method": "cropping", "recipe": {"antilias": True}}], "Did you mean 'antialias'"),
        ([["cropping"]], "A method is a name or a mapping"),
        ([{"method": "cropping", "recipe": {"target_overlap": "sum_equals_one"}}], "set model.recipe.target"),
        ([{"method": "cropping", "recipe": "published"}], "it is of the whole run"),
    ],
)
def test_wrong_variants_are_refused_with_the_fix(methods: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_variants(methods, DEFAULTS)


def test_variants_of_one_model_share_it_and_other_models_are_loaded_once(
    clip_folder: Callable[..., Path],
) -> None:
    vit, resnet = (f"local-dir:{clip_folder(kind)}" for kind in ("vit", "resnet"))
    model = ZeroShotRIS(
        vit,
        methods=[
            "global_local",
            {"method": "cropping", "title": "A"},
            {"method": "cropping", "title": "B", "clip": resnet},
            {"method": "global_local", "title": "C", "clip": resnet, "masked_blocks": 1},
        ],
    )
    model.configure_model()
    first, second, third, fourth = model.scorers
    assert first.clip is second.clip
    assert third.clip is fourth.clip
    assert [clip.name for clip in model.clips] == [vit, resnet]
    assert (third.clip.name, fourth.masked_blocks, first.masked_blocks) == (resnet, 1, 3)


def test_one_model_in_two_precisions_is_two_models(clip_folder: Callable[..., Path]) -> None:
    half = {"method": "global_local", "title": "half", "precision": "bf16"}
    model = ZeroShotRIS(f"local-dir:{clip_folder('vit')}", methods=["global_local", half, "cropping"])
    model.configure_model()
    dtypes = [clip.model.visual.conv1.weight.dtype for clip in model.clips]
    assert dtypes == [torch.float32, torch.bfloat16]
    whole, half_scorer, cropping = model.scorers
    assert whole.clip is cropping.clip
    image, masks = torch.zeros(3, 20, 30, dtype=torch.uint8), torch.ones(2, 20, 30, dtype=torch.bool)
    assert half_scorer(image, masks, ["a star"], ["a star"]).dtype == torch.float32
    (all_half,) = ZeroShotRIS("ViT-B-32", methods="global_local", precision="fp16").variants
    assert all_half.model == ("ViT-B-32", None, "fp16")
