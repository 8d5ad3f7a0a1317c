"""Broken settings, files and folders: one sentence and code 2, whichever way they come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from experiments import recipe_effects, sweep, tables, zero_shot

Refusal = Callable[..., str]


@pytest.mark.parametrize("command", [zero_shot, sweep], ids=lambda c: c.COMMAND.name)
@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("{a", "recipe cannot be '{a' (while parsing a flow mapping"),
        ('"x', "Unknown recipe '\"x'. Available: clean, published."),
        ("@", "Unknown recipe '@'. Available: clean, published."),
        ("{antialais: true}", "Unknown recipe field 'antialais'. Did you mean 'antialias'?"),
        ("{1: 2}", "Unknown recipe field '1'"),
        ("{normalization: 3}", "Unknown value of recipe field 'normalization' '3'"),
        ("{working_size: x}", "recipe cannot be '{working_size: x}' ('>=' not supported"),
    ],
)
def test_a_broken_recipe(command: object, recipe: str, said: str, refusal: Refusal) -> None:
    assert said in refusal(command, f"recipe={recipe}")
    assert said in refusal(command, f"--model.recipe={recipe}", "model.recipe.boxes=tight")


@pytest.mark.parametrize("recipe", ["{a", "@", "{antialias: true}"])
def test_recipe_effects_take_names_only(recipe: str, refusal: Refusal) -> None:
    assert f"Unknown recipe '{recipe}'" in refusal(recipe_effects, f"recipe={recipe}")


@pytest.mark.parametrize("command", [zero_shot, sweep, recipe_effects, tables], ids=lambda c: c.COMMAND.name)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model: {alpha: 0.5\ndata: [", "is not YAML: expected ',' or '}', but got ':' in line 2."),
        (bytes(range(256)), "is not YAML: it is not text"),
        (b"rows:\n\tx: 1", "is not YAML: found character '\\t'"),
        (b"title: !!python/object:os.system {}", "is not YAML: could not determine a constructor"),
        (b"1: 2", "must hold options such as 'model: {alpha: 0.5}'"),
        (b"data: [{1: {}}]", "must hold options such as"),
        (None, "cannot be read: Is a directory"),
    ],
    ids=["half", "binary", "tab", "tag", "number-for-a-name", "deep-number-for-a-name", "folder"],
)
def test_a_broken_configuration_file(
    command: object, content: bytes | None, said: str, refusal: Refusal, tmp_path: Path
) -> None:
    file = tmp_path / "file.yaml"
    file.mkdir() if content is None else file.write_bytes(content)
    error = refusal(command, f"--config={file}")
    assert f"The configuration file '{file}' " in error
    assert said in error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model: 3", "model cannot be '3'; it holds options, as in model.NAME=VALUE."),
        ("model: [a]", "model cannot be '['a']'; it holds options"),
        ("trainer: 3", "trainer cannot be '3'; it holds options"),
        ("model:", "model cannot be 'None'; it holds options, as in model.NAME=VALUE."),
        ("data: 3", "data must be RISDataModule or null, not '3'"),
        ("model: {alpha: [1]}", "model.alpha must be a number, not '[1]'"),
    ],
)
def test_a_value_in_the_place_of_options(content: str, said: str, refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(content)
    assert said in refusal(zero_shot, f"--config={tmp_path / 'file.yaml'}")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GL_RIS_MODEL__ALPHA", "{a", "model.alpha must be a number, not '{a'"),
        ("GL_RIS_MODEL__RECIPE", "{a", "recipe cannot be '{a' ("),
        ("GL_RIS_MODEL", "3", "model cannot be '3'"),
        (
            "GL_RIS_CONFIG",
            "/nowhere.yaml",
            "The configuration file '/nowhere.yaml' cannot be read: No such file",
        ),
    ],
)
def test_a_broken_environment(
    name: str, value: str, said: str, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert said in refusal(zero_shot, "limit=2")


@pytest.mark.parametrize("command", [zero_shot, tables], ids=lambda c: c.COMMAND.name)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file", "is a file; name another one by run_dir=FOLDER."),
        ("file/below", "cannot be made (Not a directory); name another one by run_dir=FOLDER."),
        ("x" * 300, "cannot be made (File name too long); name another one by run_dir=FOLDER."),
    ],
    ids=["file", "below-a-file", "long"],
)
def test_a_run_folder_that_cannot_be(
    command: object, name: str, said: str, refusal: Refusal, toy: list[str], toy_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    own = {"class_path": "datamodules.RefCOCO", "init_args": {"root": str(toy_root), "dataset": "toy"}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"data": [own], "rows": [{"method": "random"}]}))
    arguments = toy if command is zero_shot else [f"table={tmp_path / 'own.yaml'}", "proposals=ground_truth"]
    error = refusal(command, *arguments, f"run_dir={tmp_path / name}")
    assert f"The run folder '{tmp_path / name}' {said}" in error


@pytest.mark.parametrize("cache", ["file", "file/below"])
def test_a_cache_that_cannot_be_written_to(
    cache: str, refusal: Refusal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / cache))
    error = refusal(zero_shot, "data=refshapesg", "limit=2")
    assert f"The cache folder '{tmp_path / cache}' cannot be written to (" in error
    assert "set GL_RIS_CACHE to one that can." in error
