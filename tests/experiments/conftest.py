"""A toy data set in the real file format, tiny CLIPs, and the commands as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gl_ris.command_line import exit_code
from gl_ris.visualize import COUNT, draw_overlays
from tiny_clips import save_clip

ROOT = Path(__file__).parents[2]
SIZES = [(45, 70), (50, 40), (64, 64), (40, 60), (61, 47)]
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
EXPRESSIONS = ("the {} square", "{} square above the star", "left {} dog")
# for each image the categories of its phrases; "Dog" and "man" are unseen by their letters alone
CATEGORIES = [["dog", "man"], ["sky", "table", "dog"], ["Dog", "grass"], ["dog", "dog"]]


@pytest.fixture(scope="session")
def clip_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Names of two tiny CLIPs by kind of tower."""
    base = tmp_path_factory.mktemp("clips")
    return {kind: f"local-dir:{save_clip(base / kind, kind)}" for kind in ("vit", "resnet")}


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of REFER data set ``toy``: five images of three coloured blocks, nine expressions each."""
    return write_toy(tmp_path_factory.mktemp("data"), SIZES)


def write_toy(root: Path, sizes: list[tuple[int, int]]) -> Path:
    from datamodules.refer import write_refer

    refs: list[dict[str, Any]] = []
    instances: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "square"}]}
    (root / "toy" / "images").mkdir(parents=True)
    rng = np.random.default_rng(5)
    for number, (height, width) in enumerate(sizes, start=1):
        pixels = rng.integers(90, 110, (height, width, 3), dtype=np.uint8)
        file_name = f"{number}.png"
        instances["images"].append({"id": number, "file_name": file_name, "height": height, "width": width})
        for place, (word, colour) in enumerate(COLOURS.items()):
            ref_id = 10 * number + place
            top, left, side = 3 + 11 * place, 4 + 10 * place + number, 8 + number
            pixels[top : top + side, left : left + side] = colour
            corners = [left, top, left + side, top, left + side, top + side, left, top + side]
            instances["annotations"].append(
                {
                    "id": ref_id,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": [[float(value) for value in corners]],
                    "area": float(side * side),
                    "bbox": [float(left), float(top), float(side), float(side)],
                    "iscrowd": 0,
                }
            )
            texts = [text.format(word) for text in EXPRESSIONS]
            sent_ids = [100 * ref_id + i for i in range(len(texts))]
            sentences = [
                {"sent_id": i, "sent": text, "raw": text, "tokens": text.split()}
                for i, text in zip(sent_ids, texts, strict=True)
            ]
            refs.append(
                {
                    "ref_id": ref_id,
                    "ann_id": ref_id,
                    "image_id": number,
                    "category_id": 1,
                    "split": "val",
                    "file_name": file_name,
                    "sent_ids": sent_ids,
                    "sentences": sentences,
                }
            )
        Image.fromarray(pixels).save(root / "toy" / "images" / file_name)
    write_refer(root / "toy", "unc", refs, instances)
    return root


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures in place of a dozen, which take half the time of a run this small."""
    monkeypatch.setitem(draw_overlays.__kwdefaults__, "count", 2)


@pytest.fixture
def all_pictures(few_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many pictures as a run draws for its user."""
    monkeypatch.setitem(draw_overlays.__kwdefaults__, "count", COUNT)


@pytest.fixture(scope="session")
def phrases_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of coloured blocks, a phrase per block."""
    from datamodules.phrasecut import write_phrasecut

    root = tmp_path_factory.mktemp("phrases")
    rng = np.random.default_rng(3)
    tasks, images = [], []
    (root / "images").mkdir()
    for number, names in enumerate(CATEGORIES, start=1):
        pixels = rng.integers(90, 110, (48, 60, 3), dtype=np.uint8)
        for place, name in enumerate(names):
            left, side = 2 + 19 * place, 9 + 2 * place + number
            pixels[5 : 5 + side, left : left + side] = rng.integers(0, 255, 3)
            right, low = left + side - 1, 4 + side
            points = [[left, 5], [right, 5], [right, low], [left, low]]
            tasks.append(
                {
                    "task_id": f"{number}__{place}",
                    "image_id": number,
                    "ann_ids": [place],
                    "phrase": f"{name} {place}",
                    "phrase_structure": {"name": name, "attributes": []},
                    "instance_boxes": [[left, 5, side, side]],
                    "Polygons": [[points]],
                }
            )
        Image.fromarray(pixels).save(root / "images" / f"{number}.jpg")
        images.append({"image_id": number, "width": 60, "height": 48, "url": "", "split": "test"})
    write_phrasecut(root, "test", tasks, images)
    return root


Command = Callable[..., "subprocess.CompletedProcess[str]"]
RunHere = Callable[..., tuple[int, str, str]]
Refusal = Callable[..., str]


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> RunHere:
    """Run a command, given as its module, in this process; gives exit code, output and error output."""

    def start(module: Any, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [module.COMMAND.name, *arguments])
        code = exit_code(module.main)
        return code, *capfd.readouterr()

    return start


@pytest.fixture
def grid_here(run_command: RunHere) -> RunHere:
    """Run a grid, given as its module, in this process, with its cells, which otherwise have their own."""
    from experiments import supervised, zero_shot

    def here(line: Sequence[str], *_: Any, **options: Any) -> SimpleNamespace:
        """Stands for `experiments.grid.runner.start`."""
        assert line[:2] == [sys.executable, "-m"]
        module = {f"experiments.{m.COMMAND.name}": m for m in (supervised, zero_shot)}[line[2]]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [module.COMMAND.name, *line[3:]])
            code = exit_code(module.main)
        return SimpleNamespace(wait=lambda: code, poll=lambda: code)

    def start(module: Any, *arguments: str) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("experiments.grid.runner.start", here)
            return run_command(module, *arguments)

    return start


@pytest.fixture
def tables_here(grid_here: RunHere) -> RunHere:
    """Run ``experiments.tables`` in this process, with its cells."""
    from experiments import tables

    return partial(grid_here, tables)


@pytest.fixture
def refusal(run_command: RunHere) -> Refusal:
    """Run a command, check that it refuses in one line, with code 2, before any work, and give the line."""

    def start(module: Any, *arguments: str) -> str:
        before = sorted(Path().rglob("*"))
        code, _, error = run_command(module, *arguments)
        assert code == 2
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert sorted(Path().rglob("*")) == before
        return error

    return start


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run ``python -m experiments.<name> <arguments>`` in an empty folder, as a user would."""
    folder = tmp_path / "here"
    folder.mkdir()

    def start(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"experiments.{name}", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment},
            capture_output=True,
            text=True,
            timeout=1000,
            check=False,
        )

    return start


@pytest.fixture
def toy(toy_root: Path, clip_dirs: dict[str, str]) -> list[str]:
    """Arguments of a run on the toy data set: ViT, two methods, ground-truth proposals, no bar."""
    return [
        "data=datamodules.RefCOCO",
        f"data.root={toy_root}",
        "data.dataset=toy",
        "proposals=ground_truth",
        f"model.clip={clip_dirs['vit']}",
        "methods=[global_local,cropping,random]",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
    ]
