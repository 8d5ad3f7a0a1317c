"""``python -m experiments.calibrate`` and what a run makes of its thresholds, on a toy gRefCOCO."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import calibrate, zero_shot
from real_data import write_grefcoco, write_refer_set

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def gref_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gref")
    write_refer_set(root, "refcoco", "unc", ("train", "val", "testA", "testB"))
    write_grefcoco(root)
    return root


@pytest.fixture
def gref(gref_root: Path, clip_dirs: dict[str, str]) -> list[str]:
    words = [
        "data=grefcoco",
        f"data.root={gref_root}",
        f"model.clip={clip_dirs['vit']}",
        "model.pretrained=null",
    ]
    return [*words, "proposals=ground_truth", "methods=[global_local,random]", "wandb=disabled"]


def intervals_by_hand(lines: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The intervals of GRES's figures from predictions, image by image, draw by draw."""
    ids = sorted({line["image_id"] for line in lines})
    rows = {one: [line for line in lines if line["image_id"] == one] for one in ids}
    drawn: dict[str, list[float]] = {name: [] for name in ("gIoU", "cIoU", "N_acc", "T_acc")}
    for draw in np.random.default_rng(0).integers(0, len(ids), (5000, len(ids))):
        own = [line for place in draw for line in rows[ids[place]]]
        none, some = ([x for x in own if bool(x["target"]) == there] for there in (False, True))
        drawn["gIoU"].append(np.mean([x["iou"] for x in own]))
        drawn["cIoU"].append(sum(x["intersection"] for x in own) / sum(x["union"] for x in own))
        drawn["N_acc"].append(np.mean(["abstained" in x for x in none]))
        drawn["T_acc"].append(np.mean(["abstained" not in x for x in some]))
    return {name: (100 * np.percentile(values, (2.5, 97.5))).tolist() for name, values in drawn.items()}


def test_thresholds_from_train_are_used_on_val(run_command: Run, gref: list[str], tmp_path: Path) -> None:
    made, run = tmp_path / "made", tmp_path / "run"
    code, output, error = run_command(calibrate, *gref, "split=train", f"run_dir={made}")
    assert code == 0, error
    assert sorted(path.name for path in made.iterdir()) == ["config.yaml", "results.json", "thresholds.json"]
    file = made / "thresholds.json"
    assert f"Use them by abstain={file} union={file}" in output
    found = json.loads(file.read_text())
    assert (found["split"], found["n_images"], found["n_expressions"]) == ("train", 4, 8)
    assert found["methods"]["Random"]["none"]["gIoU"] <= found["methods"]["Random"]["both"]["gIoU"]
    rule = found["methods"]["Global-Local"]["both"]

    given = [f"abstain={file}", f"union={file}"]
    code, output, error = run_command(zero_shot, *gref, *given, f"run_dir={run}")
    assert code == 0, error
    assert "4 evaluated of 4 expected; 4 more known to have no target: in gIoU, cIoU and N_acc" in output
    assert "found on grefcoco train (4 images), proposals: ground_truth" in output
    results = json.loads((run / "results.json").read_text())
    assert (results["n_expressions_expected"], results["n_expressions_no_target"]) == (4, 4)
    assert results["subsets"]["multi"]["n_expressions_evaluated"] == 4
    assert results["subsets"]["single"]["n_expressions_evaluated"] == 0
    assert results["rules"]["Global-Local"].items() >= {k: v for k, v in rule.items() if k != "gIoU"}.items()
    assert list(results["inputs"]["thresholds"]) == [str(file)]
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert [line["target"] for line in lines[::2]] == [[0, 1], []] * 4
    own = [line for line in lines if line["method"] == "Random"]
    assert results["methods"]["Random"]["gIoU"] == pytest.approx(100 * np.mean([x["iou"] for x in own]))
    sure = results["intervals"]["Random"]
    expected = intervals_by_hand(own)
    assert {name: sure[name] for name in expected} == {
        k: pytest.approx(v, abs=1e-6) for k, v in expected.items()
    }


def test_another_split_is_refused(run_command: Run, gref: list[str], tmp_path: Path) -> None:
    code, _, error = run_command(calibrate, *gref, "split=val", f"run_dir={tmp_path / 'run'}")
    assert code == 2
    assert "Thresholds found on 'val' would be tuned to it; calibrate on split=train" in error
    assert not (tmp_path / "run").exists()
