"""``python -m experiments.fewshot`` from end to end, with cells that stand ready in place of trainings."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from experiments import fewshot
from experiments.grid import settings
from finished_cells import Workshop, trained_results, zero_shot_results

Run = Callable[..., tuple[int, str, str]]
SHOTS = {("lavt-tiny", 1): 20.0, ("cris-tiny", 1): 10.0, ("lavt-tiny", 4): 60.0, ("cris-tiny", 4): 30.0}
ARGUMENTS = ("k=[1,4]", "seeds=0", "jobs=1", "wandb=disabled")


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setattr(settings, "known_baselines", lambda: ["cris-tiny", "lavt-tiny"])
    made = Workshop(tmp_path / "store")
    made.install(monkeypatch)
    made.add("zero-shot", zero_shot_results())
    for (name, k), oiou in SHOTS.items():
        title = name.removesuffix("-tiny").upper()
        made.add(f"{name}_k{k}_seed0", trained_results(title, k, 0, oiou, seconds=7.0))
    return made


@pytest.fixture
def run_here(run_command: Run) -> Run:
    """Run this command in this process; gives exit code, output and error output."""
    return partial(run_command, fewshot)


def figures(folder: Path) -> dict[str, float]:
    methods = json.loads((folder / "results.json").read_text())["methods"]
    return {name: row["oIoU"] for name, row in methods.items()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_comparison_and_what_is_run_again(
    jobs: int, run_here: Run, workshop: Workshop, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, output, error = run_here(*ARGUMENTS, f"jobs={jobs}", f"run_dir={run}")
    assert code == 0, error
    expected = {"Global-Local": 50.0, "LAVT k=1": 20.0, "LAVT k=4": 60.0, "CRIS k=1": 10.0, "CRIS k=4": 30.0}
    assert figures(run) == expected
    assert f"5 cells: 0 kept, 5 to run, in {run}\n" in output
    assert "lavt-tiny k=4 seed=0: LAVT k=4: oIoU 60.00, mIoU 20.00 (8 refs, 7 s of training)\n" in output
    assert output.count("cells are finished") == 5
    # from the first training on, until nothing is left
    assert output.count("cells are finished. steps: ") in (3, 4)
    assert "* LAVT crosses Global-Local (50.00) between k=1 and k=4, at about k=2.8 (linear in" in output
    assert "* CRIS stays below Global-Local (50.00) at every k up to 4.\n" in output
    assert {path.name for path in run.iterdir()} == {
        *("config.yaml", "results.json", "curve.csv", "figure4_right.png", "zero-shot"),
        *(f"{name}_k{k}_seed0" for name, k in SHOTS),
    }

    # One cell was cut off, and one k more is asked for: only these are run.
    (run / "cris-tiny_k4_seed0" / "results.json").unlink()
    workshop.add("lavt-tiny_k16_seed0", trained_results("LAVT", 16, 0, 70.0))
    workshop.add("cris-tiny_k16_seed0", trained_results("CRIS", 16, 0, 70.0))
    workshop.started.clear()
    code, output, error = run_here(f"--config={run / 'config.yaml'}", "k=[1,4,16]", f"run_dir={run}")
    assert code == 0, error
    assert "7 cells: 4 kept, 3 to run" in output
    started = [
        next(item for item in arguments if item.startswith("run_dir=")) for arguments in workshop.started
    ]
    names = ("cris-tiny_k4_seed0", "lavt-tiny_k16_seed0", "cris-tiny_k16_seed0")
    assert sorted(started) == sorted(f"run_dir={run / name}" for name in names)
    assert figures(run) == {**expected, "LAVT k=16": 70.0, "CRIS k=16": 70.0}

    # Other settings do not go into the same folder.
    code, _, error = run_here(*ARGUMENTS, "training.epochs=1", f"run_dir={run}")
    assert code == 2
    assert "had other settings (arguments was" in error


def test_a_cell_that_fails_leaves_what_is_finished_in_use(
    run_here: Run, workshop: Workshop, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    workshop.remove("lavt-tiny_k4_seed0")
    code, _, error = run_here(*ARGUMENTS, f"run_dir={run}")
    assert code == 1
    assert "error: lavt-tiny k=4 seed=0 was not evaluated, see above." in error
    assert figures(run) == {"Global-Local": 50.0, "LAVT k=1": 20.0, "CRIS k=1": 10.0}
    assert (run / "figure4_right.png").is_file()


def test_cells_are_one_group_in_wandb(
    run_here: Run, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        workshop, "_placing", lambda run, folder: ["sh", "-c", "echo $WANDB_RUN_GROUP; exit 1"]
    )
    assert "my-sweep\n" in run_here(*ARGUMENTS, f"run_dir={tmp_path / 'my-sweep'}")[1]
    monkeypatch.setenv("WANDB_RUN_GROUP", "another")
    assert "another\n" in run_here(*ARGUMENTS, f"run_dir={tmp_path / 'my-sweep'}")[1]


def test_real_cells_from_end_to_end(
    grid_here: Run, toy_root: Path, clip_dirs: dict[str, str], tmp_path: Path
) -> None:
    """Three images, trainings of two steps."""
    run = tmp_path / "run"
    data = {"class_path": "datamodules.RefCOCO", "init_args": {"root": str(toy_root), "dataset": "toy"}}
    arguments = [
        *(f"data={json.dumps(data)}", "limit=3", "baselines=[lavt-tiny]", "k=2", "seeds=[0,1]", "jobs=1"),
        *("training.split=val", "training.epochs=1", "training.min_steps=2", "wandb=disabled"),
        *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false"),
        *("proposals=ground_truth", f"zero_shot=[model.clip={clip_dirs['vit']}]", f"run_dir={run}"),
    ]
    code, output, error = grid_here(fewshot, *arguments)
    assert code == 0, error
    made = json.loads((run / "results.json").read_text())
    assert list(made["methods"]) == ["Global-Local", "LAVT k=2"]
    assert (made["n_images"], made["n_expressions_evaluated"]) == (3, 27)
    (row,) = made["few_shot"]["rows"]
    cells = [json.loads((run / f"lavt-tiny_k2_seed{seed}" / "results.json").read_text()) for seed in (0, 1)]
    values = [cell["methods"]["LAVT k=2"]["oIoU"] for cell in cells]
    assert row["oIoU"]["values"] == values
    assert made["methods"]["LAVT k=2"]["oIoU"] == pytest.approx(sum(values) / 2)
    assert (row["n_refs"], row["refs_per_class"], row["steps"]) == (2, 2.0, [2, 2])
    assert "LAVT is " in output

    before = (run / "lavt-tiny_k2_seed0" / "results.json").read_bytes()
    code, output, error = grid_here(fewshot, *arguments, "seeds=[0]")
    assert code == 0, error
    assert "2 cells: 2 kept, 0 to run" in output
    assert (run / "lavt-tiny_k2_seed0" / "results.json").read_bytes() == before
    code, _, error = grid_here(fewshot, *arguments, "training.min_steps=3")
    assert code == 2
    assert "had other settings (training.min_steps was 2 and is 3)" in error
