from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.cli.overrides import MOVED, current_paths
from gl_ris.errors import UserError

OLD = {
    "gl_ris.proposals.of_old.Regions": "gl_ris.proposals.Felzenszwalb",
    "of_old.Data": "datamodules.RefCOCO",
}


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, now in OLD.items():
        monkeypatch.setitem(MOVED, name, now)


@pytest.mark.parametrize("now", sorted(set(MOVED.values())))
def test_every_class_is_where_the_table_says(now: str) -> None:
    module, _, name = now.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_no_entry_leads_to_another() -> None:
    assert not set(MOVED) & set(MOVED.values())


@pytest.mark.usefixtures("moved")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("data=of_old.Data", "data=datamodules.RefCOCO"),
        ("--data.class_path=of_old.Data", "--data.class_path=datamodules.RefCOCO"),
        ("methods=[random,{method: of_old.Data}]", "methods=[random,{method: datamodules.RefCOCO}]"),
        ("a: of_old.Data\nb: 'of_old.Data'", "a: datamodules.RefCOCO\nb: 'datamodules.RefCOCO'"),
        ("data=of_old.DataSet", "data=of_old.DataSet"),
        ("data=very.of_old.Data", "data=very.of_old.Data"),
        ("root=/home/of_old.Data/x", "root=/home/of_old.Data/x"),
        ({"a": ["of_old.Data", 1, None]}, {"a": ["datamodules.RefCOCO", 1, None]}),
    ],
)
def test_only_whole_paths_of_classes_are_changed(given: Any, expected: Any) -> None:
    assert current_paths(given) == expected


@pytest.mark.usefixtures("moved")
def test_old_paths_are_read_from_files_and_the_command_line(tmp_path: Path) -> None:
    from experiments.cli.parts import parts_of
    from experiments.zero_shot import COMMAND
    from gl_ris.zero_shot import ZeroShotRIS

    old = "gl_ris.proposals.of_old.Regions"
    settings = {
        "model": {"proposals": {"class_path": old, "init_args": {"scale": 7}}},
        "data": {"class_path": "of_old.Data", "init_args": {"root": "of_old"}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    given = (
        [f"--config={tmp_path / 'config.yaml'}"],
        [f"proposals={old}", "proposals.scale=7", "data=of_old.Data"],
    )
    for arguments in given:
        cli = parts_of(COMMAND, ZeroShotRIS, arguments)
        assert (type(cli.model.proposals).__name__, cli.model.proposals.scale) == ("Felzenszwalb", 7)
        assert type(cli.datamodule).__name__ == "RefCOCO"


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        (
            {"clip": "RN50", "pretrained": None, "alpha": 0.5, "store": False, "recipe": "clean"},
            {"store": False},
        ),
        ({"clip": "RN50", "pretrained": None, "alpha": 0.5}, None),
        ({"clip": "RN50", "store": False}, UserError),
        ({"clip": "RN50", "pretrained": None, "alpha": 0.5, "sotre": 1}, None),
    ],
    ids=["of an old run", "nothing else", "written by a user", "of no option of today"],
)
def test_what_modules_did_not_use_is_left_out_of_settings_of_old_runs(
    model: dict[str, Any], kept: Any, tmp_path: Path
) -> None:
    from experiments.cli.parts import parts_of
    from experiments.proposals import COMMAND
    from experiments.run.proposal_jobs import StoreFiller

    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    arguments = [f"--config={tmp_path / 'config.yaml'}"]
    if kept is UserError:
        with pytest.raises(UserError, match=r"Unknown option 'model\.clip'"):
            parts_of(COMMAND, StoreFiller, arguments)
    else:
        assert parts_of(COMMAND, StoreFiller, arguments).model.store is (kept or {"store": True})["store"]
