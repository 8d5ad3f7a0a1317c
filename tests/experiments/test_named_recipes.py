from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from experiments.named_recipes import spelled_out
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
    *_, fields, last = spelled_out([token.replace("FILE", str(file)) for token in args], defaults)
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
    assert list(spelled_out(args, defaults)) == args


def test_second_field_changes_the_first_one_no_more(defaults: Path) -> None:
    args = ["--model.recipe=published", "--model.recipe.antialias=true", "--model.recipe.boxes=tight"]
    assert list(spelled_out(args, defaults))[2:] == args[1:]


def test_an_unknown_name_is_told(defaults: Path) -> None:
    with pytest.raises(UserError, match="publised"):
        list(spelled_out(["--model.recipe=publised", "--model.recipe.antialias=true"], defaults))
