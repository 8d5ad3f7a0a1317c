"""The parquet files of Hugging Face repositories, from the command line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import zero_shot
from gl_ris.command_line import exit_code
from gl_ris.masks import encode_rle

pa = pytest.importorskip("pyarrow", reason="the extra 'hf' is not installed: pip install 'pyarrow>=17'")

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    clip_dirs: dict[str, str],
) -> Run:
    """Run the command in this process, without the user's cache; gives exit code and error output."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    fixed = [f"model.clip={clip_dirs['vit']}", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]

    def start(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["zero_shot", *arguments, f"data.root={tmp_path / 'data'}", *fixed])
        return exit_code(zero_shot.main), capsys.readouterr().err

    return start


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("refcoco-benchmark", "'refcoco_unc_val' of jxu124/refcoco-benchmark:"),
        ("refcoco+-benchmark", "'refcoco_plus_unc_val' of jxu124/refcoco-benchmark:"),
        ("refcocog-benchmark", "'refcocog_umd_val' of jxu124/refcoco-benchmark:"),
        ("refcocog-google-benchmark", "'refcocog_google_val' of jxu124/refcoco-benchmark:"),
        ("refcoco-m", "'validation' of moondream/refcoco-m:"),
    ],
)
def test_every_config_says_which_files_it_wants(run: Run, name: str, files: str) -> None:
    code, error = run(f"data={name}")
    assert code == 2
    assert error.startswith(f"error: No parquet files of {files} they are not in ")
    assert error.count("\n") == 1


def test_a_run_on_refcoco_m(run: Run, tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    import torch

    rows: list[dict[str, Any]] = []
    for image_id in (3, 1, 2):
        pixels = np.full((40, 60, 3), 100, dtype=np.uint8)
        pixels[10:30, 5 * image_id : 5 * image_id + 20] = (220, 30, 30)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        mask = encode_rle(torch.from_numpy(pixels[..., 0] == 220))
        sample = {"id": 10 + image_id, "sentences": ["red square", "the square"], "mask": mask}
        image = {"bytes": buffer.getvalue(), "path": None}
        rows.append({"image": image, "image_id": image_id, "file_name": "a.jpg", "samples": [sample]})
    rows[2]["image"]["bytes"] = rows[2]["image"]["bytes"][:60]
    folder = tmp_path / "data" / "refcoco-m" / "data"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "validation-00000-of-00001.parquet")

    code, error = run("data=refcoco-m", f"run_dir={tmp_path / 'run'}")
    assert code == 0, error
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [found[key] for key in ("dataset", "split", "partition")] == ["refcoco-m", "val", "unc"]
    assert [found[f"n_{key}"] for key in ("images", "expressions_expected", "expressions_evaluated")] == [
        3,
        6,
        6,
    ]
    ((reason, failed),) = found["failures"].items()
    assert (reason.startswith("image cannot be read"), failed) == (True, 2)
    lines = (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()
    assert {json.loads(line)["image_id"] for line in lines} == {1, 2, 3}
    # the card's metric, by a loop over the pairs of image and sentence
    ious = [json.loads(line)["iou"] for line in lines]
    assert found["own_metric"]["name"] == "RefCOCO-M's mIoU over (image, sentence) pairs"
    assert found["own_metric"]["methods"] == {"Global-Local": pytest.approx(100 * sum(ious) / 6)}
    table = (tmp_path / "run" / "table.txt").read_text()
    assert f"Own metric   {found['own_metric']['name']}: Global-Local {100 * sum(ious) / 6:.2f}\n" in table
    # the square is the only thing there, and SLIC finds it to the pixel
    assert found["upper_bound"]["mIoU"] == pytest.approx(100 * 4 / 6)
