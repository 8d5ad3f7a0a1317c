"""The command line, in this process: nothing is run, or it fails before any work."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import zero_shot
from experiments.cli.command import CONFIGS
from gl_ris.command_line import exit_code
from gl_ris.errors import UserError
from gl_ris.proposals import SLIC, Felzenszwalb

Parse = Callable[..., Any]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Parse a command line and make the parts, without running anything."""
    from experiments.cli.parts import ExperimentCLI, parts_of
    from gl_ris.zero_shot import ZeroShotRIS

    def start(*arguments: str) -> ExperimentCLI:
        monkeypatch.setattr(sys, "argv", ["zero_shot", *arguments])
        return parts_of(zero_shot.COMMAND, ZeroShotRIS)

    return start


def test_defaults_are_the_main_job(parse: Parse) -> None:
    cli = parse()
    assert type(cli.datamodule).__name__ == "RefShapes"
    assert (cli.datamodule.dataset_name, cli.datamodule.split) == ("refshapesg", "val")
    assert cli.model.proposals.name == "slic"
    assert cli.model.methods == ["Global-Local"]
    assert cli.trainer.loggers == []
    assert (cli.config.run_dir, cli.config.overwrite, cli.config.wandb) == (None, False, "auto")


@pytest.mark.parametrize(
    "arguments",
    [
        ["model.alpha=0.25", "data.split=testA", "trainer.max_epochs=7"],
        ["--model.alpha=0.25", "--data.split=testA", "--trainer.max_epochs=7"],
        ["--model.alpha", "0.25", "--data.split", "testA", "--trainer.max_epochs", "7"],
        ["alpha=0.25", "split=testA", "--trainer.max_epochs=7"],
        [
            "model.alpha=0.9",
            "data=refshapes",
            "--data.init_args.split=testA",
            "alpha=0.25",
            "trainer.max_epochs=7",
        ],
    ],
    ids=["plain", "native", "two-words", "short", "later-wins"],
)
def test_spellings_mean_the_same(arguments: list[str], parse: Parse) -> None:
    cli = parse(*arguments)
    assert cli.model.alpha == 0.25
    assert cli.datamodule.split == "testA"
    assert cli.trainer.max_epochs == 7


def test_ready_made_settings_can_be_changed_in_any_order(parse: Parse) -> None:
    cli = parse(
        "limit=7",
        "proposals=ground_truth",
        "data=refshapes+",
        "data.split=testB",
        "methods=[cropping,random]",
    )
    data = cli.datamodule
    assert (data.dataset_name, data.split, data.limit, data.proposals) == (
        "refshapes+",
        "testB",
        7,
        "ground_truth",
    )
    assert cli.model.proposals is None
    assert cli.model.methods == ["Cropping", "Random"]
    again = parse("proposals=ground_truth", "proposals=felzenszwalb", "proposals.scale=33")
    assert again.datamodule.proposals is None
    assert again.model.proposals.scale == 33


