"""``python -m experiments.zero_shot`` from end to end on a toy data set in the real file format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from experiments import zero_shot
from gl_ris.analysis import bootstrap
from gl_ris.metrics import THRESHOLDS
from gl_ris.predictions import read_predictions
from gl_ris.results import STAGES
from gl_ris.scorers import Scorer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_here(run_command: Run) -> Run:
    """Run this command in this process; gives exit code, output and error output."""
    return partial(run_command, zero_shot)


def document(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def figures(folder: Path) -> dict[str, Any]:
    """What must not depend on how many processes there were."""
    whole = document(folder)
    names = (
        "methods",
        "upper_bound",
        "failures",
        "n_images",
        "n_expressions_expected",
        "n_expressions_evaluated",
        "errors",
        "headroom",
    )
    return {name: whole[name] for name in names}


@pytest.mark.usefixtures("all_pictures")
def test_a_run_leaves_everything_in_its_folder(run_here: Run, toy: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, output, _ = run_here(*toy, f"run_dir={run}")
    assert code == 0
    assert sorted(os.listdir()) == []
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "overlays",
        "predictions.jsonl",
        "results.json",
        "slices.csv",
        "slices.md",
        "table.csv",
        "table.txt",
    }
    found = document(run)
    assert (found["schema"], found["experiment"]) == (2, "zero_shot")
    assert (found["counting"], found["every_miss"]) == ("every_miss", found["methods"])
    assert set(found["inputs"]) == {"annotations", "clip", "parser"}
    assert all(len(sha256) == 64 for files in found["inputs"].values() for sha256 in files.values())
    assert [found[key] for key in ("dataset", "split", "partition", "proposals")] == [
        "toy",
        "val",
        "unc",
        "ground_truth",
    ]
    assert [found[f"n_{key}"] for key in ("images", "expressions_expected", "expressions_evaluated")] == [
        5,
        45,
        45,
    ]
    assert list(found["methods"]) == ["Global-Local", "Cropping", "Random"]
    assert found["upper_bound"] == {"oIoU": 100.0, "mIoU": 100.0}
    assert set(found["seconds"]) == set(STAGES)
    assert found["config"]["model"]["alpha"] == 0.4
    records = read_predictions(run / "predictions.jsonl")
    assert len(records) == 45 * 3
    # the figures once more, from the records alone
    own = [record for record in records if record.method == "Cropping"]
    assert found["methods"]["Cropping"]["oIoU"] == pytest.approx(
        100 * sum(record.intersection for record in own) / sum(record.union for record in own)
    )
    # and how sure they are
    areas = [record.image_id for record in own], [record.intersection for record in own]
    sure = bootstrap(*areas, [record.union for record in own], thresholds=THRESHOLDS)
    assert found["resampling"] == {"draws": 5000, "seed": 0}
    assert {name: tuple(ends) for name, ends in found["intervals"]["Cropping"].items()} == {
        name: pytest.approx(ends, abs=1e-6) for name, ends in sure.items()
    }
    assert found["intervals"]["Upper bound"] == {"oIoU": [100, 100], "mIoU": [100, 100]}
    # every miss has one kind, and all of them are the ranking's: the right mask was there
    room, hits = found["headroom"]["Cropping"], sum(2 * one.intersection >= one.union for one in own)
    assert (room["expressions"], room["hits"], room["ranking"]) == (45, hits, found["upper_bound"])
    assert {name: found["methods"]["Cropping"][name] for name in room["now"]} == pytest.approx(room["now"])
    kinds = found["errors"]["Cropping"]
    assert sum(kind["count"] for kind in kinds.values()) == 45 - hits
    assert set(kinds) <= {"same_category", "other_category"}
    table, (low, high) = (run / "table.txt").read_text(), sure["oIoU"]
    assert f"{found['methods']['Cropping']['oIoU']:.2f} ±{(high - low) / 2:.1f}" in table
    assert table.strip() in output
    assert "Misses, % of expressions  hits" in table
    assert str(run) in output
    pictures = sorted((run / "overlays").glob("*.png"))
    assert len(pictures) == 13
    assert pictures[-1].name == "contact_sheet.png"
    assert all(min(Image.open(picture).size) >= 200 for picture in pictures)


WARM = """
import atexit, gc, io, os, sys
from experiments.cli.command import run
from experiments.run import evaluate
from experiments.zero_shot import COMMAND, main

