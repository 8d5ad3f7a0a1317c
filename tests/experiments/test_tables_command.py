"""``python -m experiments.tables`` from end to end on a toy data set in the real file format."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

import processes
from experiments import tables
from gl_ris.predictions import read_predictions

Run = Callable[..., tuple[int, str, str]]
ROWS = [
    {"method": "random"},
    {"method": "cropping", "encoder": "rn"},
    {"method": "cropping", "encoder": "vit"},
    {"method": "global_local", "encoder": "vit", "label": "Global", "title": "global", "alpha": 1.0},
    {
        "method": "global_local",
        "encoder": "vit",
        "label": "Local",
        "title": "local",
        "alpha": 0.0,
        "beta": 1.0,
    },
    {"method": "upper_bound"},
]


@pytest.fixture
def run_here(run_command: Run) -> Run:
    """Run this command in this process, its runs in others; gives exit code, output and error output."""
    return partial(run_command, tables)


@pytest.fixture
def own_table(tmp_path: Path, toy_root: Path, clip_dirs: dict[str, str]) -> list[str]:
    """Five methods with two encoders, on two data sets of three images."""
    for name in ("toy", "yot"):
        if not (toy_root / name).exists():
            shutil.copytree(toy_root / "toy", toy_root / name)
    data = [
        {"class_path": "datamodules.RefCOCO", "init_args": {"root": str(toy_root), "dataset": name}}
        for name in ("toy", "yot")
    ]
    encoders = {"rn": clip_dirs["resnet"], "vit": clip_dirs["vit"]}
    content = {
        "title": "Own",
        "rows": ROWS,
        "data": data,
        "encoders": encoders,
        "shares": {"toy": {"alpha": 0.5}},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    return [
        f"table={tmp_path / 'own.yaml'}",
        "proposals=ground_truth",
        "limit=3",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
    ]


def scores(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "table.json").read_text())["ours"]


def test_a_table_of_two_data_sets_and_what_is_run_again(
    tables_here: Run, own_table: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, output, error = tables_here(*own_table, f"run_dir={run}")
    assert code == 0, error
    parts = ["toy-unc-val", "yot-unc-val"]
    assert sorted(path.name for path in run.iterdir()) == sorted(
        ["config.yaml", "table.csv", "table.json", "table.md", "table.tex", *parts]
    )
    assert (run / "table.md").read_text() in output
    assert str(run) in output
    results = [json.loads((run / part / "results.json").read_text()) for part in parts]
    assert [result["config"]["model"]["alpha"] for result in results] == [0.5, 0.4]
    assert list(results[0]["methods"]) == ["Random", "Cropping (rn)", "Cropping (vit)", "global", "local"]
    # beta of the paper's Cropping is 1, so the local visual, global text variant is the same method
    assert results[0]["methods"]["local"] == results[0]["methods"]["Cropping (vit)"]
    records = read_predictions(run / parts[0] / "predictions.jsonl")
    assert len(records) == 3 * 9 * 5
    by_title = {name: [r.score for r in records if r.method == name] for name in results[0]["methods"]}
    assert by_title["local"] == by_title["Cropping (vit)"]
    assert by_title["local"] != by_title["global"]
    assert by_title["Cropping (rn)"] != by_title["Cropping (vit)"]
    found = json.loads((run / "table.json").read_text())
    assert [(score["dataset"], score["method"]) for score in found["ours"]] == [
        (dataset, row.get("label") or name)
        for row, name in zip(ROWS, ["Random", "Cropping", "Cropping", "", "", "Upper bound"], strict=True)
        for dataset in ("toy", "yot")
    ]
    assert found["ours"][2]["oIoU"] == results[0]["methods"]["Cropping (rn)"]["oIoU"]
    assert found["ours"][-1]["mIoU"] == results[1]["upper_bound"]["mIoU"]
    assert found["paper"] == []
    assert [(part["n_images"], part["n_expressions_evaluated"]) for part in found["runs"]] == [
        (3, 27),
        (3, 27),
    ]
    with (run / "table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12

    # One run was cut off: only that one is run again, by the settings in the folder.
    before = (run / parts[0] / "results.json").read_bytes()
    table = (run / "table.md").read_text()
    (run / parts[1] / "results.json").unlink()
    code, output, error = tables_here(
        f"--config={run / 'config.yaml'}", "trainer.devices=1", f"run_dir={run}"
    )
    assert code == 0, error
    assert "toy val: finished on" in output
    assert "yot val:\n" in output
    assert (run / parts[0] / "results.json").read_bytes() == before
    assert (run / parts[1] / "results.json").is_file()
    assert [line for line in (run / "table.md").read_text().splitlines() if "unc" not in line][:9] == [
        line for line in table.splitlines() if "unc" not in line
    ][:9]

    # Other settings do not go into the same folder.
    code, _, error = tables_here(*own_table, "recipe.antialias=false", f"run_dir={run}")
    assert code == 2
    assert "had other settings (model.recipe" in error
    assert (run / parts[0] / "results.json").read_bytes() == before


# A method that notes each image, and stays with the third one where it is told to.
WAITS = """
import os, pathlib, time
from gl_ris.scorers.floors import LargestProposal

