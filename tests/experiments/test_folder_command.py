"""Commands on a folder of one's own, of whose expressions some have no target."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules import RefCOCO
from experiments import proposals, recipe_effects, sweep, zero_shot
from gl_ris.masks import encode_rle
from gl_ris.predictions import read_predictions
from gl_ris.results import Results

Run = Callable[..., tuple[int, str, str]]
WITH, WITHOUT = 30, 15


def write_folder(toy_root: Path, root: Path, has_mask: Callable[[int], bool]) -> Path:
    """Write the toy data as a folder of one's own: the n-th expression has its mask if ``has_mask(n)``."""
    root.mkdir()
    (root / "pictures").symlink_to(toy_root / "toy" / "images")
    with (root / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "file", "expression", "mask"])
        number = 0
        for scene in RefCOCO(toy_root, "toy").predict_dataloader():
            for text, referent in zip(scene.expressions, scene.referents.tolist(), strict=True):
                mask = json.dumps(encode_rle(scene.targets[referent])) if has_mask(number) else ""
                writer.writerow([f"e{number}", f"pictures/{scene.image_id}.png", text, mask])
                number += 1
    return root


@pytest.fixture(scope="module")
def mixed(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(toy_root, tmp_path_factory.mktemp("own") / "mixed", lambda number: number % 3 > 0)


def arguments(root: Path, clip_dirs: dict[str, str], *more: str) -> list[str]:
    clip = [f"model.clip={clip_dirs['vit']}", "model.pretrained=null", "model.alpha=0.5"]
    trainer = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
    return ["data=folder", f"data.root={root}", "proposals=felzenszwalb", *clip, *trainer, *more]


def test_figures_are_those_of_the_expressions_that_have_a_target(
    mixed: Path, toy_root: Path, clip_dirs: dict[str, str], tmp_path: Path, run_command: Run
) -> None:
    methods = "methods=[global_local,random,largest]"
    code, output, _ = run_command(zero_shot, *arguments(mixed, clip_dirs, methods, f"run_dir={tmp_path}/run"))
    assert code == 0
    said = (
        f"{WITH} evaluated of {WITH} expected; {WITHOUT} more without a target: predictions alone, no figure"
    )
    assert said in output
    found = Results.read(tmp_path / "run" / "results.json")
    assert (found.n_expressions_expected, found.n_expressions_without_target) == (WITH, WITHOUT)
    assert (found.n_images, found.dataset, found.split) == (5, "mixed", "all")
    assert found.failures == {"no proposals": 12, "no proposals, without a target": 6}
    records = read_predictions(tmp_path / "run" / "predictions.jsonl")
    assert len(records) == 3 * (WITH + WITHOUT)
    # an oracle of its own: figures out of the predictions
    for method, figures in found.methods.items():
        own = [record for record in records if record.method == method]
        measured = [record for record in own if record.iou is not None]
        assert [record.sent_id for record in own if record.iou is None] == [f"e{n}" for n in range(0, 45, 3)]
        assert all((r.intersection is None) == (r.union is None) == (r.iou is None) for r in own)
        assert all((record.choice is None) == (record.failure is not None) for record in own)
        ious = [record.intersection / record.union for record in measured]  # type: ignore[operator]
        assert figures["mIoU"] == pytest.approx(100 * sum(ious) / WITH, abs=1e-6)
        both = [sum(getattr(record, area) for record in measured) for area in ("intersection", "union")]
        assert figures["oIoU"] == pytest.approx(100 * both[0] / both[1])
    pictures = {path.name for path in (tmp_path / "run" / "overlays").iterdir()}
    assert "contact_sheet.png" in pictures


def test_without_any_target_there_are_predictions_and_no_figure(
    toy_root: Path, clip_dirs: dict[str, str], tmp_path: Path, run_command: Run
) -> None:
    root = write_folder(toy_root, tmp_path / "none", lambda number: False)
    code, output, _ = run_command(zero_shot, *arguments(root, clip_dirs, f"run_dir={tmp_path}/run"))
    assert code == 0
    assert "0 evaluated of 0 expected; 45 more without a target: predictions alone, no figure" in output
    found = Results.read(tmp_path / "run" / "results.json")
    assert set(found.methods["Global-Local"].values()) == {None}
    assert found.n_expressions_evaluated == 0
    records = read_predictions(tmp_path / "run" / "predictions.jsonl")
    assert [record.iou for record in records] == [None] * 45


def test_what_fails_without_a_target_is_counted_as_that(
    mixed: Path, clip_dirs: dict[str, str], tmp_path: Path, run_command: Run
) -> None:
    # of these settings no image has a proposal but the first
    few = ["proposals.min_area=1000000", f"run_dir={tmp_path}/run"]
    code, _, error = run_command(zero_shot, *arguments(mixed, clip_dirs, *few))
    assert code == 1
    assert f"no proposals ({WITH}); no proposals, without a target ({WITHOUT})" in error


@pytest.mark.parametrize("module", [sweep, recipe_effects], ids=["sweep", "effects"])
def test_other_measurements_leave_them_out_too(
    module: Any, mixed: Path, clip_dirs: dict[str, str], tmp_path: Path, run_command: Run
) -> None:
    more = ["model.alphas=[0.5]", "model.betas=[0.5]"] if module is sweep else []
    code, output, error = run_command(module, *arguments(mixed, clip_dirs, *more, f"run_dir={tmp_path}/run"))
    assert (code, error) == (0, error)
    document = json.loads((tmp_path / "run" / f"{module.COMMAND.name}.json").read_text())
    counts = (
        [row["expressions"] for row in document["rows"] if row.get("expressions")]
        if "rows" in document
        else []
    )
    assert max(counts, default=WITH) == WITH
    assert str(WITH) in output


def test_the_report_on_proposals_knows_the_objects_that_are_given(
    mixed: Path, tmp_path: Path, run_command: Run
) -> None:
    own = [
        "data=folder",
        f"data.root={mixed}",
        "trainer.enable_progress_bar=false",
        f"store={tmp_path}/store",
    ]
    code, _, error = run_command(proposals, *own, "proposals=felzenszwalb", f"run_dir={tmp_path}/fill")
    assert code == 0, error
    code, _, error = run_command(proposals, "report", *own, f"run_dir={tmp_path}/report")
    assert code == 0, error
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert document["n_objects"] == WITH
