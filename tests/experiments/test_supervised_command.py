"""``python -m experiments.supervised`` from end to end: a small LAVT on the toy data set."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments import supervised
from experiments.run.training import Progress
from gl_ris.command_line import exit_code
from gl_ris.predictions import read_predictions

Run = Callable[..., tuple[int, str, str]]
EXPRESSIONS = 45
SIZE = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 4,
    "drop_path_rate": 0.0,
    "max_words": 20,
    "frozen_text_layers": 0,
    "text": {
        "vocab_size": 641,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 20,
    },
}


@pytest.fixture
def run_here(run_command: Run) -> Run:
    return partial(run_command, supervised)


@pytest.fixture(scope="module")
def small(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a training of six steps on four refs of the one class of the toy data, and a bar less."""
    options = {
        "model": {
            "baseline": {
                "class_path": "gl_ris.supervised.LAVTBaseline",
                "init_args": {
                    "size": SIZE,
                    "swin": None,
                    "bert": None,
                    "tokenizer": "refshapes-rn",
                    "learning_rate": 1e-3,
                    "epochs": 3,
                    "batch_size": 2,
                },
            }
        }
    }
    file = tmp_path_factory.mktemp("settings") / "small.yaml"
    file.write_text(yaml.safe_dump(options))
    return [
        f"--config={file}",
        "data=datamodules.RefCOCO",
        f"data.root={toy_root}",
        "data.dataset=toy",
        "training.split=val",
        "schedule=official_epochs",
        "k=4",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
    ]


def document(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "learning_curve.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, with what it printed beside it in ``output.txt``."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setenv("WANDB_MODE", "disabled")
        patch.setattr(sys, "argv", ["supervised", *small, f"run_dir={folder}"])
        assert exit_code(supervised.main) == 0
    folder.with_name("output.txt").write_text(output.getvalue())
    return folder


def test_a_run_leaves_everything_in_its_folder(trained: Path) -> None:
    run, output = trained, trained.with_name("output.txt").read_text()
    assert "training: LAVT, k=4, seed 0: 4 refs on" in output
    assert "3 epochs of 2 steps, batch 2" in output
    assert "LAVT k=4" in output
    assert "Upper bound" not in output
    assert {path.name for path in run.iterdir()} == {
        *("config.yaml", "overlays", "predictions.jsonl", "results.json", "slices.csv"),
        *("slices.md", "table.csv", "table.txt"),
        *("learning_curve.csv", "manifest.json", "weights.pt"),
    }
    found = document(run)
    assert list(found["methods"]) == ["LAVT k=4"]
    assert found["upper_bound"] == {"oIoU": None, "mIoU": None}
    assert (found["proposals"], found["experiment"]) == ("none", "supervised")
    assert found["n_expressions_evaluated"] == found["n_expressions_expected"] == EXPRESSIONS
    training = found["training"]
    wanted = {"model": "LAVT", "k": 4, "seed": 0, "n_refs": 4, "n_sentences": 12, "epochs": 3, "steps": 6}
    assert {name: training[name] for name in wanted} == wanted
    assert training["batch_size"] == 2
    assert training["shortfall"] == {}
    assert training["unusable_visits"] == 0
    records = read_predictions(run / "predictions.jsonl")
    assert len(records) == EXPRESSIONS
    total = sum(r.intersection for r in records), sum(r.union for r in records)
    assert found["methods"]["LAVT k=4"]["oIoU"] == pytest.approx(100 * total[0] / total[1])
    assert [row["step"] for row in curve(run)] == [str(step) for step in range(1, 7)]
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["k"], manifest["n_refs"], len(manifest["ref_ids"])) == (4, 4, 4)


def test_weights_are_evaluated_without_training(
    run_here: Run, small: list[str], trained: Path, tmp_path: Path
) -> None:
    code, output, _ = run_here(*small, f"weights={trained / 'weights.pt'}", f"run_dir={tmp_path / 'again'}")
    assert code == 0
    assert "training:" not in output
    found = document(tmp_path / "again")
    assert found["training"] is None
    assert found["methods"]["LAVT"] == document(trained)["methods"]["LAVT k=4"]
    assert not (tmp_path / "again" / "weights.pt").exists()


