from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from experiments.cli.command import CONFIGS
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
