"""``python -m experiments.unseen_domain`` with cells that stand ready in place of trainings."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from experiments import unseen_domain
from experiments.grid import settings
from experiments.reporting.unseen_report import UnseenCells, bars, document, report
from experiments.run.resuming import Keeper
from experiments.unseen_domain import UnseenSettings
from finished_cells import Workshop, subset, trained_results, zero_shot_results
from gl_ris.errors import EvaluationError

Run = Callable[..., tuple[int, str, str]]
PHRASES = {"dataset": "refshapes-phrasecut", "split": "test", "partition": None}
SUBSETS = {"unseen_synonyms": "Unseen", "unseen_names": "Unseen (names)"}


def with_intervals(part: dict[str, Any]) -> dict[str, Any]:
    """The same with intervals, each from 1 below to 3 above."""
    found = {
        title: {name: [figures[name] - 1, figures[name] + 3] for name in ("oIoU", "mIoU")}
        for title, figures in part["methods"].items()
    }
    subsets = {name: with_intervals(one) for name, one in part.get("subsets", {}).items()}
    more = {"subsets": subsets} if subsets else {"resampling": {"draws": 5000, "seed": 0}}
    return {**part, "intervals": found, **more}


def test_figures_have_intervals_where_all_cells_have() -> None:
    sure = {name: with_intervals(cell) for name, cell in cells().items()}
    found = document(UnseenCells(["lavt-tiny", "cris-tiny"], sure), {})
    assert found is not None
    assert found["intervals"]["Global-Local"]["oIoU"] == [44.0, 48.0]
    assert found["subsets"]["unseen_names"]["intervals"]["LAVT"]["oIoU"] == [20.0, 24.0]
    said = report({**found, "resampling": {"draws": 5000, "seed": 0}})
    (line, _) = (line for line in said.splitlines() if line.startswith("| LAVT"))
    assert [cell.strip() for cell in line.split("|")][2:-1] == [
        *("70.00 ±2.0", "30.00 ±2.0", "-40.00"),
        *("20.00 ±2.0", "-50.00", "21.00 ±2.0", "-49.00"),
    ]
    assert "* ±: half of the 95% interval over 5,000 resamples of the images." in said
    del sure["cris-tiny_unseen"]["intervals"]
    mixed = document(UnseenCells(["lavt-tiny", "cris-tiny"], sure), {})
    assert mixed is not None
    assert "intervals" not in mixed


def on_phrases(results: dict[str, Any], unseen: float, names: float) -> dict[str, Any]:
    """The results of the same methods on the set with subsets."""
    parts = {
        key: subset(label, {name: {"oIoU": value, "mIoU": 5.0} for name in results["methods"]})
        for (key, label), value in zip(SUBSETS.items(), (unseen, names), strict=True)
    }
    return {**results, **PHRASES, "subsets": parts}


def evaluated(model: str, oiou: float, unseen: float, names: float) -> dict[str, Any]:
    """The results of a model that brought its weights."""
    made = trained_results(model, "all", 0, oiou, training=None)
    return on_phrases({**made, "methods": {model: {"oIoU": oiou, "mIoU": 12.0}}}, unseen, names)


def cells() -> dict[str, dict[str, Any]]:
    return {
        "zero-shot_seen": zero_shot_results(50.0),
        "zero-shot_unseen": on_phrases(zero_shot_results(45.0), 44.0, 43.0),
        "lavt-tiny_seen": trained_results("LAVT", "all", 0, 70.0),
        "lavt-tiny_unseen": evaluated("LAVT", 30.0, 20.0, 21.0),
        "cris-tiny_seen": trained_results("CRIS", "all", 0, 60.0),
        "cris-tiny_unseen": evaluated("CRIS", 25.0, 15.0, 16.0),
    }


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "known_baselines", lambda: ["cris", "cris-tiny", "lavt", "lavt-tiny"])


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path / "store")
    made.install(monkeypatch)
    for name, results in cells().items():
        made.add(name, results)
    return made


@pytest.fixture
def run_here(run_command: Run) -> Run:
    """Run this command in this process; gives exit code, output and error output."""
    return partial(run_command, unseen_domain)


def settings_of(*arguments: str) -> UnseenSettings:
    return UnseenSettings.parse(unseen_domain.COMMAND, arguments)[0]


def test_each_model_is_trained_on_one_set_and_evaluated_on_both() -> None:
    wanted = settings_of("training.epochs=1", "seed=3").cells()
    assert [cell.name for cell in wanted] == list(cells())
    assert wanted[1].arguments[:2] == ["data=refshapes-phrasecut", "data.split=test"]
    trained, evaluated = wanted[2:4]
    assert trained.arguments[:5] == [
        *("baseline=lavt-tiny", "data=refshapes", "split=val"),
        *("k=all", "seed=3"),
    ]
    assert evaluated.arguments[:3] == ["baseline=lavt-tiny", "data=refshapes-phrasecut", "split=test"]
    assert (trained.after, evaluated.after) == (None, "lavt-tiny_seen")


def test_weights_at_hand_need_no_training(tmp_path: Path) -> None:
    file = tmp_path / "lavt.pth"
    given = settings_of(
        *("data=refcoco", f"--weights.lavt={file}", "unseen=refshapes-phrasecut", "baselines=[lavt,cris]"),
    ).cells()
    assert [cell.name for cell in given][2:] == ["lavt_seen", "lavt_unseen", "cris_seen", "cris_unseen"]
    assert all(f"weights={file}" in cell.arguments for cell in given[2:4])
    assert not any(item.startswith("k=") for cell in given[2:4] for item in cell.arguments)
    assert [cell.after for cell in given[2:]] == [None, None, None, "cris_seen"]
    assert given[1].arguments[0] == "data=refshapes-phrasecut"


def test_real_data_come_in_pairs() -> None:
    wanted = settings_of("data=refcoco", "split=testA").cells()
    assert [cell.arguments[:2] for cell in wanted[:2]] == [
        ["data=refcoco", "data.split=testA"],
        ["data=phrasecut", "data.split=test"],
    ]
    assert [cell.name for cell in wanted][2::2] == ["lavt_seen", "cris_seen"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_comparison(jobs: int, run_here: Run, workshop: Workshop, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, output, error = run_here("wandb=disabled", f"jobs={jobs}", f"run_dir={run}")
    assert code == 0, error
    made = json.loads((run / "results.json").read_text())
    assert (made["dataset"], made["split"], made["experiment"]) == (
        "refshapes-phrasecut",
        "test",
        "unseen_domain",
    )
    assert {name: row["oIoU"] for name, row in made["methods"].items()} == {
        "Global-Local": 45.0,
        "LAVT": 30.0,
        "CRIS": 25.0,
    }
    assert {
        key: [row["oIoU"] for row in part["methods"].values()] for key, part in made["subsets"].items()
    } == {"unseen_synonyms": [44.0, 20.0, 15.0], "unseen_names": [43.0, 21.0, 16.0]}
    assert made["subsets"]["unseen_names"]["label"] == "Unseen (names)"
    assert made["unseen_domain"]["rows"][1]["seen"] == {"oIoU": 70.0, "mIoU": 20.0}
    assert made["upper_bound"] == {"oIoU": 90.0, "mIoU": 80.0}
    with (run / "unseen_domain.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["model"], line["subset"], line["oIoU"], line["oIoU_change"]) for line in lines[4:8]] == [
        ("LAVT", "All", "70.0", ""),
        ("LAVT", "All", "30.0", "-40.0"),
        ("LAVT", "Unseen", "20.0", "-50.0"),
        ("LAVT", "Unseen (names)", "21.0", "-49.0"),
    ]
    assert (run / "figure4_left.png").stat().st_size > 5000
    assert "| LAVT | 70.00 | 30.00 | -40.00 | 20.00 | -50.00 |" in " ".join(output.split())
    assert output.count("of 6 cells are finished.") == 6
    weights = [item for item in workshop.started if any(part.startswith("weights=") for part in item)]
    assert sorted(part for item in weights for part in item if part.startswith("weights=")) == [
        f"weights={run / name / 'weights.pt'}" for name in ("cris-tiny_seen", "lavt-tiny_seen")
    ]


def test_the_figure_shows_the_subset_with_the_plain_name() -> None:
    made = document(UnseenCells(["lavt-tiny", "cris-tiny"], cells()), {})
    assert made is not None
    assert bars(made) == {
        "Global-Local": {"All": 45.0, "Unseen": 44.0},
        "LAVT": {"All": 30.0, "Unseen": 20.0},
        "CRIS": {"All": 25.0, "Unseen": 15.0},
    }


def test_what_is_not_finished_is_a_gap() -> None:
    part = {name: cells()[name] for name in ("zero-shot_unseen", "lavt-tiny_seen")}
    made = document(UnseenCells(["lavt-tiny"], part), {})
    assert made is not None
    assert list(made["methods"]) == ["Global-Local"]
    assert bars(made)["LAVT"] == {"All": None, "Unseen": None}
    assert "* 2 of 4 cells are finished." in report(made)
    del part["zero-shot_unseen"]
    assert document(UnseenCells(["lavt-tiny"], part), {}) is None


def test_other_phrases_in_a_subset_do_not_compare() -> None:
    other = cells()
    other["lavt-tiny_unseen"]["subsets"]["unseen_names"]["n_expressions_expected"] = 19
    with pytest.raises(EvaluationError, match="their subsets 'unseen_names' differ"):
        document(UnseenCells(["lavt-tiny"], other), {})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["k=4"], "'k' is set for each cell; use experiments.fewshot"),
        (["weights={lavt: a.pt}"], "Unknown baseline in weights 'lavt'. Did you mean 'lavt-tiny'?"),
        (["weights=a.pt"], "weights"),
        (["data=phrasecut", "baselines=lavt"], "pairs has no data set with unseen concepts for phrasecut"),
        (["baselines=[x]"], "Unknown baseline 'x'."),
        (["jobs=0"], "jobs=0 must be 1 or more."),
        (["seed=a"], "seed must be a whole number"),
    ],
)
def test_mistakes_get_one_line_before_any_work(
    arguments: list[str], said: str, refusal: Callable[..., str], workshop: Workshop
) -> None:
    assert said in refusal(unseen_domain, *arguments)


def test_real_cells_from_end_to_end(
    grid_here: Run,
    toy_root: Path,
    phrases_root: Path,
    clip_dirs: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    seen = {"class_path": "datamodules.RefCOCO", "init_args": {"root": str(toy_root), "dataset": "toy"}}
    unseen = {
        "class_path": "datamodules.PhraseCut",
        "init_args": {"root": str(phrases_root), "split": "test"},
    }
    arguments = [
        *(f"data={json.dumps(seen)}", f"unseen={json.dumps(unseen)}", "baselines=[lavt-tiny]", "limit=3"),
        *("training.split=val", "training.schedule=official_epochs", "training.epochs=1", "jobs=1"),
        *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "wandb=disabled"),
        *("proposals=ground_truth", f"zero_shot=[model.clip={clip_dirs['vit']}]", f"run_dir={run}"),
    ]
    code, output, error = grid_here(unseen_domain, *arguments)
    assert code == 0, error
    made = json.loads((run / "results.json").read_text())
    assert list(made["methods"]) == ["Global-Local", "LAVT"]
    trained, transferred = (
        json.loads((run / f"lavt-tiny_{where}" / "results.json").read_text()) for where in ("seen", "unseen")
    )
    assert (trained["training"]["k"], transferred["training"]) == ("all", None)
    assert made["methods"]["LAVT"] == transferred["methods"]["LAVT"]
    assert {name: part["methods"]["LAVT"] for name, part in made["subsets"].items()} == {
        name: part["methods"]["LAVT"] for name, part in transferred["subsets"].items()
    }
    assert made["subsets"]
    assert made["unseen_domain"]["rows"][1]["seen"]["oIoU"] == trained["methods"]["LAVT k=all"]["oIoU"]

    # The model at hand in place of a training: the same figures, and its own folder. What the zero-shot cells
    # come to is known.
    weights = f"--weights.lavt-tiny={run / 'lavt-tiny_seen' / 'weights.pt'}"
    again = tmp_path / "again"
    shutil.copytree(run, again, ignore=shutil.ignore_patterns("lavt-tiny_*"))
    code, output, error = grid_here(unseen_domain, *arguments[:-1], weights, f"run_dir={again}")
    assert code == 0, error
    assert "4 cells: 2 kept, 2 to run" in output
    assert json.loads((again / "results.json").read_text())["methods"] == made["methods"]
    assert not (again / "lavt-tiny_seen" / "weights.pt").exists()
    code, output, error = grid_here(unseen_domain, *arguments)
    assert code == 0, error
    assert "4 cells: 4 kept, 0 to run" in output

    # The evaluation of the trained model is cut off before its third image; it goes on from there.
    cell, write = run / "lavt-tiny_unseen", Keeper.on_predict_batch_end
    whole = (cell / "predictions.jsonl").read_bytes()
    shutil.rmtree(cell)

    def cut_off(self: Keeper, trainer: Any, module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        if batch.index == 2:
            raise RuntimeError("the plug was pulled")
        write(self, trainer, module, outputs, batch, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "on_predict_batch_end", cut_off)
        assert grid_here(unseen_domain, *arguments)[0] == 1
    code, output, error = grid_here(unseen_domain, *arguments, "resume=true")
    assert code == 0, error
    assert "4 cells: 3 kept, 1 to run" in output
    assert "going on: 2 of 3 images are finished" in output
    assert (cell / "predictions.jsonl").read_bytes() == whole
    assert json.loads((run / "results.json").read_text())["methods"] == made["methods"]
