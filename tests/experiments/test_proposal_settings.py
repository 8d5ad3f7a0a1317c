from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from experiments.cli.command import CONFIGS, Command
from experiments.cli.parts import parts_of
from experiments.proposals import COMMAND, REPORT
from experiments.run.proposal_jobs import ProposalReport, StoreFiller
from gl_ris.proposals import GENERATORS

FILES = sorted((CONFIGS / "proposals").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_ready_made_proposals_name_a_generator(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    chosen = settings["model"]["proposals"]
    if chosen is None:
        assert settings["data"]["init_args"]["proposals"] == path.stem
        return
    module, _, name = chosen["class_path"].rpartition(".")
    generator = getattr(importlib.import_module(module), name)
    assert generator in GENERATORS.values()
    assert GENERATORS.get(path.stem, generator) is generator
    assert settings["data"]["init_args"]["proposals"] is None


def test_every_generator_has_ready_made_settings() -> None:
    assert set(GENERATORS) <= {path.stem for path in FILES}


@pytest.mark.parametrize(("command", "module"), [(COMMAND, StoreFiller), (REPORT, ProposalReport)])
def test_settings_of_old_runs_have_options_that_are_gone(
    tmp_path: Path, command: Command, module: type[StoreFiller | ProposalReport]
) -> None:
    gone = dict.fromkeys(("clip", "pretrained", "alpha", "recipe", "proposals"))
    settings = yaml.safe_load(command.config.read_text())
    settings["model"] = {**gone, **settings["model"], "store": str(tmp_path)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    known = set(parts_of(command, module, [f"--config={tmp_path / 'config.yaml'}"]).settings()["model"])
    assert known == {"store", "proposals" if module is StoreFiller else "post"}


def test_ready_made_data_bring_no_options_to_stores() -> None:
    model = parts_of(REPORT, ProposalReport, ["data=refshapes-phrasecut"]).settings()["model"]
    assert set(model) == {"store", "post"}
