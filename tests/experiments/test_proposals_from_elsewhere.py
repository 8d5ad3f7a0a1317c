"""``python -m experiments.zero_shot`` with proposals of a network of the SAM family."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import zero_shot
from experiments.command import exit_code

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; gives exit code and error output."""

    def start(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["zero_shot", *arguments])
        code = exit_code(zero_shot.main)
        return code, capsys.readouterr().err

    return start


@pytest.fixture
def elsewhere(toy: list[str]) -> list[str]:
    """The arguments of a run on the toy data set, but for its proposals."""
    return [argument for argument in toy if not argument.startswith(("proposals", "methods"))]


def test_sam_proposes_for_a_run(run_here: Run, elsewhere: list[str], tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("tiny_sams", ROOT / "tests" / "gl_ris" / "tiny_sams.py")
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    folder = tiny.save_sam(tmp_path / "sam", "sam")
    loose = {"pred_iou_thresh": -1, "stability_score_thresh": 0, "min_area": 1, "points_per_side": 2}
    options = [f"model.proposals.{name}={value}" for name, value in {"model": folder, **loose}.items()]
    run = tmp_path / "run"
    code, error = run_here(*elsewhere, "proposals=sam", *options, "limit=2", f"run_dir={run}")
    assert code == 0, error
    found = json.loads((run / "results.json").read_text())
    assert found["proposals"] == "sam"
    assert found["failures"] == {}
    assert found["n_expressions_evaluated"] == found["n_expressions_expected"] == 18
    assert found["upper_bound"]["oIoU"] > 0


@pytest.mark.parametrize("name", ["sam", "sam2", "sam_hq", "edgetam"])
def test_a_model_that_cannot_be_had_is_told_before_the_run(
    name: str, run_here: Run, elsewhere: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    code, error = run_here(*elsewhere, f"proposals={name}", f"run_dir={tmp_path / 'run'}")
    assert code == 2
    assert "is neither a folder nor in the hub's cache" in error
    assert not (tmp_path / "run").exists()
