from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from experiments.cli.named_recipes import recipe_in, spelled_out
from gl_ris.errors import UserError


@pytest.fixture
def defaults(tmp_path: Path) -> Path:
    path = tmp_path / "defaults.yaml"
    path.write_text("model: {recipe: clean}\n")
    return path


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param(["--model.recipe.antialias=false"], {"normalization": "clip"}, id="default"),
        pytest.param(
            ["--model.recipe=published", "--model.recipe.antialias=true"],
            {"normalization": "imagenet", "working_size": 800},
            id="name on the command line",
        ),
        pytest.param(
            ["--config=FILE", "--model.recipe.antialias=true"],
            {"normalization": "imagenet", "boxes": "projection"},
            id="name in a file",
        ),
    ],
)
def test_a_field_behind_a_name_changes_that_recipe(
    args: list[str], expected: dict[str, object], defaults: Path, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"model": {"recipe": "published"}}))
    *_, fields, last = spelled_out([token.replace("FILE", str(file)) for token in args], recipe_in(defaults))
    assert last == args[-1]
    spelled = json.loads(fields.removeprefix("--model.recipe="))
    assert {name: spelled[name] for name in expected} == expected


@pytest.mark.parametrize(
    "args",
    [
        ["--model.recipe=published"],
        ["--model.recipe=published", "--model.alpha=0.5"],
        ['--model.recipe={"antialias": false}', "--model.recipe.boxes=tight"],
        ["--model.recipe.help"],
        [],
    ],
)
def test_all_else_stays_as_it_is(args: list[str], defaults: Path) -> None:
    assert list(spelled_out(args, recipe_in(defaults))) == args


def test_second_field_changes_the_first_one_no_more(defaults: Path) -> None:
    args = ["--model.recipe=published", "--model.recipe.antialias=true", "--model.recipe.boxes=tight"]
    assert list(spelled_out(args, recipe_in(defaults)))[2:] == args[1:]


def test_an_unknown_name_is_told(defaults: Path) -> None:
    with pytest.raises(UserError, match="publised"):
        list(spelled_out(["--model.recipe=publised", "--model.recipe.antialias=true"], recipe_in(defaults)))


@pytest.mark.parametrize(
    ("earlier", "normalization"),
    [
        (("published", "clean"), "imagenet"),
        ((None, "published"), "imagenet"),
        (("clean", "published"), "clip"),
    ],
)
def test_what_was_read_last_before_the_command_line_is_the_one_that_is_changed(
    earlier: tuple[str | None, ...], normalization: str
) -> None:
    fields, _ = spelled_out(["--model.recipe.antialias=true"], *earlier)
    assert json.loads(fields.removeprefix("--model.recipe="))["normalization"] == normalization


def test_a_field_changes_the_recipe_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.cli.parts import parts_of
    from experiments.zero_shot import COMMAND
    from gl_ris.recipe import Recipe
    from gl_ris.zero_shot import ZeroShotRIS

    monkeypatch.setenv("GL_RIS_MODEL__RECIPE", "published")
    cli = parts_of(COMMAND, ZeroShotRIS, ["model.recipe.antialias=true"])
    assert cli.model.recipe == Recipe.named("published", antialias=True)
