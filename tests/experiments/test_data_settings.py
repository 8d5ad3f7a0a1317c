"""The ready-made settings of data sets: each is one command away from the figures of the paper's Table 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import LightningModule

import datamodules.known  # noqa: F401  so that its classes are known by their short names
from datamodules.base import RISDataModule
from experiments.cli.command import CONFIGS, Command
from experiments.cli.parts import ExperimentCLI
from experiments.fewshot import FewShotSettings
from experiments.recipe_effects import COMMAND as EFFECTS
from experiments.run.effects import RecipeEffects
from experiments.run.evaluate import check_targets
from experiments.run.training import supervised_parts
from experiments.supervised import COMMAND as SUPERVISED
from experiments.sweep import COMMAND as SWEEP
from experiments.unseen_domain import UnseenSettings
from experiments.zero_shot import COMMAND as ZERO_SHOT
from gl_ris.errors import UserError
from gl_ris.recipe import Recipe
from gl_ris.sweep import Sweep
from gl_ris.zero_shot import ZeroShotRIS

FILES = sorted((CONFIGS / "data").glob("*.yaml"))
# METHOD_FACTS sections 1 and 4: partition and alpha of the paper's four evaluations, and their splits
PAPER: dict[str, tuple[str, str, float, tuple[str, ...]]] = {
    "refcoco": ("refcoco", "unc", 0.95, ("val", "testA", "testB")),
    "refcoco+": ("refcoco+", "unc", 0.95, ("val", "testA", "testB")),
    "refcocog": ("refcocog", "umd", 0.85, ("val", "test")),
    "refcocog-google": ("refcocog", "google", 0.85, ("val",)),
}


def parse(command: Command, model: Any, *arguments: str) -> ExperimentCLI:
    """Parse with proposals that need no file of weights."""
    return ExperimentCLI(command, model, RISDataModule, args=[*arguments, "proposals=felzenszwalb"])


def header(file: Path) -> list[str]:
    """Return the arguments of the command in a file's first line."""
    line = file.read_text(encoding="utf-8").splitlines()[0]
    program, *arguments = line.removeprefix("# python -m ").split()
    assert program == "experiments.zero_shot"
    return arguments


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_in_the_header_takes_the_file(file: Path) -> None:
    assert f"data={file.stem}" in header(file)
    cli = parse(ZERO_SHOT, ZeroShotRIS, *header(file))
    own = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert cli.config.data.class_path.endswith(own["data"]["class_path"].rpartition(".")[2])
    for name, value in own["data"].get("init_args", {}).items():
        assert cli.config.data.init_args[name] == value
    check_targets(cli.model.recipe.target_overlap, cli.datamodule)


@pytest.mark.parametrize(
    ("command", "model"), [(SWEEP, Sweep), (EFFECTS, RecipeEffects)], ids=["sweep", "effects"]
)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_other_commands_take_the_file(file: Path, command: Command, model: Any) -> None:
    cli = parse(command, model, f"data={file.stem}")
    assert isinstance(cli.datamodule, RISDataModule)