class Waits(LargestProposal):
    name, title = "waits", "Waits"

    def score(self, context, expressions, noun_phrases):
        seen = pathlib.Path(os.environ["SEEN"])
        with seen.open("a") as file:
            file.write("an image\\n")
        if "WAITS" in os.environ and len(seen.read_text().splitlines()) == 3:
            seen.with_name("cell").write_text(str(os.getpid()))
            time.sleep(600)
        return super().score(context, expressions, noun_phrases)
"""


@pytest.mark.slow
def test_a_cell_that_was_killed_goes_on(
    tables_here: Run, toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "waiting.py").write_text(WAITS)
    monkeypatch.syspath_prepend(str(tmp_path))
    seen, run, whole = tmp_path / "seen", tmp_path / "run", tmp_path / "whole"
    monkeypatch.setenv("SEEN", str(seen))
    data = {"class_path": "datamodules.RefCOCO", "init_args": {"root": str(toy_root), "dataset": "toy"}}
    content = {"title": "Own", "rows": [{"method": "waiting.Waits"}, {"method": "random"}], "data": [data]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    line = [f"table={tmp_path / 'own.yaml'}", "proposals=ground_truth", "trainer.accelerator=cpu"]
    search = os.pathsep.join([str(processes.ROOT), str(tmp_path)])
    words = ["-m", "experiments.tables", *line, f"run_dir={run}"]
    process = processes.start(words, tmp_path, PYTHONPATH=search, WAITS="yes")
    (cell,) = processes.numbers(process, tmp_path / "cell")
    process.kill()
    process.communicate()
    processes.until(lambda: processes.is_gone(cell))
    code, output, error = tables_here(*line, f"run_dir={run}", "resume=true")
    assert code == 0, error
    assert "going on: 2 of 5 images are finished" in output
    assert len(seen.read_text().splitlines()) == 3 + 3
    assert tables_here(*line, f"run_dir={whole}")[0] == 0
    for name in ("toy-unc-val/predictions.jsonl", "toy-unc-val/table.csv"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    ours, theirs = (json.loads((path / "toy-unc-val" / "results.json").read_text()) for path in (run, whole))
    for key in ("config", "created", "seconds"):
        del ours[key], theirs[key]
    assert ours == theirs
    assert not (run / "toy-unc-val" / "progress").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["resume=true", "overwrite=true", "run_dir=x"], "resume=true goes on with a run and overwrite=true"),
        (["resume=true"], "resume=true needs run_dir=FOLDER"),
    ],
)
def test_wrong_ways_to_go_on(
    refusal: Callable[..., str], own_table: list[str], given: list[str], said: str
) -> None:
    assert said in refusal(tables, *own_table, *given)


def test_a_run_that_fails_ends_the_table_with_its_code(
    run_here: Run, own_table: list[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for number in range(1, 4):
        (tmp_path / "empty" / f"{number}.png").write_bytes(b"no picture")
    code, _, error = run_here(
        *own_table,
        f"data.image_root={tmp_path / 'empty'}",
        "data.allow_missing_images=true",
        "jobs=1",
        f"run_dir={tmp_path / 'run'}",
    )
    assert code == 1, error
    assert "Not one expression could be evaluated" in error
    assert "error: toy val was not evaluated, see above." in error
    assert not (tmp_path / "run" / "table.md").exists()


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_give_the_table_of_one(
    run_here: Run, tables_here: Run, own_table: list[str], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    first = yaml.safe_load((tmp_path / "own.yaml").read_text())["data"][0]
    own_table.append(f"data=[{json.dumps(first)}]")
    assert tables_here(*own_table, f"run_dir={one}")[0] == 0
    code, _, error = run_here(*own_table, "--trainer.devices=2", f"run_dir={two}")
    assert code == 0, error
    assert scores(one) == scores(two)
    file = Path("toy-unc-val", "predictions.jsonl")
    assert (one / file).read_bytes() == (two / file).read_bytes()
