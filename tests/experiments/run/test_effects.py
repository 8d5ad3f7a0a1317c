from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from experiments.run.effects import ALL, BASE, POINTS, RecipeEffects, flips, other_recipe
from gl_ris.errors import UserError
from gl_ris.recipe import Recipe
from gl_ris.variants import WHOLE_RUN


def test_points_are_those_of_the_recipe_itself() -> None:
    """`Recipe` states the point of each field in its documentation."""
    found = re.findall(r"^\s+(\w+): \((\d+)\)", Recipe.__doc__ or "", re.MULTILINE)
    assert {name: int(point) for name, point in found} == POINTS
    assert list(POINTS) == [field.name for field in dataclasses.fields(Recipe)]


@pytest.mark.parametrize("base", ["clean", "published"])
def test_all_flips_together_are_the_other_recipe(base: str) -> None:
    own, other = Recipe.named(base), Recipe.named(other_recipe(base))
    changes = flips(base)
    assert own.replace(**changes) == other
    for name, value in changes.items():
        assert getattr(own, name) != value


@pytest.mark.parametrize("base", ["clean", "published"])
def test_there_is_a_variant_for_the_base_each_field_all_and_each_precision(base: str) -> None:
    model = RecipeEffects(recipe=base, precisions=["bf16", "fp16"])
    own = Recipe.named(base, skip_images_without_proposals=False)
    by_title = {variant.title: variant for variant in model.variants}
    assert by_title[BASE].recipe == own
    assert list(by_title) == [
        BASE,
        *(name for name in flips(base) if name not in WHOLE_RUN and POINTS[name] < 11),
        ALL,
        "bf16",
        "fp16",
    ]
    assert by_title["antialias"].recipe == own.replace(antialias=not own.antialias)
    whole_run = {name: getattr(own, name) for name in WHOLE_RUN}
    assert by_title[ALL].recipe == Recipe.named(other_recipe(base), **whole_run)
    assert (by_title["bf16"].recipe, by_title["bf16"].precision) == (own, "bf16")
    assert (by_title[ALL].precision, model.recipe) == ("fp32", own)


def test_a_field_of_one_method_has_a_variant_with_that_method_alone() -> None:
    own = {
        method: {
            variant.title for variant in RecipeEffects(method=method).variants if variant.title in POINTS
        }
        for method in ("cropping", "score_map", "region_token", "gl_ris.scorers.score_map.ScoreMap")
    }
    assert own["score_map"] - own["cropping"] == {"score_map_mask"}
    assert own["region_token"] - own["cropping"] == {"region_token_patches", "region_token_members"}
    assert own["gl_ris.scorers.score_map.ScoreMap"] == own["score_map"]


def test_more_rows_change_fields_of_later_methods() -> None:
    more = [{"local_prompt": "blur", "local_frame": "full"}, {"negatives": 1.0}]
    model = RecipeEffects(recipe="published", more=more)
    own = Recipe.named("published", skip_images_without_proposals=False)
    made = {variant.title: variant.recipe for variant in model.variants[-2:]}
    assert made == {
        "local_prompt=blur, local_frame=full": own.replace(local_prompt="blur", local_frame="full"),
        "negatives=1.0": own.replace(negatives=1.0),
    }
    assert list(model.more) == list(made)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"more": [{"local_promt": "blur"}]}, "Unknown recipe field 'local_promt'"),
        ({"more": [{"unseen": "names"}]}, "cannot have unseen=names for itself"),
        ({"recipe": "clan"}, "Unknown recipe 'clan'. Did you mean 'clean'"),
        ({"precisions": ["fp32"]}, "the base has fp32; give bf16 or fp16"),
        ({"precisions": ["bf16", "bf16"]}, "each once"),
        ({"precisions": "fp8"}, "Unknown precision 'fp8'"),
        ({"method": "global_locl"}, "Did you mean 'global_local'"),
        ({"alpha": 1.5}, "alpha=1.5 is out of range"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RecipeEffects(**settings)