def at_the_pictures(*_):
    found = len(out.buffer.getvalue()), gc.get_threshold()[2], *sorted(sys.modules)
    print("BEFORE", *found, file=sys.__stdout__, flush=True)

out = sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
evaluate.draw_overlays = at_the_pictures
run(COMMAND, main)
"""


def test_a_warm_job_imports_nothing_that_it_does_not_need(
    run_here: Run, toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    proposals = ["proposals=felzenszwalb", "proposals.scale=20", "proposals.min_area=30"]
    words = [*toy, *proposals, "limit=1"]
    assert run_here(*words, f"run_dir={tmp_path / 'cold'}")[0] == 0
    line = [sys.executable, "-c", WARM, *words, f"run_dir={tmp_path / 'warm'}"]
    answer = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=1000, check=False)
    assert answer.returncode == 0, answer.stderr
    mark, printed, threshold, *modules = answer.stdout.split()
    assert mark == "BEFORE"
    assert int(printed) > len((tmp_path / "warm" / "table.txt").read_text()), "the table, before the pictures"
    assert int(threshold) >= 1000, "no collection of all that the imports leave"
    assert "torch" in modules
    # to make proposals or find noun phrases, both kept from before; for reports; to talk to wandb
    never = {"spacy", "thinc", "skimage", "sklearn", "pandas", "tabulate", "experiments.wandb_log"}
    assert not never & set(modules)
    records = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("cold", "warm")]
    assert records[0] == records[1]


def test_the_configuration_in_the_folder_runs_again_identically(
    run_here: Run, toy: list[str], tmp_path: Path
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert run_here(*toy, "alpha=0.4", "limit=2", f"run_dir={first}")[0] == 0
    assert run_here("--config", str(first / "config.yaml"), f"run_dir={again}")[0] == 0
    assert figures(first) == figures(again)
    assert (first / "predictions.jsonl").read_bytes() == (again / "predictions.jsonl").read_bytes()
    assert yaml.safe_load((first / "config.yaml").read_text()) == yaml.safe_load(
        (again / "config.yaml").read_text()
    )
    assert document(again)["config"]["model"]["alpha"] == 0.4


def test_overwriting_replaces_a_run(run_here: Run, toy: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    few = [*toy, "limit=1", f"run_dir={run}"]
    assert run_here(*few)[0] == 0
    before = (run / "results.json").read_bytes()
    code, _, error = run_here(*few)
    assert code == 2
    assert "is not empty" in error
    assert (run / "results.json").read_bytes() == before
    assert run_here(*few, "overwrite=true", "methods=random")[0] == 0
    assert list(document(run)["methods"]) == ["Random"]


class OnlyInTheThirdImage(Scorer):
    """A method that fails on one image of the toy set."""

    name, title = "breaks", "Breaks"
    fails = staticmethod(lambda image: image.shape[1:] == (64, 64))

    def texts(self, expressions: Any, noun_phrases: Any = None) -> list[str]:
        return []

    def score(self, context: Any, expressions: Any, noun_phrases: Any) -> Any:
        if self.fails(context.image):
            raise RuntimeError("no such luck")
        return context.masks.flatten(1).sum(dim=1).float().expand(len(expressions), -1)


class Always(OnlyInTheThirdImage):
    """A method with a bug."""

    title = "Always"
    fails = staticmethod(lambda image: True)


def test_an_image_that_fails_is_counted_and_told(run_here: Run, toy: list[str], tmp_path: Path) -> None:
    code, output, _ = run_here(
        *toy, f"methods=[{__name__}.OnlyInTheThirdImage,random]", f"run_dir={tmp_path / 'run'}"
    )
    assert code == 0
    found = document(tmp_path / "run")
    assert found["failures"] == {"Breaks: RuntimeError: no such luck": 9}
    assert found["n_expressions_evaluated"] == 45
    assert "no such luck: 9" in output
    failed = [record for record in read_predictions(tmp_path / "run" / "predictions.jsonl") if record.failure]
    assert [(record.index, record.method) for record in failed] == [(2, "Breaks")] * 9


def test_a_bug_in_a_method_ends_in_an_error_and_not_in_a_table(
    run_here: Run, toy: list[str], tmp_path: Path
) -> None:
    code, output, error = run_here(*toy, f"methods={__name__}.Always", f"run_dir={tmp_path / 'run'}")
    assert code == 1
    assert "error: Not one expression could be evaluated: Always: RuntimeError: no such luck (45)." in error
    assert "oIoU" not in output
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trainer.devices=9"], "5 images cannot be spread over 9 processes"),
        (["trainer.limit_predict_batches=2"], "use data.limit=N"),
        (["trainer.fast_dev_run=true"], "use data.limit=N"),
        (["proposals=null", "data.proposals=null"], "nothing to choose from"),
        (["recipe=published"], "set data.overlap=sum_equals_one"),
        (["data.dataset=tory"], "Did you mean 'toy'?"),
        (["model.masked_blocks=99"], "masked_blocks=99"),
    ],
    ids=["few-images", "share", "fast-dev-run", "no-proposals", "overlap", "dataset", "blocks"],
)
def test_what_cannot_work_is_refused_before_any_work(
    arguments: list[str], said: str, refusal: Callable[..., str], toy: list[str]
) -> None:
    assert said in refusal(zero_shot, *toy, *arguments)


def test_shares_of_another_world_are_said_before_the_work(
    run_here: Run, toy: list[str], tmp_path: Path
) -> None:
    own = ["clip=refshapes-rn", "alpha=0.85", "beta=0.5", "masked_blocks=3", "limit=1"]
    code, output, _ = run_here(*toy, *own, "methods=global_local", f"run_dir={tmp_path / 'run'}")
    said = "refshapes-rn has alpha=0.85 beta=0.5 masked_blocks=3, which suit photographs"
    assert code == 0
    assert output.index(said) < output.index("Global-Local")


@pytest.mark.ddp
def test_two_processes_give_the_bits_of_one(
    run_here: Run,
    command: Callable[..., subprocess.CompletedProcess[str]],
    toy: list[str],
    clip_dirs: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five images, so the shards are uneven; one process has one thread, the two have two threads each."""
    one, two = tmp_path / "one", tmp_path / "two"
    methods = "methods=[global_local,cropping,grad_cam,score_map,random,largest]"
    both = [*toy, methods, "proposals=felzenszwalb", "proposals.scale=20", f"clip={clip_dirs['resnet']}"]
    assert run_here(*both, f"run_dir={one}")[0] == 0
    answer = command("zero_shot", *both, "--trainer.devices=2", f"run_dir={two}", OMP_NUM_THREADS="2")
    assert answer.returncode == 0, answer.stderr
    assert figures(one) == figures(two)
    assert (one / "predictions.jsonl").read_bytes() == (two / "predictions.jsonl").read_bytes()
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    assert answer.stdout.count("Upper bound") == 1
    assert not list((tmp_path / "here").iterdir())
    assert document(two)["methods"]["Global-Local"]["oIoU"] > 0
    assert document(two)["failures"] == {}


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_share_a_run_folder_named_by_the_time_and_fail_together(
    command: Callable[..., subprocess.CompletedProcess[str]], toy: list[str], toy_root: Path, tmp_path: Path
) -> None:
    """Without a readable image there is nothing to evaluate: one sentence, code 1, and no table."""
    (tmp_path / "empty").mkdir()
    arguments = [
        f"data.image_root={tmp_path / 'empty'}",
        "data.allow_missing_images=true",
        "trainer.devices=2",
    ]
    for number in range(1, 6):
        (tmp_path / "empty" / f"{number}.png").write_bytes(b"no picture")
    answer = command("zero_shot", *toy, *arguments)
    assert answer.returncode == 1, answer.stderr
    assert answer.stderr.count("error: Not one expression could be evaluated: image cannot be read") == 1
    runs = list((tmp_path / "here" / "runs" / "zero_shot").iterdir())
    assert len(runs) == 1
    assert not (runs[0] / "results.json").exists()
    assert sorted(path.name for path in runs[0].glob("predictions_rank*")) == [
        "predictions_rank0.jsonl",
        "predictions_rank1.jsonl",
    ]
