from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gl_ris.errors import UserError
from gl_ris.recipe import Recipe


def test_clean_is_the_default() -> None:
    assert Recipe.named("clean") == Recipe() == Recipe.resolve("clean")


def test_published_differs_from_clean_in_every_field_but_those_that_agree() -> None:
    clean, published = Recipe.named("clean"), Recipe.named("published")
    same = {
        field.name
        for field in dataclasses.fields(Recipe)
        if getattr(clean, field.name) == getattr(published, field.name)
    }
    later = {
        "local_prompt",
        "local_frame",
        "negatives",
        "negative_texts",
        "heat",
        "heat_rule",
        "hybrid_mode",
        "hybrid_guidance",
    }
    assert same == {"resnet_unit_local", "resnet_unit_text", "grad_cam_pooling"} | later


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Recipe)])
def test_each_field_can_be_set_alone(name: str) -> None:
    published = Recipe.named("published")
    value = getattr(Recipe.named("clean"), name)
    changed = Recipe.named("published", **{name: value})
    assert dataclasses.asdict(changed) == {**dataclasses.asdict(published), name: value}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"antialas": True}, "Unknown recipe field 'antialas'. Did you mean 'antialias'"),
        ({"boxes": "tigth"}, "recipe field 'boxes' 'tigth'. Did you mean 'tight'"),
        ({"antialias": "yes"}, "recipe.antialias='yes' must be true or false"),
        ({"working_size": 0}, "recipe.working_size=0 must be a length in pixels or null"),
        ({"crop_fill": (0.0, 1.0)}, r"recipe.crop_fill=\(0.0, 1.0\) must be three numbers"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe.named("clean", **changes)


def test_unknown_recipe() -> None:
    with pytest.raises(UserError, match=r"Unknown recipe 'publishd'\. Did you mean 'published'"):
        Recipe.resolve("publishd")


def test_a_recipe_from_a_file_is_hashable() -> None:
    assert hash(Recipe(crop_fill=[0, 0, 0])) == hash(Recipe())  # type: ignore[arg-type]
