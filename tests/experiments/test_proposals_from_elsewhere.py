"""``python -m experiments.zero_shot`` with proposals of SAM, and of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules import RefCOCO
from experiments import zero_shot
from gl_ris.command_line import exit_code
from gl_ris.proposals import Proposals, write_coco_results
from tiny_sams import save_sam

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
    folder = save_sam(tmp_path / "sam", "sam")
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


def proposals_of(toy_root: Path) -> list[tuple[int | str, Proposals]]:
    """The true masks of each image of the toy data set."""
    data = RefCOCO(toy_root, "toy", "unc", "val")
    return [(scene.image_id, Proposals.from_masks(scene.targets)) for scene in data.predict_dataloader()]


def test_a_file_of_masks_serves_a_run(
    run_here: Run, elsewhere: list[str], toy_root: Path, tmp_path: Path
) -> None:
    found = proposals_of(toy_root)
    write_coco_results(tmp_path / "masks.json", found)
    settings = ["proposals=coco_results", f"model.proposals.path={tmp_path / 'masks.json'}"]
    assert run_here(*elsewhere, *settings, f"run_dir={tmp_path / 'run'}")[0] == 0
    document = json.loads((tmp_path / "run" / "results.json").read_text())
    assert document["proposals"] == "coco_results"
    assert document["upper_bound"] == {"oIoU": 100.0, "mIoU": 100.0}
    assert document["failures"] == {}


def test_what_a_file_lacks_or_spoils_is_counted(
    run_here: Run,
    elsewhere: list[str],
    toy_root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = proposals_of(toy_root)
    path = tmp_path / "masks.json"
    write_coco_results(path, [found[0], *found[3:]])
    entries = json.loads(path.read_text())
    damaged = {**entries[0], "image_id": found[1][0]}
    damaged["segmentation"] = {**damaged["segmentation"], "counts": "0"}
    damaged["segmentation"]["size"] = list(found[1][1].masks.shape[1:])
    path.write_text(json.dumps([*entries, damaged]))
    settings = ["proposals=coco_results", f"model.proposals.path={path}"]
    code, _ = run_here(*elsewhere, *settings, f"run_dir={tmp_path / 'run'}")
    assert code == 0
    document = json.loads((tmp_path / "run" / "results.json").read_text())
    wrong = "proposals: ValueError: a mask in masks.json is damaged"
    assert document["failures"] == {"no proposals": 9, wrong: 9}
    assert document["n_expressions_evaluated"] == document["n_expressions_expected"] == 45
    assert "has no entry for 1 of the 5 images" in caplog.text


def test_masks_of_resized_images_end_the_run_before_it_starts(
    run_here: Run, elsewhere: list[str], toy_root: Path, tmp_path: Path
) -> None:
    found = proposals_of(toy_root)
    path = tmp_path / "masks.json"
    half = [(name, Proposals.from_masks(own.masks[:, ::2, ::2])) for name, own in found[2:4]]
    write_coco_results(path, [*found[:2], *half])
    settings = ["proposals=coco_results", f"model.proposals.path={path}"]
    code, error = run_here(*elsewhere, *settings, f"run_dir={tmp_path / 'run'}")
    assert code == 2
    own, image = ("{} x {}".format(*masks.shape[1:]) for masks in (half[0][1].masks, found[2][1].masks))
    number = 1 + sum(len(own) for _, own in found[:2])
    name = found[2][0]
    told = f"entry {number} is a mask of {own} pixels (height x width), but its image {name} is of {image}"
    assert told in " ".join(error.split())
    assert "for 2 images" in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no file"),
        ("[", "truncated"),
        ('[{"image_id": "1.png", "segmentation": [], "score": 1}]', "has no entry for any of the 5 images"),
    ],
    ids=["missing", "cut-off", "others"],
)
def test_a_file_that_cannot_serve_is_told_before_the_run(
    text: str | None, message: str, run_here: Run, elsewhere: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "masks.json"
    if text is not None:
        path.write_text(text)
    settings = ["proposals=coco_results", f"model.proposals.path={path}"]
    code, error = run_here(*elsewhere, *settings, f"run_dir={tmp_path / 'run'}")
    assert (code, message in error) == (2, True), error
    assert not (tmp_path / "run").exists()