def test_the_same_settings_give_the_same_weights_and_another_seed_others(
    run_here: Run, small: list[str], trained: Path, tmp_path: Path
) -> None:
    assert run_here(*small, f"run_dir={tmp_path / 'same'}")[0] == 0
    assert run_here(*small, "seed=1", f"run_dir={tmp_path / 'other'}")[0] == 0
    weights = [torch.load(f / "weights.pt") for f in (trained, tmp_path / "same", tmp_path / "other")]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    assert not all(torch.equal(weights[0][name], tensor) for name, tensor in weights[2].items())
    refs = [json.loads((f / "manifest.json").read_text())["ref_ids"] for f in (trained, tmp_path / "other")]
    assert refs[0] != refs[1]


def test_a_manifest_brings_the_refs_of_another_run(
    run_here: Run, small: list[str], trained: Path, tmp_path: Path
) -> None:
    arguments = (f"manifest={trained / 'manifest.json'}", "seed=1", "k=9", f"run_dir={tmp_path / 'again'}")
    assert run_here(*small, *arguments)[0] == 0
    manifests = [json.loads((f / "manifest.json").read_text()) for f in (trained, tmp_path / "again")]
    assert manifests[0] == manifests[1]
    assert document(tmp_path / "again")["training"]["k"] == 4


def test_a_class_with_fewer_refs_is_on_record(run_here: Run, small: list[str], tmp_path: Path) -> None:
    code, output, _ = run_here(*small, "k=20", "epochs=1", f"run_dir={tmp_path / 'run'}")
    assert code == 0
    assert "(5 fewer than k of each class: there are no more)" in output
    assert document(tmp_path / "run")["training"]["shortfall"] == {"square": 5}


def test_min_steps_lengthens_a_short_training(run_here: Run, small: list[str], tmp_path: Path) -> None:
    arguments = ("schedule=min_steps", "training.min_steps=9", f"run_dir={tmp_path / 'run'}")
    assert run_here(*small, *arguments)[0] == 0
    assert document(tmp_path / "run")["training"]["epochs"] == 5
    assert len(curve(tmp_path / "run")) == 10


@pytest.mark.parametrize(
    "option", ["trainer.accumulate_grad_batches=2", "trainer.precision=bf16-mixed"], ids=["parts", "bf16"]
)
def test_steps_of_several_parts_and_of_less_precision(
    run_here: Run, small: list[str], trained: Path, tmp_path: Path, option: str
) -> None:
    code, _, error = run_here(*small, option, f"run_dir={tmp_path / 'run'}")
    assert code == 0, error
    assert document(tmp_path / "run")["training"]["steps"] == 6
    before, now = ([float(row["loss"]) for row in curve(folder)] for folder in (trained, tmp_path / "run"))
    assert len(now) == 6
    assert now == pytest.approx(before, rel=0.2)
    assert now != before


def as_before(path: Path) -> None:
    """Write the settings of a run that was cut off as they were written before classes moved."""
    first, _, text = path.read_text().partition("\n")
    settings = yaml.safe_load(text)
    settings["model"]["baseline"]["class_path"] = "gl_ris.supervised.baselines.LAVTBaseline"
    settings["model"] |= dict.fromkeys(("clip", "pretrained", "alpha", "proposals"))
    path.write_text(f"{first}\n{yaml.safe_dump(settings)}")


