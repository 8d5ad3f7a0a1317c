"""What wandb gets of a run: a real offline run, its records and files read back; the sweep's lines."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.cli.command import CONFIGS
from experiments.run.wandb_media import tables_of
from gl_ris.masks import encode_rle
from gl_ris.predictions import Prediction
from gl_ris.visualize import draw_overlays

ROOT = Path(__file__).parents[3]
SLICE = {"n": 4, "oIoU": 20.0, "mIoU": 30.0, "intervals": {"oIoU": [10.0, 25.0]}, "small": True}
DOCUMENT = {
    "experiment": "zero_shot",
    "dataset": "toy set",
    "split": "val",
    "config": {"model": {"alpha": 0.5}},
    "methods": {"Random": {"oIoU": 1.0, "mIoU": 2.0}},
    "intervals": {"Random": {"oIoU": [0.5, 3.0]}},
    "upper_bound": {"oIoU": 90.0, "mIoU": 80.0},
    "errors": {"Random": {"part": {"count": 3, "share": 75.0, "oIoU_gain": 5.0, "mIoU_gain": 6.0}}},
    "slices": {"Random": {"people": {"other": SLICE}}},
    "failures": {},
    "n_images": 1,
}
TARGET, CHOSEN = (torch.zeros(6, 8, dtype=torch.bool) for _ in range(2))
TARGET[1:4, 2:6], CHOSEN[2:5, 3:8] = True, True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one expression."""
    folder = tmp_path_factory.mktemp("run")
    record = Prediction(
        image_id=7,
        ref_id=1,
        sent_id=2,
        expression="the rote Würfel 🌟",
        noun_phrase=None,
        method="Random",
        choice=0,
        score=0.5,
        iou=0.25,
        intersection=6,
        union=21,
        segmentation=encode_rle(CHOSEN),
    )
    (folder / "predictions.jsonl").write_bytes(record.line())
    image = torch.randint(0, 256, (3, 6, 8), dtype=torch.uint8)
    scene = {"ref_ids": [1], "sent_ids": [2], "targets": TARGET[None], "referents": torch.tensor([0])}
    draw_overlays(folder, {0: SimpleNamespace(image=image, **scene)})
    (folder / "results.json").write_text(json.dumps(DOCUMENT))
    (folder / "table.csv").write_text("method\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_RUN_ID": "run1", "WANDB_SWEEP_ID": "sweep1"}
    environment.pop("WANDB_MODE", None)
    words = [sys.executable, "-m", "experiments.wandb_log", str(folder), "--mode=offline"]
    answer = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.fixture(scope="module")
def records(folder: Path) -> list[Any]:
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    protocol = importlib.import_module("wandb.proto.wandb_internal_pb2")
    return [protocol.Record.FromString(data) for data in chunks(file.read_bytes())]


def chunks(data: bytes) -> Iterator[bytes]:
    """Read a log in LevelDB's format, behind wandb's own 7 bytes: parts of records in blocks of 32 KiB."""
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def updates(items: Any) -> dict[str, Any]:
    return {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in items}


def of(kind: str, records: list[Any]) -> list[Any]:
    return [getattr(one, kind) for one in records if one.WhichOneof("record_type") == kind]


def test_a_run_of_a_sweep_is_that_run(records: list[Any]) -> None:
    run = of("run", records)[0]
    assert (run.run_id, run.sweep_id, run.job_type) == ("run1", "sweep1", "zero_shot")
    config = updates(run.config.update)
    assert config["model"] == {"alpha": 0.5}


def test_the_summary_has_figures_intervals_and_kinds_of_miss(records: list[Any]) -> None:
    summary: dict[str, Any] = {}
    for one in of("summary", records):
        summary |= updates(one.update)
    wanted = {
        "Random/oIoU": 1.0,
        "Random/oIoU low": 0.5,
        "Random/oIoU high": 3.0,
        "upper_bound/mIoU": 80.0,
        "errors/Random/part/count": 3,
        "errors/Random/part/oIoU_gain": 5.0,
        "n_images": 1,
        "n_failures": 0,
    }
    assert {name: summary[name] for name in wanted} == wanted


