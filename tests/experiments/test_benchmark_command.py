"""``python -m experiments.benchmark``: its options, its document, its page, and a run on a tiny model."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import benchmark
from experiments.benchmark import Benchmark
from experiments.cli.parts import parse_settings
from experiments.grid import job_benchmark
from experiments.reporting.benchmark_report import page_of
from experiments.run import measuring
from gl_ris import signals

Run = Callable[..., tuple[int, str, str]]
KEYS = [
    *("schema", "experiment", "machine", "controls", "clip", "threads", "startup", "flat", "processes"),
    *("seconds", "config", "versions", "git_commit"),
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, clip_dirs: dict[str, str]) -> list[str]:
    """Arguments of a run that takes seconds, with rates that hold and jobs that are told."""
    monkeypatch.setattr(measuring, "matrix_rates", lambda *_: {"F.linear": 50.0})
    monkeypatch.setattr("experiments.run.clip_benchmark.matrix_rates", lambda *_: {"F.linear": 50.0})

    def job(*words: str, imports: bool = False, **_: Any) -> job_benchmark.Job:
        stages = 4.0 if "data.num_workers=0" in words else 2.0
        return job_benchmark.Job(9.0, 5.0, stages, 1234.0, {"torch": 1.5} if imports else {})

    for name in ("measure_start_up", "measure_pair", "measure_flat"):
        monkeypatch.setattr(job_benchmark, name, partial(getattr(job_benchmark, name), job=job))
    return [f"models=[{clip_dirs['vit']}]", "masks=4", "size=[40,60]", "device=cpu", "repeats=1"]


def test_a_run_leaves_a_document_and_shows_it(
    quick: list[str], clip_dirs: dict[str, str], run_command: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    code, output, error = run_command(benchmark, *quick, "full=true", f"run_dir={folder}")
    assert code == 0, error
    document = json.loads((folder / "benchmark.json").read_text())
    assert [*document] == KEYS
    model = document["clip"][clip_dirs["vit"]]
    assert model["fp32"]["ratio_to_reference"] > 0
    assert model["fp32"]["choices_equal"] is True
    assert model["fp32"]["share_of_limit"] > 0
    assert [*model] == ["fp32", "bf16"]
    assert document["controls"][clip_dirs["vit"]]["fp32"]["steady"] is True
    assert document["threads"]["default_to_one_thread"] == 2.0
    assert document["flat"]["ms_per_image"] == {"50": 40.0, "200": 10.0, "1000": 2.0}
    assert document["flat"]["rss_mb"]["1000"] == 1234.0
    assert document["startup"]["seconds_to_first_result"] == 5.0
    assert yaml.safe_load((folder / "config.yaml").read_text())["masks"] == 4
    assert sorted(path.name for path in folder.iterdir()) == ["benchmark.json", "config.yaml"]
    for shown in ("Machine", "fp32", "14/14", "2.00 times as fast", "1,000 images: 2.0 ms", "1,234 MB"):
        assert shown in output


def test_what_is_not_wanted_is_null(quick: list[str], run_command: Run, tmp_path: Path) -> None:
    code, output, _ = run_command(benchmark, *quick, "parts=[threads]", f"run_dir={tmp_path / 'run'}")
    document = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert code == 0
    assert [*document] == KEYS
    assert (document["clip"], document["startup"], document["processes"]["two_to_one"]) == ({}, None, None)
    assert document["flat"] == {
        name: dict.fromkeys(("50", "200", "1000")) for name in ("ms_per_image", "rss_mb")
    }
    assert "No verdict" not in output


def test_a_machine_that_drifts_is_told(
    quick: list[str], run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([100.0, 50.0])
    monkeypatch.setattr(measuring, "matrix_rates", lambda *_: {"F.linear": next(rates)})
    _, output, _ = run_command(benchmark, *quick, "parts=[threads]", f"run_dir={tmp_path / 'run'}")
    document = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert document["threads"]["default_to_one_thread"] is None
    assert document["threads"]["seconds"] == {"default": [2.0], "one_thread": [4.0]}
    assert "jobs fp32: the best matrix rate went from 100 to 50 GFLOP/s (50%, allowed are 15%)" in output


def test_the_page_says_what_has_no_verdict() -> None:
    lacking = {
        "ratio_to_reference": None,
        "choices_equal": None,
        "share_of_limit": None,
        "missing": "no bf16",
    }
    nothing = {"seconds": None}
    document = {
        "machine": {"processor": "P", "cores": 2, "device": "cpu", "load": None},
        "clip": {"M": {"bf16": lacking}},
        "controls": {},
        **{"threads": nothing, "processes": nothing, "startup": None},
        "flat": {"ms_per_image": {"50": None}, "rss_mb": {"50": None}},
    }
    assert page_of(document).endswith("No verdict\n  M bf16: no bf16")


@pytest.mark.parametrize("line", [words for words, _ in benchmark.COMMAND.examples])
def test_every_line_of_the_help_is_read(line: str) -> None:
    given, *_ = parse_settings(benchmark.COMMAND, Benchmark, shlex.split(line))
    settings = Benchmark(**given)
    assert settings.names()
    assert {"fp32", "bf16"} >= set(settings.kinds())
    assert settings.sizes().masks == 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["images=0"], "images=0 must be 1 or more"),
        (["size=[0,5]"], r"size (height)=0 must be 1 or more"),
        (["models=[ViT-B-33]"], "Unknown CLIP model 'ViT-B-33'. Did you mean 'ViT-B-32'"),
        (["parts=[clips]"], "clip"),
        (["precisions=[fp8]"], "fp32"),
        (["imags=3"], "Unknown option 'imags'. Did you mean 'images'?"),
        (["resume=true", "run_dir=here"], "Unknown option 'resume'"),
        (["wandb=online"], "wandb"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(
    words: list[str], said: str, refusal: Callable[..., str]
) -> None:
    assert said in refusal(benchmark, *words)


def test_a_benchmark_that_is_cut_off_leaves_nothing(
    quick: list[str], run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: Any) -> None:
        raise signals.Ended(143, "ended by SIGTERM")

    # what ends a process ends it once
    monkeypatch.setattr(signals, "_state", signals._State())
    monkeypatch.setattr("experiments.run.clip_benchmark.measure_model", end)
    code, _, error = run_command(benchmark, *quick, f"run_dir={tmp_path / 'run'}")
    assert (code, (tmp_path / "run").exists()) == (143, False)
    assert "ended by SIGTERM" in error


@pytest.mark.parametrize("word", ["device=abacus", "device=tpu:0"])
def test_a_device_that_is_not_there_is_refused_whatever_is_measured(
    word: str, refusal: Callable[..., str]
) -> None:
    assert "device" in refusal(benchmark, word, "parts=[threads]").lower()


def test_a_second_benchmark_needs_overwrite(quick: list[str], run_command: Run, tmp_path: Path) -> None:
    own = [*quick, "parts=[threads]", f"run_dir={tmp_path}"]
    assert run_command(benchmark, *own)[0] == 0
    (tmp_path / "note.txt").touch()
    code, _, error = run_command(benchmark, *own)
    assert code == 2
    assert "is not empty" in error
    assert run_command(benchmark, *own, "overwrite=true")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"benchmark.json", "config.yaml", "note.txt"}