@pytest.mark.parametrize("before", [False, True], ids=["as it is", "old"])
def test_a_training_that_was_cut_off_goes_on_and_ends_as_if_it_had_not_been(
    run_here: Run,
    small: list[str],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
) -> None:
    run = tmp_path / "run"
    whole = Progress.on_train_epoch_end

    def save_every_epoch(self: Any, trainer: Any, module: Any) -> None:
        self.interval = -1.0
        whole(self, trainer, module)
        if trainer.current_epoch == 1 and not (run / "went_on").exists():
            raise RuntimeError("the plug was pulled")

    monkeypatch.setattr(Progress, "on_train_epoch_end", save_every_epoch)
    code, _, error = run_here(*small, f"run_dir={run}")
    assert code == 1
    assert "the plug was pulled" in error
    assert f"The run was cut off: what is done is kept in {run}, and the same command" in error
    assert not (run / "results.json").exists()
    assert (run / "training" / "last.ckpt").is_file()
    assert len(curve(run / "training")) == 4
    if before:
        as_before(run / "config.yaml")
    (run / "went_on").touch()
    code, output, error = run_here(*small, "resume=true", f"run_dir={run}")
    assert code == 0, error
    assert "going on" in output
    assert not (run / "training").exists()
    assert document(run)["methods"] == document(trained)["methods"]
    assert curve(run) == curve(trained)
    weights = [torch.load(folder / "weights.pt") for folder in (trained, run)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


def test_a_training_of_other_settings_is_not_gone_on_with(
    run_here: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def stop(self: Any, trainer: Any, module: Any) -> None:
        trainer.save_checkpoint(self.unfinished.checkpoint)
        raise RuntimeError("the plug was pulled")

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "on_train_epoch_end", stop)
        assert run_here(*small, f"run_dir={run}")[0] == 1
    code, _, error = run_here(*small, "epochs=2", f"run_dir={run}")
    assert code == 2
    assert "not empty" in error
    code, output, _ = run_here(*small, "epochs=2", f"run_dir={run}", "overwrite=true")
    assert code == 0
    assert "going on" not in output
    assert [row["step"] for row in curve(run)] == ["1", "2", "3", "4"]


def test_a_failure_before_a_state_is_saved_leaves_nothing(
    run_here: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Any, trainer: Any, module: Any) -> None:
        raise RuntimeError("the plug was pulled")

    monkeypatch.setattr(Progress, "on_train_epoch_end", stop)
    assert run_here(*small, f"run_dir={tmp_path / 'run'}")[0] == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["k=0"], "k=0 is not a number of refs"),
        (["k=many"], "k"),
        (["epochs=0"], "training.epochs=0 must be 1 or more"),
        (["training.batch_size=-1"], "training.batch_size=-1 must be 1 or more"),
        (["trainer.max_epochs=3"], "epochs=N"),
        (["weights=nowhere.pt"], "LAVT: there is no file of weights nowhere.pt"),
        (["manifest=nowhere.json"], "No manifest at 'nowhere.json'"),
        (["training.split=trian"], "trian"),
        (["baseline=lavt-tyni"], "Did you mean 'lavt-tiny'"),
        (["baseline=null"], "baseline=NAME"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_settings_are_refused_before_any_work(
    refusal: Callable[..., str], small: list[str], arguments: list[str], expected: str
) -> None:
    assert expected in refusal(supervised, *small, *arguments)


@pytest.mark.ddp
def test_two_processes_train_and_measure_together(
    run_here: Run,
    command: Callable[..., subprocess.CompletedProcess[str]],
    small: list[str],
    trained: Path,
    tmp_path: Path,
) -> None:
    two, again = tmp_path / "two", tmp_path / "again"
    answer = command("supervised", *small, "--trainer.devices=2", f"run_dir={two}")
    assert answer.returncode == 0, answer.stderr
    found = document(two)
    assert found["training"]["steps"] == 6
    assert len(curve(two)) == 6
    assert answer.stdout.count("training:") == 1
    assert {path.name for path in two.iterdir()} == {path.name for path in trained.iterdir()}
    assert run_here(*small, f"weights={two / 'weights.pt'}", f"run_dir={again}")[0] == 0
    assert document(again)["methods"]["LAVT"] == found["methods"]["LAVT k=4"]
