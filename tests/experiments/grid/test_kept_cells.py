"""Which results of an earlier run a grid keeps: whole ones of its settings, though names have changed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from experiments.grid import cells as grid_cells
from experiments.grid.cells import SUPERVISED, Cell, plan
from finished_cells import Nothing, trained_results, zero_shot_results
from gl_ris.errors import UserError
from gl_ris.files import write_json
from gl_ris.recipe import Recipe


def random_results(config: dict[str, Any]) -> dict[str, Any]:
    """The results of a run of the random floor."""
    figures = {"oIoU": 12.5, "mIoU": 10.0}
    return zero_shot_results(config=config, methods={"Random": figures}, dataset="toy", partition="unc")


@pytest.mark.parametrize("method", ["random", {"method": "random"}, {"method": "largest", "title": "Random"}])
def test_methods_are_known_by_name_or_title(
    method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a title of its own or that of its class; one that is not there is named."""

    def finish(*methods: Any) -> Cell:
        settings = {"model": {"methods": list(methods)}}
        monkeypatch.setattr(grid_cells, "parts_of", lambda _: SettingsAlone(settings))
        write_json(tmp_path / "a" / "results.json", random_results(settings))
        return plan([Cell("a", [], "a")], tmp_path, False)[0]

    assert finish(method).done
    with pytest.raises(UserError, match="they lack the method 'Largest'"):
        finish(method, "largest")


@dataclass
class SettingsAlone:
    """Parts of a run that are nothing but their settings."""

    given: dict[str, Any]
    datamodule: ClassVar[Nothing] = Nothing()
    model: ClassVar[Nothing] = Nothing()

    def settings(self) -> dict[str, Any]:
        return self.given


def test_a_table_goes_on_only_from_results_that_are_whole(
    toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(change: Callable[[dict[str, Any]], object]) -> None:
        kept = random_results(json.loads(json.dumps(first.settings)))
        change(kept)
        write_json(tmp_path / first.name / "results.json", kept)

    methods = 'model.methods=[{"method": "random", "title": "Random"}]'
    arguments = [*(option for option in toy if not option.startswith("methods=")), methods]
    (first,) = plan([Cell("toy val", arguments)], tmp_path, overwrite=False)
    assert first.done is None
    os.mkdir(tmp_path / first.name)
    keep(lambda kept: None)
    (again,) = plan([Cell("toy val", arguments)], tmp_path, overwrite=False)
    assert again.done is not None
    for change, said in (
        (lambda kept: kept.pop("config"), "field `config`"),
        (lambda kept: kept["config"]["model"].update(alpha=0.1), "had other settings (model.alpha was 0.1"),
        (
            lambda kept: kept["methods"].update(Largest=kept["methods"].pop("Random")),
            "lack the method 'Random'",
        ),
    ):
        keep(change)
        with pytest.raises(UserError, match=re.escape(said)):
            plan([Cell("toy val", arguments)], tmp_path, overwrite=False)
    assert plan([Cell("toy val", arguments)], tmp_path, overwrite=True)[0].done is None


def test_runs_of_before_are_kept_though_classes_moved_and_options_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"baseline": {"class_path": "gl_ris.supervised.baselines.LAVTBaseline"}, "weights": None}
    now = {"baseline": {"class_path": "gl_ris.supervised.LAVTBaseline"}, "weights": None}

    def kept(before: dict[str, Any]) -> bool:
        results = trained_results("LAVT", 4, 0, 30.0, config={"model": before, "data": {}})
        write_json(tmp_path / "a" / "results.json", results)
        monkeypatch.setattr(grid_cells, "parts_of", lambda _: SettingsAlone({"model": now, "data": {}}))
        return plan([Cell("a", [], "a", SUPERVISED)], tmp_path, False)[0].done is not None

    assert kept({**old, "clip": "refshapes-rn", "pretrained": None, "alpha": 0.85, "proposals": None})
    with pytest.raises(UserError, match=r"had other settings \(model.recipe was clean and is None\)"):
        kept({**old, "recipe": "clean"})


def test_a_run_of_before_is_kept_though_the_recipe_has_more_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "methods": ["random"],
        "recipe": asdict(Recipe(antialias=False)),
        "rerank": "none",
        "top": None,
    }
    monkeypatch.setattr(grid_cells, "parts_of", lambda _: SettingsAlone({"model": settings}))
    was = json.loads(json.dumps(settings))
    del was["rerank"], was["top"]
    for name in ("region_token_patches", "region_token_members", "score_map_mask", "grad_cam_pooling"):
        del was["recipe"][name]
    write_json(tmp_path / "a" / "results.json", random_results({"model": was}))
    assert plan([Cell("a", [], "a")], tmp_path, False)[0].done
    write_json(tmp_path / "a" / "results.json", random_results({"model": {**was, "recipe": "clean"}}))
    with pytest.raises(UserError, match="had other settings"):
        plan([Cell("a", [], "a")], tmp_path, False)