@pytest.mark.parametrize(
    ("command", "model"),
    [(ZERO_SHOT, ZeroShotRIS), (SWEEP, Sweep), (EFFECTS, RecipeEffects)],
    ids=["zero_shot", "sweep", "effects"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_a_shipped_model_does_not_take_the_weights_that_the_data_setting_names(
    command: Command, model: Any, order: int
) -> None:
    cli = parse(command, model, *["data=refcoco", "clip=refshapes-vit"][::order])
    assert (cli.config.model.clip, cli.config.model.pretrained) == ("refshapes-vit", None)
    own = parse(command, model, *["data=refcoco", "clip=RN50-quickgelu"][::order])
    assert own.config.model.pretrained == "openai"


@pytest.mark.parametrize("settings", [FewShotSettings, UnseenSettings])
def test_nor_does_it_in_a_comparison(settings: Any) -> None:
    arguments = settings.sort_out(["data=refcoco", "clip=refshapes-vit", "proposals=felzenszwalb"])
    given = json.loads(next(a for a in arguments if "zero_shot" in a).partition("=")[2])
    cell = settings(zero_shot=given).zero_shot_cell("name", "label", ("refcoco", "val"))
    model = parse(ZERO_SHOT, ZeroShotRIS, *cell.arguments).config.model
    assert (model.clip, model.pretrained) == ("refshapes-vit", None)


class Bare(LightningModule):
    """A model of another command, which has one of the options that the settings of data sets bring."""

    def __init__(self, recipe: Recipe | str = "clean", alpha_of_its_own: float = 0.0) -> None:
        super().__init__()
        self.recipe = recipe


def bare(*arguments: str) -> ExperimentCLI:
    command = Command("proposals", "", (), {"recipe": "model.recipe", "alpha": "model.alpha"}, ("data",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Command, "config", CONFIGS / "data" / "refshapes.yaml")
        return ExperimentCLI(command, Bare, RISDataModule, args=list(arguments))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_command_takes_of_the_file_what_it_knows(file: Path) -> None:
    own = yaml.safe_load(file.read_text(encoding="utf-8"))
    cli = bare(f"data={file.stem}")
    assert cli.config.data.class_path.endswith(own["data"]["class_path"].rpartition(".")[2])
    assert cli.config.model.recipe == own.get("model", {}).get("recipe", "clean")
    assert set(cli.config.model.as_dict()) == {"recipe", "alpha_of_its_own"}


@pytest.mark.parametrize("option", ["alpha=0.5", "model.clip=RN50", "model.proposals=null", "--config=FILE"])
def test_what_a_user_gives_must_be_known(option: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text((CONFIGS / "data" / "refcoco.yaml").read_text())
    with pytest.raises(UserError, match=r"Unknown option 'model\.(alpha|clip|proposals)'"):
        bare("data=refcoco", option.replace("FILE", str(tmp_path / "own.yaml")))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("baseline", ["lavt", "cris"])
def test_supervised_models_take_the_file(file: Path, baseline: str) -> None:
    cli = supervised_parts(SUPERVISED, [f"baseline={baseline}", f"data={file.stem}", "k=64"])
    assert isinstance(cli.datamodule, RISDataModule)
    assert cli.config.training.k == 64


@pytest.mark.parametrize(
    ("name", "split"), [(name, split) for name, row in PAPER.items() for split in row[3]], ids="-".join
)
def test_a_data_set_of_the_paper_comes_with_the_settings_of_the_paper(name: str, split: str) -> None:
    dataset, partition, alpha, _ = PAPER[name]
    cli = parse(ZERO_SHOT, ZeroShotRIS, f"data={name}", f"split={split}")
    data, model = cli.datamodule, cli.model
    assert (data.dataset_name, data.partition, data.split) == (dataset, partition, split)
    assert (data.rule, model.recipe) == ("sum_equals_one", Recipe.named("published"))
    assert (model.alpha, model.beta) == (alpha, 0.5)
    (variant,) = model.variants
    assert (variant.masked_blocks, variant.model) == (3, ("ViT-B-32-quickgelu", "openai", "fp32"))
    assert variant.foreign_shares is None


@pytest.mark.parametrize("chosen", ["proposals=freesolo", "model.proposals=gl_ris.proposals.FreeSOLO"])
def test_generators_hand_nothing_on_to_each_other(chosen: str) -> None:
    def settings(*arguments: str) -> dict[str, Any]:
        cli = ExperimentCLI(ZERO_SHOT, ZeroShotRIS, RISDataModule, args=list(arguments))
        return dict(cli.config.model.proposals.init_args)

    assert settings()["max_count"] == 20  # SLIC's, the default
    assert settings(chosen)["max_count"] == 100
    assert settings(chosen, "proposals.max_count=7")["max_count"] == 7


@pytest.mark.parametrize("name", [*PAPER, "phrasecut"])
def test_a_data_set_of_the_paper_wants_the_proposals_of_the_paper(name: str, tmp_path: Path) -> None:
    own = yaml.safe_load((CONFIGS / "data" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert own["model"]["proposals"]["class_path"] == "gl_ris.proposals.FreeSOLO"
    missing = f"model.proposals.weights={tmp_path / 'none.pth'}"
    with pytest.raises(
        UserError, match=r"FreeSOLO: there is no file of weights .*none\.pth.*download freesolo"
    ):
        ExperimentCLI(ZERO_SHOT, ZeroShotRIS, RISDataModule, args=[f"data={name}", missing])


# rows of later methods: model, method, what ranks anew
LATER = {
    "hybridgl": ("ViT-B-16-quickgelu", "hybrid_gl", "none"),
    "global-local-full": ("ViT-B-32-quickgelu", "global_local", "full"),
}


@pytest.mark.parametrize("row", LATER)
def test_a_row_of_a_later_method_is_one_command(row: str) -> None:
    arguments = header(CONFIGS / "row" / f"{row}.yaml")
    assert f"row={row}" in arguments
    # what makes proposals is another, without weights
    own = [argument for argument in arguments if not argument.startswith("proposals")]
    (variant,) = parse(ZERO_SHOT, ZeroShotRIS, *own).model.variants
    assert (variant.clip, variant.method, variant.rerank) == LATER[row]
    assert (variant.pretrained, variant.recipe) == ("openai", Recipe.named("published"))


def test_every_row_of_table_1_is_one_command() -> None:
    table = yaml.safe_load((CONFIGS / "tables" / "1.yaml").read_text(encoding="utf-8"))
    wanted = {(row["method"], row["encoder"]) for row in table["rows"] if "encoder" in row}
    clips = {"rn": "RN50-quickgelu", "vit": "ViT-B-32-quickgelu"}
    found = set()
    for file in (CONFIGS / "row").glob("*.yaml"):
        if file.stem in LATER:
            continue
        cli = parse(ZERO_SHOT, ZeroShotRIS, *header(file))
        (variant,) = cli.model.variants
        method, _, encoder = file.stem.replace("-", "_").rpartition("_")
        assert variant.model[:2] == (clips[encoder], "openai")
        assert cli.config.model.methods == [method]
        assert cli.model.recipe == Recipe.named("published")
        found.add((method, encoder))
    assert found == wanted


def test_the_rows_with_the_other_encoder_are_one_option_away() -> None:
    others = "methods=[global_local,cropping,score_map,grad_cam]"
    cli = parse(ZERO_SHOT, ZeroShotRIS, "data=refcoco", "clip=RN50-quickgelu", others)
    assert {variant.model[:2] for variant in cli.model.variants} == {("RN50-quickgelu", "openai")}
    assert len(cli.model.variants) == 4
