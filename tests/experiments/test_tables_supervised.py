"""Supervised models in a table: which runs there are, and where their figures go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.reporting.table_report import joined, supervised_entries
from experiments.tables import TableSettings


def spec(**settings: Any) -> TableSettings:
    rows = [{"method": "random"}]
    return TableSettings(rows=rows, **{"supervised": ["lavt-tiny"], "data": ["refshapes"], **settings})


def test_a_model_is_trained_on_the_first_split_and_evaluated_on_the_others() -> None:
    found = spec(splits=["val", "testA"], data=["refshapes", "refshapesg"]).supervised_cells()
    assert [(cell.name, cell.after) for cell in found] == [
        ("refshapes-lavt-tiny-val", None),
        ("refshapes-lavt-tiny-testA", "refshapes-lavt-tiny-val"),
        ("refshapesg-lavt-tiny-val", None),
        ("refshapesg-lavt-tiny-testA", "refshapesg-lavt-tiny-val"),
    ]
    assert found[1].arguments == ["data=refshapes", "baseline=lavt-tiny", "k=all", "data.split=testA"]
    assert {cell.program for cell in found} == {"experiments.supervised"}


def test_options_go_where_they_belong() -> None:
    options = ["limit=3", "proposals=slic", "training.epochs=1", "trainer.devices=2", "model.post.nms=0.5"]
    table = spec(options=options)
    (cell,) = table.supervised_cells()
    assert cell.arguments[3:-1] == ["limit=3", "training.epochs=1", "trainer.devices=2"]
    (cell,) = table.zero_shot_cells()
    assert "training.epochs=1" not in cell.arguments
    assert {"limit=3", "proposals=slic", "model.post.nms=0.5"} <= set(cell.arguments)


def test_without_supervised_models_there_are_no_further_runs() -> None:
    assert spec(supervised=None).supervised_cells() == []


def result(method: str, value: float, split: str = "val", subsets: bool = True) -> dict[str, Any]:
    part = {"methods": {method: {"oIoU": value, "mIoU": value}}}
    place = {"dataset": "toy", "partition": "unc", "split": split}
    return {**place, **part, **({"subsets": {"unseen": part}} if subsets else {})}


def test_figures_go_to_the_column_of_their_data_and_split() -> None:
    documents = [result("Random", 1, split) for split in ("val", "test")]
    trained = [result("LAVT k=all", 5), result("LAVT", 7, "test")]
    for document, value in zip(documents, (5, 7), strict=True):
        found = joined(document, trained)
        wanted = {"Random": {"oIoU": 1, "mIoU": 1}, "LAVT": {"oIoU": value, "mIoU": value}}
        assert found["methods"] == wanted
        assert found["subsets"]["unseen"]["methods"] == wanted
    (entry,) = supervised_entries(trained)
    assert (entry.label, entry.title, entry.variant) == ("LAVT",) * 2 + (None,)


def test_a_table_with_a_model_that_was_trained_for_it(
    tables_here: Callable[..., tuple[int, str, str]], toy_root: Path, tmp_path: Path
) -> None:
    data = {
        "class_path": "datamodules.RefCOCO",
        "init_args": {"root": str(toy_root), "dataset": "toy", "proposals": "ground_truth"},
    }
    run = tmp_path / "run"
    code, output, error = tables_here(
        "rows=[{method: random}]",
        f"data=[{json.dumps(data)}]",
        "supervised=lavt-tiny",
        "training.split=val",
        "training.epochs=1",
        "training.min_steps=1",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        f"run_dir={run}",
    )
    assert code == 0, error
    trained = json.loads((run / "toy-lavt-tiny-val" / "results.json").read_text())
    assert trained["training"]["model"] == "LAVT"
    assert trained["training"]["n_refs"] == 15
    table = json.loads((run / "table.json").read_text())
    scores = {score["method"]: score for score in table["ours"]}
    figures = trained["methods"]["LAVT k=all"]
    assert scores["LAVT"]["oIoU"] == pytest.approx(figures["oIoU"])
    assert "LAVT" in output
