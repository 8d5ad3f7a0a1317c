"""One field of a named recipe can be changed: ``recipe=published model.recipe.antialias=true``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.cli.parts import parts_of
from experiments.zero_shot import COMMAND
from gl_ris.errors import UserError
from gl_ris.recipe import Recipe
from gl_ris.zero_shot import ZeroShotRIS

PUBLISHED = {"base": "published", "antialias": True}


def recipe(*arguments: str) -> Any:
    return parts_of(COMMAND, ZeroShotRIS, list(arguments)).model.recipe


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {"named": "published", "fields": {"antialias": False}, "based": PUBLISHED}.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"model": {"recipe": content}}))


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "name", "changes"),
    [
        ("recipe=published", "published", {}),
        ("recipe.antialias=false", "clean", {"antialias": False}),
        ("recipe=published | recipe.antialias=true", "published", {"antialias": True}),
        ("recipe={base: published, antialias: true}", "published", {"antialias": True}),
        (
            "recipe={base: published, antialias: true} | recipe.text=as_given",
            "published",
            {"antialias": True, "text": "as_given"},
        ),
        (
            "recipe={antialias: false} | recipe.boxes=projection",
            "clean",
            {"antialias": False, "boxes": "projection"},
        ),
        (
            "recipe=published | recipe.antialias=true | recipe.boxes=tight",
            "published",
            {"antialias": True, "boxes": "tight"},
        ),
        ("--config=named.yaml | recipe.antialias=true", "published", {"antialias": True}),
        (
            "recipe.boxes=tight | --config=named.yaml | recipe.antialias=true",
            "published",
            {"antialias": True},
        ),
        (
            "--config=fields.yaml | recipe.boxes=projection",
            "clean",
            {"antialias": False, "boxes": "projection"},
        ),
        ("--config=based.yaml", "published", {"antialias": True}),
        ("--config=based.yaml | recipe.text=as_given", "published", {"antialias": True, "text": "as_given"}),
        ("data=refcoco | proposals=slic | recipe.antialias=true", "published", {"antialias": True}),
    ],
)
def test_a_field_changes_the_recipe_in_front_of_it(
    arguments: str, name: str, changes: dict[str, Any]
) -> None:
    assert recipe(*arguments.split(" | ")) == Recipe.named(name, **changes)


@pytest.mark.parametrize("given", ["published", "{base: published, antialias: false}"])
def test_a_field_changes_the_recipe_that_the_environment_names(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GL_RIS_MODEL__RECIPE", given)
    assert recipe("model.recipe.antialias=true") == Recipe.named("published", antialias=True)


@pytest.mark.usefixtures("files")
def test_a_field_changes_the_recipe_of_the_file_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GL_RIS_CONFIG", "named.yaml")
    assert recipe("model.recipe.antialias=true") == Recipe.named("published", antialias=True)


def test_methods_have_recipes_with_a_base_too() -> None:
    own = "{method: cropping, title: A, recipe: {base: published, skip_images_without_proposals: false"
    own += ", target_overlap: union, unseen: synonyms, text: as_given}}"
    changed = "{method: cropping, title: B, recipe: {antialias: false}}"
    variants = parts_of(COMMAND, ZeroShotRIS, [f"methods=[{own},{changed}]"]).model.variants
    assert [variant.recipe.boxes for variant in variants] == ["projection", "tight"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["recipe=publised", "recipe.antialias=true"],
            "Unknown recipe 'publised'. Did you mean 'published'?",
        ),
        (["recipe={antialais: true}"], "Unknown recipe field 'antialais'. Did you mean 'antialias'?"),
        (["recipe={base: publised}"], "Unknown recipe 'publised'. Did you mean 'published'?"),
        (["recipe={antialias: 3}"], "recipe.antialias=3 must be true or false."),
        (["recipe={text: foo}"], "Unknown value of recipe field 'text' 'foo'. Available: as_given, tokens."),
        (["recipe={working_size: abc}"], "recipe cannot be '{working_size: abc}'"),
        (["recipe={"], "recipe cannot be '{' (while parsing"),
        (
            ["recipe.antialais=true"],
            "Unknown option 'model.recipe.antialais'. Did you mean 'model.recipe.antialias'?",
        ),
    ],
)
def test_mistakes_are_told(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError) as raised:
        recipe(*arguments)
    assert said in str(raised.value)