def test_a_generator_that_is_chosen_has_its_own_defaults(
    parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Felzenszwalb and SLIC, the default, both have a sigma, and not the same."""
    (tmp_path / "own.yaml").write_text("model: {proposals: {class_path: gl_ris.proposals.Felzenszwalb}}")
    (tmp_path / "part.yaml").write_text("model: {proposals: {init_args: {melt: 7.0}}}")
    for choice in ("proposals=felzenszwalb", "proposals=Felzenszwalb", f"--config={tmp_path / 'own.yaml'}"):
        found = parse(choice, "proposals.scale=33").model.proposals
        assert found.settings() == Felzenszwalb(scale=33).settings()
    part = f"--config={tmp_path / 'part.yaml'}"
    assert parse("proposals.sigma=0.9", part).model.proposals.settings() == SLIC(sigma=0.9, melt=7).settings()
    monkeypatch.setenv("GL_RIS_MODEL__PROPOSALS", "Felzenszwalb")
    assert parse("proposals.scale=33").model.proposals.settings() == Felzenszwalb(scale=33).settings()
    assert parse("data=refshapes", "proposals=slic").model.proposals.settings() == SLIC().settings()


def test_methods_with_settings_of_their_own(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("model: {methods: [cropping, {method: cropping, title: A, beta: 0}]}")
    for arguments in (
        ["model.methods=[cropping,{method: cropping, title: A, beta: 0}]"],
        ["--model.methods", "[cropping,{method: cropping, title: A, beta: 0}]"],
        ["methods=cropping", "methods+={method: cropping, title: A, beta: 0}"],
        ["--config", str(tmp_path / "own.yaml")],
    ):
        model = parse(*arguments, "beta=0.25").model
        assert [(v.title, v.beta) for v in model.variants] == [("Cropping", 0.25), ("A", 0.0)]


def test_other_data_by_class_and_arguments(parse: Parse, tmp_path: Path) -> None:
    cli = parse("data=RefCOCO", f"data.root={tmp_path}", "data.dataset=refcoco+", "methods=random")
    assert type(cli.datamodule).__name__ == "RefCOCO"
    assert (cli.datamodule.dataset_name, cli.datamodule.root) == ("refcoco+", tmp_path)
    assert cli.model.methods == ["Random"]


def test_precedence_is_file_environment_command_line(
    parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("model: {alpha: 0.1, beta: 0.1}\ndata: {init_args: {limit: 3}}\n")
    monkeypatch.setenv("GL_RIS_MODEL__ALPHA", "0.2")
    monkeypatch.setenv("GL_RIS_MODEL__BETA", "0.2")
    assert parse().model.alpha == 0.2
    cli = parse("--config", str(file), "beta=0.3")
    assert (cli.model.alpha, cli.model.beta, cli.datamodule.limit) == (0.1, 0.3, 3)
    assert parse("beta=0.3", f"--config={file}").model.beta == 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [
            "data=refshapes",
            "proposals=ground_truth",
            "limit=3",
            "methods=[random]",
            "run_dir=x",
            "seed_everything=7",
        ],
        [
            "model.recipe.antialias=false",
            "proposals.segments=900",
            "trainer.devices=1",
            "trainer.accelerator=cpu",
        ],
        ['methods=[random, {method: global_local, title: "a, b", alpha: 1.0, recipe: {antialias: false}}]'],
        ["methods={method: cropping, clip: refshapes-vit}"],
    ],
    ids=["defaults", "ground-truth", "nested", "variants", "one-variant"],
)
def test_a_printed_configuration_runs_again_identically(
    arguments: list[str], parse: Parse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse(*arguments, "--print_config")
    printed = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(printed)
    with pytest.raises(SystemExit, match="0"):
        parse("--config", str(tmp_path / "printed.yaml"), "--print_config")
    assert capsys.readouterr().out == printed
    first, again = parse(*arguments), parse("--config", str(tmp_path / "printed.yaml"))
    assert first.settings() == again.settings()


def test_settings_leave_out_where_the_run_writes(parse: Parse, tmp_path: Path) -> None:
    settings = parse("run_dir=somewhere", "overwrite=true", "alpha=0.5").settings()
    assert {"run_dir", "overwrite", "config"}.isdisjoint(settings)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert parse("--config", str(tmp_path / "config.yaml")).settings() == settings


@pytest.mark.parametrize(
    "setting", [f"{kind}={name}" for kind, names in zero_shot.COMMAND.settings().items() for name in names]
)
def test_every_ready_made_setting_can_be_made_and_names_its_command(
    setting: str, parse: Parse, tmp_path: Path
) -> None:
    kind, _, name = setting.partition("=")
    first = (CONFIGS / kind / f"{name}.yaml").read_text().splitlines()[0]
    assert f"{first} ".startswith(f"# {zero_shot.COMMAND.program} {setting} ")
    if "class_path: gl_ris.proposals.SAM" in (CONFIGS / kind / f"{name}.yaml").read_text():
        return  # asks the hub; tests/gl_ris/proposals/test_sam.py makes SAMs of folders
    if setting == "proposals=cutler" and importlib.util.find_spec("detectron2") is None:
        with pytest.raises(UserError, match="CutLER needs detectron2, which is not installed"):
            parse(setting)
        return
    (tmp_path / "masks.json").write_text("[]")
    # the paper's data sets ask for the paper's weights, and a file of masks is the user's own
    more = {
        "data": ["proposals=felzenszwalb"],
        "proposals=coco_results": [f"proposals.path={tmp_path}/masks.json"],
    }
    assert parse(setting, *more.get(setting, more.get(kind, []))).model is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("model.alhpa=0.5", "Unknown option 'model.alhpa'. Did you mean 'model.alpha'?"),
        ("--model.alph=0.5", "Unknown option 'model.alph'. Did you mean 'model.alpha'?"),
        ("data.splt=val", "Unknown option 'data.splt'. Did you mean 'data.split'?"),
        ("proposals.melts=3", "Unknown option 'model.proposals.melts'. Did you mean 'model.proposals.melt'?"),
        ("proposals.scale=3", "What is chosen for model.proposals has no option 'model.proposals.scale'"),
        ("k=64", "Unknown option 'k'."),
        ("model.alpha=abc", "model.alpha must be a number, not 'abc'."),
        ("alpha=1.5", "alpha=1.5 is out of range"),
        ("limit=abc", "data.limit must be a whole number or null, not 'abc'."),
        ("limit=0", "limit is 0, but at least one image must be left"),
        ("wandb=foo", "wandb cannot be 'foo'. Available: auto, online, offline, disabled."),
        (
            "trainer.devices=four",
            "trainer.devices cannot be 'four'; give a number (2), a list ([0,1]) or auto.",
        ),
        ("trainer.accelerator=gppu", "These trainer options do not work here"),
        ("data=refshape", "Unknown data 'refshape'. Did you mean 'refshapes'?"),
        ("data=datamodules.Nope", "data: there is no class 'datamodules.Nope'."),
        ("split=vall", "Unknown split of RefShapes 'vall'. Did you mean 'val'?"),
        ("methods=[global_locl]", "Unknown method 'global_locl'. Did you mean 'global_local'?"),
        ("methods=[random,random]", "must name one method or more, each once"),
        ('methods=[{"method":"random","alhpa":1}]', "'alhpa'. Did you mean 'alpha'?"),
        ('model.methods={"title":"A"}', "lacks the method"),
        ("recipe=cleen", "Unknown recipe 'cleen'. Did you mean 'clean'?"),
        ("model.recipe.text=foo", "model.recipe.text cannot be 'foo'."),
        ("--config nowhere.yaml", "The configuration file 'nowhere.yaml' cannot be read: No such file"),
        ("--config=damaged.yaml", "The configuration file 'damaged.yaml' is not YAML"),
        ("--config=deep.yaml", "The configuration file 'deep.yaml' is not YAML"),
        ("--config=laughs.yaml", "The configuration file 'laughs.yaml' repeats its values without end"),
        ("--config=circle.yaml", "The configuration file 'circle.yaml' repeats its values without end"),
        ("--config=list.yaml", "The configuration file 'list.yaml' must hold options"),
        ("--config=typo.yaml", "Unknown option 'model.alhpa'. Did you mean 'model.alpha'?"),
        ("fast", "What is 'fast'?"),
        ("model=foo", "model cannot be 'foo'"),
        ("trainer.devices", "What is 'trainer.devices'?"),
        ("--trainer.devices", "trainer.devices needs a value"),
        ("overwrite=maybe", "overwrite must be true or false, not 'maybe'."),
        ("run_dir=used", "The run folder 'used' is not empty"),
        ("clip=refshapes-vitt", "Unknown CLIP model 'refshapes-vitt'. Did you mean 'refshapes-vit'?"),
        ("clip=local-dir:nowhere", "there is no folder nowhere"),
        ("model.parser=/nowhere", "No parser folder at '/nowhere'"),
    ],
)
def test_mistakes_get_one_line_and_code_2(
    arguments: str,
    said: str,
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("damaged.yaml").write_text("model: [")
    Path("deep.yaml").write_text("model: " + "[" * 3000)
    laughs = [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}' if k else 'x'] * 9)}]" for k in range(9)]
    Path("laughs.yaml").write_text("\n".join(laughs))
    Path("circle.yaml").write_text("model: &a [*a]")
    Path("list.yaml").write_text("- model")
    Path("typo.yaml").write_text("model: {alhpa: 1}")
    Path("used").mkdir()
    Path("used/file").touch()
    assert said in refusal(zero_shot, *arguments.split(" "))


def test_a_missing_default_configuration_is_told(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("experiments.cli.command.CONFIGS", tmp_path)
    message = f"The configuration file '{tmp_path / 'zero_shot.yaml'}' cannot be read"
    assert message in refusal(zero_shot)


def test_other_errors_keep_their_traceback_and_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise KeyError("a bug")

    assert exit_code(broken) == 1
    assert "Traceback" in capsys.readouterr().err
