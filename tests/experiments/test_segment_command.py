"""``python -m experiments.segment``: one's own photos, by the shipped CLIP and by ready masks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import gl_ris
from experiments import segment
from experiments.cli.photo_words import apart, line_of
from experiments.run.photos import safe
from gl_ris.masks import decode_rle
from gl_ris.segmentation import Segmenter

Run = Callable[..., tuple[int, str, str]]
SHIPPED = "clip=refshapes-rn"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two drawings of a red and a blue square, and a file that is no image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics").mkdir()
    for name, left in (("b c.png", 130), ("a.png", 20)):
        drawing = Image.new("RGB", (240, 192), (168, 180, 186))
        drawing.paste((214, 40, 40), (left, 40, left + 60, 100))
        drawing.paste((30, 80, 200), (150 - left, 110, 200 - left, 160))
        drawing.save(tmp_path / "pics" / name)
    (tmp_path / "pics" / "notes.txt").touch()
    return tmp_path


def test_one_photo_gives_mask_cutout_overlay_and_document(folder: Path, run_command: Run) -> None:
    code, output, _ = run_command(segment, "pics/a.png", "the red square", SHIPPED, "run_dir=run")
    assert code == 0
    own = gl_ris.segment("pics/a.png", "the red square", clip="refshapes-rn")
    found = json.loads((folder / "run" / "segmentation.json").read_text())
    mask = np.asarray(Image.open(folder / "run" / "mask.png"))
    assert sorted(np.unique(mask)) == [0, 255]
    assert np.array_equal(mask > 0, own.mask.numpy())
    assert np.array_equal(decode_rle(found["segmentation"]).numpy(), own.mask.numpy())
    assert found["box"] == own.box.tolist() == pytest.approx([20, 40, 80, 100], abs=2)
    assert (found["area"], found["size"]) == (int(own.mask.sum()), [192, 240])
    assert [row["proposal"] for row in found["ranking"]] == own.ranking.tolist()
    assert [row["area"] for row in found["ranking"]] == [
        int(own.proposals.masks[row].sum()) for row in own.ranking.tolist()
    ]
    assert found["score"] == found["ranking"][0]["score"] == pytest.approx(own.score, abs=1e-6)
    assert (found["noun_phrase"], found["parsed"]) == ("the red square", {"head": "red square"})
    assert found["models"] == {
        "clip": "refshapes-rn",
        "pretrained": None,
        "method": "Global-Local",
        "alpha": 0.4,
        "beta": 0.75,
        "masked_blocks": 1,
        "proposals": "slic",
        "rerank": "none",
    }
    assert found["config"]["model"]["alpha"] is None
    assert found["seconds"]["image"] > 0
    assert found["versions"]["torch"]
    cutout = Image.open(folder / "run" / "cutout.png")
    left, top, right, bottom = found["box"]
    assert (cutout.mode, cutout.size) == ("RGBA", (right - left, bottom - top))
    inside = mask[top:bottom, left:right]
    assert np.array_equal(np.asarray(cutout)[..., 3], inside)
    image = np.asarray(Image.open("pics/a.png"))[top:bottom, left:right]
    assert np.array_equal(np.asarray(cutout)[..., :3][inside > 0], image[inside > 0])
    assert Image.open(folder / "run" / "overlay.png").width == 480
    row = ["1", f"{found['score']:.4f}", *map(str, found["box"]), f"{found['area'] / 192 / 240:.1%}"]
    assert row in [line.split() for line in output.splitlines()]
    assert "Written      config.yaml, cutout.png, mask.png, overlay.png, segmentation.json" in output
    assert f"segment rerank=full pics/a.png {SHIPPED} 'the red square'" in output.splitlines()[-1]


def test_a_folder_goes_on_behind_an_image_that_cannot_be_read(folder: Path, run_command: Run) -> None:
    (folder / "pics" / "aa.jpg").write_bytes(b"no image")
    asked = ["the red square", "../the blue/square"]
    code, output, error = run_command(segment, "pics", *asked, SHIPPED, "run_dir=run")
    assert code == 1
    assert "error: 2 of 6 answers failed" in error
    assert output.count("FAILED: The image 'pics/aa.jpg' cannot be read") == 2
    lines = [json.loads(line) for line in (folder / "run" / "segmentations.jsonl").read_text().splitlines()]
    assert [(line["image"], line["expression"]) for line in lines] == [
        (f"pics/{name}", text) for name in ("a.png", "aa.jpg", "b c.png") for text in asked
    ]
    assert [line["folder"] for line in lines] == [
        "segmentations/1_a_the-red-square",
        "segmentations/2_a_the-blue-square",
        None,
        None,
        "segmentations/5_b-c_the-red-square",
        "segmentations/6_b-c_the-blue-square",
    ]
    assert ["failure" in line for line in lines] == [False, False, True, True, False, False]
    for line in (line for line in lines if line["folder"]):
        written = folder / "run" / line["folder"]
        assert {path.name for path in written.iterdir()} == {
            "mask.png",
            "cutout.png",
            "overlay.png",
            "segmentation.json",
        }
        assert json.loads((written / "segmentation.json").read_text())["segmentation"] == line["segmentation"]
    assert {path.name for path in (folder / "run").iterdir()} == {
        "config.yaml",
        "segmentations",
        "segmentations.jsonl",
    }
    assert run_command(segment, "pics/a.png", "red", SHIPPED, "run_dir=run", "overwrite=true")[0] == 0
    assert not (folder / "run" / "segmentations").exists(), "what another run has left"


def test_an_image_that_fails_in_a_way_that_nobody_foresaw_is_one_of_several(
    folder: Path, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens, seen = Segmenter.open, []

    def broken(self: Segmenter, image: Path) -> object:
        seen.append(image)
        if len(seen) == 1:
            raise RuntimeError("out of memory")
        return opens(self, image)

    monkeypatch.setattr(Segmenter, "open", broken)
    code, output, error = run_command(segment, "pics", "the red square", SHIPPED, "run_dir=run")
    assert (code, "FAILED: RuntimeError: out of memory" in output) == (1, True)
    assert "error: 1 of 2 answers failed" in error


def test_the_settings_of_a_run_run_again(folder: Path, run_command: Run) -> None:
    line = ["pics/a.png", "the red square"]
    more = [SHIPPED, "method=cropping", "proposals=felzenszwalb", "alpha=0.1", "rerank=full", "top=2"]
    assert run_command(segment, *line, *more, "run_dir=run")[0] == 0
    config = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    assert (config["model"]["method"], config["model"]["top"]) == ("cropping", 2)
    assert run_command(segment, *line, "run_dir=again", "--config", "run/config.yaml")[0] == 0
    first, second = (json.loads((folder / run / "segmentation.json").read_text()) for run in ("run", "again"))
    assert first["ranking"] == second["ranking"]
    assert first["models"] == second["models"]
    assert first["models"]["proposals"] == "felzenszwalb"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pics/a.png"], "Give an image and what to look for"),
        (["pics/a.png", "  "], "Give an image and what to look for"),
        (["no.png", "red"], "'no.png' cannot be read: there is no such file"),
        (["empty", "red"], "There is no image in the folder 'empty'"),
        (["pics/a.png", "pics/b c.png", "red"], "'pics/b c.png' stands where an expression does"),
        (["pics/a.png", "red", "top=3"], "rerank=none ranks none"),
        (["pics/a.png", "red", "rerank=ful"], "Unknown rerank 'ful'. Did you mean 'full'"),
        (["pics/a.png", "red", "alphas=3"], "Unknown option 'alphas'. Did you mean 'model.alpha'"),
        (["pics/a.png", "red", "alpha=3"], "alpha"),
        (["pics/a.png", "red", "proposals=ground_truth"], "has no true masks"),
        (["pics/a.png", "red", "proposals=slik"], "Unknown proposals 'slik'. Did you mean 'slic'"),
        (["pics/a.png", "red", "resume=true"], "Unknown option 'resume'"),
        (["pics/notes.txt", "red"], "it is none of JPEG, PNG"),
        (["pics/a.png", "red", "run_dir=pics"], "is not empty; name another one, or replace it"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    words: list[str], message: str, folder: Path, refusal: Callable[..., str]
) -> None:
    (folder / "empty").mkdir()
    assert message in refusal(segment, *words, SHIPPED)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    "words", [["a.jpg", "a dog"], ["a b", "it's", "x=1"], ["pics", "--odd", "--", "a"], ["p", "é = è"]]
)
def test_the_line_that_is_suggested_says_the_same(words: list[str]) -> None:
    options = ["--model.alpha=0.5", "--rerank=full", "--run_dir=x", "--top=3", "--post.nms=0.5"]
    found, kept = apart(shlex.split(line_of(words, options)))
    assert (found, kept) == (words, ["--model.alpha=0.5", "--post.nms=0.5"])


@pytest.mark.parametrize("text", ["../../etc/passwd", "a" * 300, "\x00\n", "猫", "CON.", "a//b"])
def test_names_of_folders_are_safe(text: str) -> None:
    assert len(safe(text)) <= 40
    assert not set(safe(text)) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
