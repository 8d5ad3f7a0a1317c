"""Filling and reading the store, as a user does, on a toy data set in the real file format."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from torch.utils.data import get_worker_info

from experiments import proposals, zero_shot
from gl_ris.command_line import exit_code
from gl_ris.errors import UserError
from gl_ris.proposals import Felzenszwalb, Proposals

Run = Callable[..., tuple[int, str, str]]
COMMANDS = {"proposals": proposals.main, "zero_shot": zero_shot.main}


class Picky(Felzenszwalb):
    """Fails on the square image of the toy set."""

    def __call__(self, image: Tensor) -> Proposals:
        if image.shape[1] == image.shape[2]:
            raise RuntimeError("not a square")
        return super().__call__(image)


class Homely(Picky):
    """Not for workers."""

    in_workers = False

    def __call__(self, image: Tensor) -> Proposals:
        assert get_worker_info() is None
        return super().__call__(image)


class Broken(Felzenszwalb):
    """Lacks something for every image."""

    def __call__(self, image: Tensor) -> Proposals:
        raise UserError("Bring the file back.")


class Never(Felzenszwalb):
    """Must not be called."""

    name = "felzenszwalb"

    def __call__(self, image: Tensor) -> Proposals:
        raise AssertionError("called")


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], toy: list[str], tmp_path: Path
) -> Run:
    """Run a command on the toy set with a store of its own; gives exit code, output and error output."""
    monkeypatch.setenv("GL_RIS_STORE", str(tmp_path / "store"))

    def start(name: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *options(name, toy), *arguments])
        code = exit_code(COMMANDS[name])
        return code, *capsys.readouterr()

    return start


def options(name: str, toy: list[str]) -> list[str]:
    fits = [
        text for text in toy if name == "zero_shot" or not text.startswith(("model.", "methods", "proposals"))
    ]
    return [*fits, "proposals=felzenszwalb", "proposals.scale=20", "proposals.min_area=30"]


def document(folder: Path, name: str = "results.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def figures(folder: Path) -> list[Any]:
    whole = document(folder)
    predictions = (folder / "predictions.jsonl").read_bytes()
    return [predictions, *(whole[name] for name in ("methods", "upper_bound", "failures", "n_images"))]


def counts(folder: Path) -> list[int]:
    return [document(folder)["proposal_store"][name] for name in ("read", "generated", "failed")]


def test_what_was_stored_is_read_and_not_made_again(
    run_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output, _ = run_here("proposals", f"run_dir={tmp_path / 'fill'}", "limit=2")
    assert code == 0
    assert "proposals: none of 2 images stored, generating them into" in output
    assert "2: 2 generated" in output
    assert run_here("zero_shot", f"run_dir={tmp_path / 'rest'}")[0] == 0
    assert counts(tmp_path / "rest") == [2, 3, 0]
    code, output, _ = run_here("proposals", f"run_dir={tmp_path / 'again'}")
    assert "5: 5 stored before" in output
    monkeypatch.setattr(Felzenszwalb, "__call__", Never.__call__)
    assert run_here("zero_shot", f"run_dir={tmp_path / 'full'}")[0] == 0
    monkeypatch.undo()
    assert counts(tmp_path / "full") == [5, 0, 0]
    assert run_here("zero_shot", "store=false", f"run_dir={tmp_path / 'without'}")[0] == 0
    assert document(tmp_path / "without")["proposal_store"] == {
        "store": None,
        "folder": None,
        "read": 0,
        "generated": 5,
        "failed": 0,
    }
    assert figures(tmp_path / "rest") == figures(tmp_path / "full") == figures(tmp_path / "without")


def test_the_document_of_a_filled_store_adds_up(run_here: Run, tmp_path: Path) -> None:
    code, output, _ = run_here("proposals", f"run_dir={tmp_path / 'fill'}")
    found = document(tmp_path / "fill", "proposals.json")
    store = tmp_path / "store" / found["store"]
    assert code == 0
    assert found["folder"] == str(store)
    assert found["bytes"] == sum(path.stat().st_size for path in store.iterdir())
    entries = [json.loads(line[9:]) for path in store.glob("*.index") for line in path.open()]
    assert found["n_proposals"] == sum(entry["count"] for entry in entries) > 0
    assert found["proposals_per_image"] == found["n_proposals"] / 5
    assert found["images_with_none"] == sum(entry["count"] == 0 for entry in entries)
    assert found["images"] == {"stored before": 0, "generated": 5, "failed": 0, "unusable": 0}
    assert f"{found['n_proposals']:,}, {found['n_proposals'] / 5:.1f} per image" in output


def test_failed_images_are_recorded_with_the_reason(run_here: Run, tmp_path: Path) -> None:
    picky = f"proposals={__name__}.Picky"
    settings = [picky, "proposals.scale=20", "proposals.min_area=30"]
    code, output, _ = run_here("proposals", *settings, f"run_dir={tmp_path / 'fill'}")
    assert code == 0
    found = document(tmp_path / "fill", "proposals.json")
    assert found["images"] == {"stored before": 0, "generated": 4, "failed": 1, "unusable": 0}
    assert found["failures"] == {"RuntimeError: not a square": 1}
    assert "RuntimeError: not a square: 1" in output
    assert run_here("zero_shot", *settings, f"run_dir={tmp_path / 'run'}")[0] == 0
    assert counts(tmp_path / "run") == [4, 0, 1]
    assert document(tmp_path / "run")["failures"] == {"proposals: RuntimeError: not a square": 9}


@pytest.mark.parametrize("workers", [0, 2])
def test_proposals_of_the_data_are_stored_too(workers: int, run_here: Run, tmp_path: Path) -> None:
    """Made beside the main process, each worker writes a shard of its own, and all are counted."""
    own = ["proposals=null", "data.proposals=felzenszwalb", f"data.num_workers={workers}"]
    for name, expected in (("first", [0, 5, 0]), ("second", [5, 0, 0])):
        assert run_here("zero_shot", *own, f"run_dir={tmp_path / name}")[0] == 0
        assert counts(tmp_path / name) == expected
    assert figures(tmp_path / "first") == figures(tmp_path / "second")


@pytest.mark.parametrize("maker", ["Picky", "Homely"])
def test_workers_change_no_choice_no_count_and_no_reason(maker: str, run_here: Run, tmp_path: Path) -> None:
    """Stored or made, by workers or, what is not for them, by the main process; some cannot be made."""
    settings = [f"proposals={__name__}.{maker}", "proposals.scale=20", "proposals.min_area=30"]
    found = []
    for workers in (0, 1, 2):
        own = [*settings, f"data.num_workers={workers}", f"store={tmp_path / str(workers)}"]
        for name, expected in (("made", [4, 0, 1]), ("read", [4, 0, 1])):
            run = tmp_path / f"{name}{workers}"
            assert run_here("zero_shot", *own, f"run_dir={run}")[0] == 0
            assert sorted(counts(run)) == sorted(expected)
            assert (counts(run)[0] == 0) == (name == "made")
            seconds = document(run)["seconds"]
            assert sum(seconds.values()) <= 2 * seconds["total"]
            found.append(figures(run))
    assert all(one == found[0] for one in found)
    assert found[0][3] == {"proposals: RuntimeError: not a square": 9}


@pytest.mark.parametrize("workers", [0, 2])
def test_what_meets_every_image_ends_the_run_in_one_sentence(
    workers: int, run_here: Run, tmp_path: Path
) -> None:
    for command in ("zero_shot", "proposals"):
        own = [f"proposals={__name__}.Broken", f"data.num_workers={workers}", f"run_dir={tmp_path / command}"]
        code, _, error = run_here(command, *own)
        assert code == 2
        assert error.strip().splitlines()[-1] == "error: Bring the file back."
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.proposals=ground_truth"], "name a generator"),
        (["store=false"], "leave model.store at true"),
        (["trainer.devices=9"], "5 images cannot be spread over 9 processes"),
        (["store=/proc/none"], "cannot be stored in '/proc/none"),
    ],
    ids=["ground-truth", "no-store", "devices", "unwritable"],
)
def test_what_cannot_be_filled_is_said(arguments: list[str], said: str, run_here: Run) -> None:
    code, _, error = run_here("proposals", *arguments)
    assert code == 2
    assert said in error
    assert not list(Path().glob("runs/proposals/*"))


@pytest.mark.ddp
@pytest.mark.slow
def test_figures_do_not_depend_on_the_store_or_the_number_of_processes(
    run_here: Run,
    command: Callable[..., subprocess.CompletedProcess[str]],
    toy: list[str],
    tmp_path: Path,
) -> None:
    """Two processes with the store empty, half filled and full give the bits of one without a store."""
    assert run_here("zero_shot", "store=false", f"run_dir={tmp_path / 'one'}")[0] == 0
    assert run_here("proposals", "limit=3", f"run_dir={tmp_path / 'fill'}")[0] == 0
    shutil.copytree(tmp_path / "store", tmp_path / "half")
    cases = {"empty": [0, 5, 0], "half": [3, 2, 0], "full": [5, 0, 0]}
    for name, expected in cases.items():
        store = tmp_path / ("half" if name == "full" else name)
        arguments = [f"store={store}", "--trainer.devices=2", f"run_dir={tmp_path / 'two' / name}"]
        answer = command("zero_shot", *options("zero_shot", toy), *arguments)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.count("proposals: ") == 2  # what is stored, and the heading of the table
        assert counts(tmp_path / "two" / name) == expected
        assert figures(tmp_path / "two" / name) == figures(tmp_path / "one")
    (store,) = (tmp_path / "half").glob("*/*")
    assert len(list(store.glob("*.index"))) in (2, 3)
