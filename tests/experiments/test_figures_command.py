"""``python -m experiments.figures`` from end to end on a toy data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from experiments import figures, zero_shot
from experiments.reporting import figures_report
from experiments.reporting.panels import Page
from gl_ris.clip import load_clip
from gl_ris.masks import decode_rle
from gl_ris.scorers.grad_cam import GradCAM

Run = Callable[..., tuple[int, str, str]]
LOCAL, GLOBAL, BOTH = "Local (crop)", "Global (masked)", "Both"
TOLD = (
    "image_id",
    "ref_id",
    "sent_id",
    "expression",
    "noun_phrase",
    "method",
    "choice",
    "score",
    "iou",
    "failure",
)


@pytest.fixture
def run_here(run_command: Run) -> Run:
    return partial(run_command, figures)


@pytest.fixture
def data(toy: list[str]) -> list[str]:
    return [argument for argument in toy if not argument.startswith("methods=")]


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    """What is handed over to be drawn, which takes its time, and is not drawn."""
    given: list[Page] = []
    monkeypatch.setattr(figures_report, "draw", lambda page, stem: given.append(page))
    return given


def document(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def target(toy_root: Path, ref_id: int, size: tuple[int, int]) -> np.ndarray:
    """The square of a ref, from its corners: from left, top up to but without right, bottom."""
    instances = json.loads((toy_root / "toy" / "instances.json").read_text())
    (corners,) = (one["segmentation"][0] for one in instances["annotations"] if one["id"] == ref_id)
    (left, top), (right, bottom) = map(int, corners[:2]), map(int, corners[4:6])
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_figure_5_is_drawn_of_the_images_that_it_shows_alone(
    run_here: Run, data: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    code, output, _ = run_here("figure=5", "n=2", *data, f"run_dir={folder}")
    assert code == 0
    names = [f"figure5.{kind}" for kind in ("png", "pdf", "json")]
    assert all(name in output for name in (str(folder), *names))
    assert {path.name for path in folder.iterdir()} >= {*names, "results.json", "config.yaml"}
    with Image.open(folder / "figure5.png") as picture:
        assert picture.width == 1380
    results, found = document(folder / "results.json"), document(folder / "figure5.json")
    assert (results["n_images"], list(results["methods"])) == (2, [LOCAL, GLOBAL, BOTH])
    shown = found["sheets"]["figure5"]
    assert [one["method"] for one in shown] == [LOCAL, GLOBAL, BOTH] * 2
    assert len({one["image_id"] for one in shown}) == 2
    kept = [{name: line[name] for name in TOLD} for line in lines(folder)]
    assert all(one in kept for one in shown)
    assert found["config"]["model"]["items"] == "random"


def test_panels_have_the_image_the_target_and_each_choice(
    run_here: Run, data: list[str], tmp_path: Path, toy_root: Path, pages: list[Page]
) -> None:
    folder = tmp_path / "run"
    code, _, _ = run_here("figure=5", "items=[3102,1000]", *data, f"run_dir={folder}")
    assert code == 0
    (page,) = pages
    assert page.titles == ["Target", LOCAL, GLOBAL, BOTH]
    assert [row.expression for row in page.rows] == ["left blue dog", "the red square"]
    kept = {(line["sent_id"], line["method"]): line for line in lines(folder)}
    for row, (sent_id, ref_id) in zip(page.rows, [(3102, 31), (1000, 10)], strict=True):
        with Image.open(toy_root / "toy" / "images" / f"{ref_id // 10}.png") as picture:
            image = np.asarray(picture.convert("RGB"))
        first, *others = row.panels
        assert row.phrase == kept[sent_id, BOTH]["noun_phrase"]
        assert (first.image == image).all()
        assert (first.target == target(toy_root, ref_id, image.shape[:2])).all()
        assert first.chosen is None
        for panel, method in zip(others, page.titles[1:], strict=True):
            line = kept[sent_id, method]
            assert (panel.chosen == decode_rle(line["segmentation"]).numpy()).all()
            assert panel.corner == f"IoU {100 * line['iou']:.0f}"
            assert panel.target is None


def test_a_finished_run_is_drawn_without_evaluating(
    run_here: Run, run_command: Run, toy: list[str], tmp_path: Path, pages: list[Page]
) -> None:
    run, folder = tmp_path / "run", tmp_path / "folder"
    assert run_command(zero_shot, *toy, f"run_dir={run}")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    drawn = ["figure=7", f"run={run}", "items=disagree", "n=3", f"run_dir={folder}"]
    code, output, error = run_here(*drawn)
    assert (code, error) == (0, "")
    assert "figure7.json" in output
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "figure7.json"]
    kept = lines(run)
    masks: dict[int, set[str]] = {}
    for line in kept:
        masks.setdefault(line["sent_id"], set()).add(json.dumps(line["segmentation"]))
    shown = document(folder / "figure7.json")["sheets"]["figure7"]
    assert len(shown) == 9
    assert all(len(masks[one["sent_id"]]) > 1 for one in shown)
    assert [list(page.titles) for page in pages] == [["Target", "Global-Local", "Cropping", "Random"]]
    code, _, error = run_here(*drawn[:3], "limit=1", f"run_dir={tmp_path / 'other'}")
    assert code == 2
    assert "The data have no image 2" in error
    # as a run of evaluate_predictions or supervised has it
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "model": {"predictions": "theirs.jsonl"}}))
    code, _, error = run_here(*drawn[:-1], f"run_dir={tmp_path / 'theirs'}")
    assert (code, error) == (0, "")
    assert document(tmp_path / "theirs" / "figure7.json")["sheets"]["figure7"] == shown


def test_heat_maps_are_those_that_masks_were_scored_by(
    run_here: Run, data: list[str], clip_dirs: dict[str, str], tmp_path: Path, pages: list[Page]
) -> None:
    methods = "methods=[grad_cam,heat_map,{method: score_map, rerank: full}]"
    code, _, error = run_here("figure=heat", methods, "n=2", *data, f"run_dir={tmp_path / 'run'}")
    assert code == 0, error
    (page,) = pages
    for row in page.rows:
        assert [panel.heat is not None for panel in row.panels] == [False, True, True, True]
        for panel in row.panels[1:]:
            assert panel.heat is not None
            assert panel.heat.shape == panel.image.shape[:2]
            assert (panel.heat.min(), panel.heat.max()) in [(0, 1), (0, 0)]
    row = page.rows[0]
    image = torch.from_numpy(row.panels[0].image).permute(2, 0, 1)
    scorer = GradCAM(load_clip(clip_dirs["vit"]), recipe="clean")
    context = scorer.clip.context(image, torch.ones(1, *image.shape[1:], dtype=torch.bool))
    grid = scorer.maps(context, [row.expression])[0].numpy()
    heat = row.panels[1].heat
    assert heat is not None
    top, left = np.unravel_index(heat.argmax(), heat.shape)
    rows, columns = grid.shape
    peak = grid[top * rows // heat.shape[0], left * columns // heat.shape[1]]
    assert peak == pytest.approx(grid.max(), rel=0.2, abs=1e-9)


def test_misses_are_drawn_by_their_kinds(
    run_here: Run, data: list[str], tmp_path: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All proposals are the squares, which do not overlap much: a miss is one of the others."""
    pages: dict[str, Page] = {}
    monkeypatch.setattr(figures_report, "draw", lambda page, stem: pages.setdefault(stem.name, page))
    folder = tmp_path / "run"
    code, _, error = run_here("figure=errors", "methods=[random,largest]", "n=5", *data, f"run_dir={folder}")
    assert code == 0, error
    assert list(pages) == ["figure_errors_same_category", "figure_errors_same_category_2"]
    kept = lines(folder)
    told = document(folder / "figure_errors.json")["sheets"]
    for (name, page), method in zip(pages.items(), ("Random", "Largest"), strict=True):
        missed = [line for line in kept if line["method"] == method and line["iou"] < 0.5]
        assert (
            page.heading == f"{method}: 5 of the {len(missed)} that took another object of the same category"
        )
        assert (len(page.rows), page.across, list(page.titles)) == (5, 4, [])
        assert len({one["image_id"] for one in told[name]}) == 5
        for row, one in zip(page.rows, told[name], strict=True):
            (line,) = (line for line in missed if line["sent_id"] == one["sent_id"])
            (panel,) = row.panels
            assert panel.chosen is not None
            assert (panel.chosen == decode_rle(line["segmentation"]).numpy()).all()
            assert (panel.target == target(toy_root, line["ref_id"], panel.image.shape[:2])).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["figure=8"], "Unknown figure '8'. Available: 5, 6, 7, errors, heat"),
        ([], "There is nothing to draw; choose a figure"),
        (["figure=7", "methods=[global_lokal]"], "Did you mean 'global_local'"),
        (["figure=heat", "methods=[cropping]"], "Unknown method with a heat map 'cropping'"),
        (["figure=5", "items=[5]"], "0 expressions have the sent_id 5"),
        (["figure=5", "items=best"], "items must be random or disagree"),
        (["figure=errors", "items=disagree"], "Of misses n of each kind are drawn at random"),
        (["figure=7", "run=nowhere"], "nowhere"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused_before_any_work(
    refusal: Callable[..., str], data: list[str], arguments: list[str], said: str
) -> None:
    assert said in refusal(figures, *arguments, *data)


def test_where_all_methods_agree_it_is_said(run_here: Run, data: list[str], tmp_path: Path) -> None:
    same = "methods=[cropping,{method: global_local, title: Same, alpha: 0, beta: 1}]"
    whole = ["figure=7", same, "beta=1", "items=disagree", *data, f"run_dir={tmp_path / 'run'}"]
    code, _, error = run_here(*whole)
    assert code == 2
    assert "The methods choose the same mask for all 45 expressions" in error
