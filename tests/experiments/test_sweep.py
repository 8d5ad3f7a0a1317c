"""``python -m experiments.sweep`` from end to end on a toy data set."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from experiments import sweep, zero_shot
from experiments.cli.overrides import CONFIGS
from gl_ris.defaults import Shares, usual_shares

Run = Callable[..., tuple[int, str, str]]
GRID = ["alphas=[0,0.5,0.85]", "betas=3", "masked_blocks=[1,3]"]


@pytest.fixture
def run_here(run_command: Run) -> Run:
    """Run this command in this process; gives exit code, output and error output."""
    return partial(run_command, sweep)


@pytest.fixture
def toy(toy: list[str]) -> list[str]:
    return [argument for argument in toy if not argument.startswith("methods=")]


def document(folder: Path, name: str = "sweep.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def cells(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_leaves_every_cell_the_best_ones_and_pictures(
    run_here: Run, run_command: Run, toy: list[str], tmp_path: Path
) -> None:
    run, alone = tmp_path / "run", tmp_path / "alone"
    code, output, _ = run_here(*toy, *GRID, "alpha=0.85", "beta=0.5", f"run_dir={run}")
    assert code == 0
    assert sorted(path.name for path in run.iterdir()) == [
        "config.yaml",
        "sweep.csv",
        "sweep.json",
        "sweep_k1.png",
        "sweep_k3.png",
    ]
    rows, found = cells(run), document(run)
    assert [(row["masked_blocks"], row["alpha"], row["beta"]) for row in rows] == [
        (k, a, b) for k in ("1", "3") for a in ("0.0", "0.5", "0.85") for b in ("0.0", "0.5", "1.0")
    ]
    assert {(row["n_images"], row["n_expressions_evaluated"], row["dataset"]) for row in rows} == {
        ("5", "45", "toy")
    }
    assert (found["schema"], found["experiment"], found["n_expressions_evaluated"]) == (2, "sweep", 45)
    assert found["axes"] == {"alpha": [0.0, 0.5, 0.85], "beta": [0.0, 0.5, 1.0], "masked_blocks": [1, 3]}
    for name in ("oIoU", "mIoU"):
        assert found["best"][name][name] == max(float(row[name]) for row in rows)
    # the default cell once more, by the other command
    code, _, _ = run_command(
        zero_shot, *toy, "limit=5", "alpha=0.85", "beta=0.5", "masked_blocks=3", f"run_dir={alone}"
    )
    assert code == 0
    figures = document(alone, "results.json")["methods"]["Global-Local"]
    assert found["default"] == {"alpha": 0.85, "beta": 0.5, "masked_blocks": 3, **figures}
    sure = document(alone, "results.json")["intervals"]
    assert list(found["intervals"]) == [*found["methods"], "Upper bound"]
    assert found["intervals"]["Default: alpha=0.85 beta=0.5 masked_blocks=3"] == sure["Global-Local"]
    assert found["intervals"]["Upper bound"] == sure["Upper bound"]
    assert "Default: alpha=0.85 beta=0.5 masked_blocks=3" in output
    assert "choosing a cell by 'val' is tuning to it; choose by split=train" in output
    assert min(Image.open(run / "sweep_k1.png").size) > 400
    again = tmp_path / "again"
    assert run_here("--config", str(run / "config.yaml"), f"run_dir={again}")[0] == 0
    assert (again / "sweep.csv").read_bytes() == (run / "sweep.csv").read_bytes()
    assert yaml.safe_load((again / "config.yaml").read_text()) == yaml.safe_load(
        (run / "config.yaml").read_text()
    )


def test_a_default_off_the_grid_is_said_and_a_sweep_can_be_replaced(
    run_here: Run, toy: list[str], tmp_path: Path
) -> None:
    few = [*toy, "--model.alphas", "2", "--betas=[0.25]", "limit=1", f"run_dir={tmp_path / 'run'}"]
    code, output, _ = run_here(*few, "intervals=false")
    assert code == 0
    assert "±" not in output
    assert {"intervals", "resampling"}.isdisjoint(document(tmp_path / "run"))
    assert "its alpha and beta are not on the grid" in output
    assert document(tmp_path / "run")["default"] is None
    assert "is not empty" in run_here(*few)[2]
    (tmp_path / "run" / "sweep_k9.png").write_bytes(b"of an earlier sweep")
    assert run_here(*few, "overwrite=true")[0] == 0
    assert not (tmp_path / "run" / "sweep_k9.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alphas=1"], "alphas=1 is no number of steps"),
        (["alphas=[0.5,2]"], "alphas=2.0 is out of range"),
        (["betas=[0.5,0.5]"], "each once"),
        (["masked_blocks=[1,99]"], "masked_blocks=99"),
        (["precision=fp8"], "Unknown precision 'fp8'"),
        (["methods=random"], "Unknown option"),
        (["trainer.devices=9"], "5 images cannot be spread over 9 processes"),
        (["alhpas=3"], "Did you mean 'model.alphas'"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    arguments: list[str], said: str, refusal: Callable[..., str], toy: list[str]
) -> None:
    assert said in refusal(sweep, *toy, *arguments)


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_give_the_bits_of_one(
    run_here: Run,
    command: Callable[..., subprocess.CompletedProcess[str]],
    toy: list[str],
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    both = [*toy, *GRID, "proposals=felzenszwalb", "proposals.scale=20"]
    assert run_here(*both, f"run_dir={one}")[0] == 0
    answer = command("sweep", *both, "--trainer.devices=2", f"run_dir={two}", OMP_NUM_THREADS="2")
    assert answer.returncode == 0, answer.stderr
    assert (one / "sweep.csv").read_bytes() == (two / "sweep.csv").read_bytes()
    names = ("best", "default", "methods", "upper_bound", "failures", "n_images")
    assert [document(one)[name] for name in names] == [document(two)[name] for name in names]
    assert answer.stdout.count("Upper bound") == 1
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    assert document(two)["best"]["oIoU"]["oIoU"] > 0


def test_help_explains_the_axes_and_warns_of_tuning() -> None:
    text = sweep.COMMAND.help()
    for expected in ("model.alphas", "model.masked_blocks", "split=train", "masked_blocks=[1,2,3,4]", "[21]"):
        assert expected in text


@pytest.mark.parametrize("name", ["zero_shot", "sweep", "calibrate", "figures", "recipe_effects"])
def test_shares_of_refshapes_are_those_of_one_photo(name: str) -> None:
    model = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]
    assert tuple(model[share] for share in Shares._fields) == usual_shares("refshapes-rn")


def test_shares_of_other_data_are_those_of_the_paper() -> None:
    assert usual_shares("ViT-B-32-quickgelu") == (0.85, 0.5, 3)
    shares = yaml.safe_load((CONFIGS / "tables.yaml").read_text())["shares"]
    for path in (CONFIGS / "data").glob("*.yaml"):
        model = yaml.safe_load(path.read_text()).get("model", {})
        own = {share: model[share] for share in Shares._fields if share in model}
        if path.stem.startswith("refshapes"):
            assert not own
        else:
            assert (own["beta"], own["masked_blocks"]) == (0.5, 3)
            assert shares.get(path.stem, own) == own
    assert {tuple(shares[name].values()) for name in shares if name.startswith("refshapes")} == {
        usual_shares("refshapes-rn")
    }