def test_tables_are_sent_as_files(folder: Path) -> None:
    found = {}
    for file in folder.glob("wandb/offline-run-*/files/media/table/*.json"):
        table = json.loads(file.read_text())
        found[file.name.split("_")[0]] = table["columns"], table["data"]
    assert found == {
        "results": (
            ["method", "oIoU", "mIoU", "oIoU low", "oIoU high"],
            [["Random", 1.0, 2.0, 0.5, 3.0], ["Upper bound", 90.0, 80.0, None, None]],
        ),
        "errors": (
            ["method", "kind", "count", "share", "oIoU_gain", "mIoU_gain"],
            [["Random", "part", 3, 75.0, 5.0, 6.0]],
        ),
        "slices": (
            ["method", "slice", "value", "n", "oIoU", "mIoU", "small", "oIoU low", "oIoU high"],
            [["Random", "people", "other", 4, 20.0, 30.0, True, 10.0, 25.0]],
        ),
    }


def test_samples_have_both_masks_pixel_by_pixel(folder: Path, records: list[Any]) -> None:
    history = {k: v for one in of("history", records) for k, v in updates(one.item).items()}
    samples = {name.partition("/")[2]: value for name, value in history.items() if "samples/" in name}
    assert samples["captions"] == ["the rote Würfel 🌟 (Random, IoU 0.250)"]
    assert set(samples["all_masks"][0]) == {"prediction", "target"}
    (files,) = folder.glob("wandb/offline-run-*/files")
    for name, mask in (("prediction", CHOSEN), ("target", TARGET)):
        path = samples["all_masks"][0][name]["path"]
        assert np.array_equal(np.asarray(Image.open(files / path)), mask.numpy().astype(np.uint8))
    assert Image.open(files / samples["filenames"][0]).size == (8, 6)
    assert "contact_sheet/path" in history


def test_the_artifact_has_the_documents(records: list[Any]) -> None:
    (artifact,) = [one for one in of("artifact", records) if one.type == "results"]
    assert artifact.name.startswith("toy_set-val-")
    names = {entry.path for entry in artifact.manifest.contents}
    assert names == {"results.json", "predictions.jsonl", "table.csv"}


def test_documents_without_errors_and_slices_have_no_such_table() -> None:
    assert tables_of({"methods": {}}) == {}


def test_every_line_of_the_sweep_is_one_of_ours() -> None:
    """With wandb's own reader and its own way to make lines; `sweeps` checks the schema, where it is."""
    from experiments import zero_shot
    from experiments.cli.parts import parts_of
    from gl_ris import ZeroShotRIS

    utils = importlib.import_module("wandb.sdk.launch.sweeps.utils")
    config = utils.load_sweep_config(str(CONFIGS / "sweep_wandb.yaml"))
    ends = {
        name: own.get("values") or [own["value"]] if "min" not in own else [own["min"], own["max"]]
        for name, own in config["parameters"].items()
    }
    lines = []
    for values in itertools.islice(itertools.product(*ends.values()), 0, None, 13):
        given = {name: {"value": value} for name, value in zip(ends, values, strict=True)}
        arguments = utils.create_sweep_command_args({"args": given})["args_no_hyphens"]
        model: Any = parts_of(zero_shot.COMMAND, ZeroShotRIS, arguments).model
        lines.append((model.alpha, model.beta, model.variants[0].masked_blocks, model.variants[0].rerank))
        assert lines[-1] == tuple(values[list(ends).index("alpha") :])
        assert f"{model.methods[0]}/oIoU" == config["metric"]["name"]
    assert len(set(lines)) > 3
    command = utils.create_sweep_command(list(config["command"]))
    assert command[2:] == ["-m", "experiments.zero_shot", "${args_no_hyphens}"]
    assert (ROOT / config["program"]).is_file()
    sweeps = pytest.importorskip("sweeps", reason="wandb's sweeps is not installed: it wants NumPy 1")
    assert sweeps.schema_violations_from_proposed_config(config) == []
