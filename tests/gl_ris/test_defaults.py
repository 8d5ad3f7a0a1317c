"""What `gl_ris.segment` takes where no model is named, and what it says before it fetches."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gl_ris
from gl_ris import defaults
from gl_ris.clip import RegionCLIP
from gl_ris.errors import UserError
from gl_ris.pictures import read_picture
from gl_ris.proposals import SAM, SLIC, Felzenszwalb
from tiny_sams import save_sam


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    defaults._say.cache_clear()
    defaults._sam2.cache_clear()
    return tmp_path / "hub"


def in_cache(hub: Path, repository: str, files: Path) -> Path:
    """Put files into the cache of the hub as a download does."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1" * 40)
    snapshot = folder / "snapshots" / ("1" * 40)
    snapshot.parent.mkdir()
    snapshot.symlink_to(files)
    return snapshot


def test_a_photograph_takes_sam_2_and_says_so_once(
    offline: Path,
    clip: RegionCLIP,
    picture: Image.Image,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_cache(offline, "facebook/sam2.1-hiera-tiny", save_sam(tmp_path / "sam2", "sam2_video"))
    # by the defaults, random weights think none of their masks good
    loose = functools.partial(SAM, pred_iou_thresh=-9.0, stability_score_thresh=0.0, min_region=1, min_area=1)
    monkeypatch.setattr("gl_ris.proposals.SAM", loose)
    wanted = loose(str(tmp_path / "sam2"))(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    capsys.readouterr()
    for _ in range(2):
        found = gl_ris.segment(picture, "red", clip=clip)
        assert torch.equal(found.proposals.masks, wanted.masks)
    said = capsys.readouterr().err
    assert said == f"gl_ris.segment: CLIP model {clip.name}, masks by SAM 2 (facebook/sam2.1-hiera-tiny).\n"


def test_the_drawn_world_takes_slic(
    offline: Path, picture: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    found = gl_ris.segment(picture, "red square", clip="refshapes-rn")
    wanted = SLIC()(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    assert torch.equal(found.proposals.masks, wanted.masks)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "gl_ris.segment: CLIP model refshapes-rn, masks by SLIC."
    assert [line.partition(":")[0] for line in said[1:]] == [
        "refshapes-rn knows drawn shapes (RefShapes) and nothing else"
    ]
    loaded = gl_ris.segment(picture, "red square", clip=gl_ris.load_clip("refshapes-rn"))
    assert torch.equal(loaded.mask, found.mask)


def test_what_is_to_be_downloaded_is_said_with_sizes_before(
    offline: Path, picture: Image.Image, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            gl_ris.segment(picture, "red")
    assert capsys.readouterr().err == (
        "gl_ris.segment: CLIP model ViT-B-32-quickgelu (openai), masks by SAM 2 (facebook/sam2.1-hiera-tiny)"
        f"; to be downloaded from https://huggingface.co into {offline}: "
        "timm/vit_base_patch32_clip_224.openai, 605 MB and facebook/sam2.1-hiera-tiny, 156 MB.\n"
    )
    for way in ("proposals=gl_ris.proposals.Felzenszwalb.for_photos()", "SAM('FOLDER')", "a local folder"):
        assert way in str(caught.value)
    clip = "hf download timm/vit_base_patch32_clip_224.openai open_clip_model.safetensors"
    sam = "hf download facebook/sam2.1-hiera-tiny --include '*.json' --include '*.safetensors'"
    assert f"`export HF_HUB_CACHE=$PWD/hub && {clip} && {sam}`" in str(caught.value)
    assert str(caught.value).endswith(f"put what is in that folder hub into {offline}.")
    in_cache(offline, "facebook/sam2.1-hiera-tiny", save_sam(tmp_path / "sam2", "sam2"))
    with pytest.raises(UserError, match="CLIP model 'ViT-B-32-quickgelu'") as caught:
        gl_ris.segment(picture, "red")
    assert "openai, 605 MB.\n" in capsys.readouterr().err
    assert clip in str(caught.value)
    assert sam not in str(caught.value)


def test_an_unfinished_download_is_not_taken_for_the_model(
    offline: Path, clip: RegionCLIP, picture: Image.Image, tmp_path: Path
) -> None:
    snapshot = in_cache(offline, "facebook/sam2.1-hiera-tiny", save_sam(tmp_path / "sam2", "sam2"))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(UserError, match="SAM 2"):
        gl_ris.segment(picture, "red", clip=clip)


def test_other_models_ask_the_hub_for_their_size(
    offline: Path, picture: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="CLIP model 'hf-hub:some/clip'"):
        gl_ris.segment(picture, "red", clip="hf-hub:some/clip", proposals=Felzenszwalb())
    assert "some/clip, of a size that only the hub knows.\n" in capsys.readouterr().err


def test_nothing_is_said_of_what_was_given(
    clip: RegionCLIP, picture: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    gl_ris.segment(picture, "red", clip=clip, proposals=Felzenszwalb())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("size", [(192, 240), (216, 216), (480, 640), (192, 241)])
def test_a_photograph_is_no_drawing(size: tuple[int, int]) -> None:
    noise = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    assert not defaults.is_drawing(noise)
    assert defaults.is_drawing(noise // 64 * 64) == (size in ((192, 240), (216, 216)))


@pytest.mark.parametrize("name", ["make_picture", "make_probes", "make_phrases"])
def test_pictures_of_refshapes_are_drawings(name: str, tmp_path: Path) -> None:
    from datamodules.shapes import scenes

    file = tmp_path / ("a.jpg" if name == "make_phrases" else "a.png")
    words = () if name == "make_phrases" else ("val",)
    getattr(scenes, name)("a seed", *words, file)
    assert defaults.is_drawing(read_picture(file))


@pytest.mark.parametrize(
    ("clip", "shares", "said"),
    [
        ("refshapes-rn", (0.4, 0.75, 1), None),
        ("refshapes-vit", (0.85, 0.5, 3), "suit photographs; for this model give alpha=0.4 beta=0.75 mas"),
        ("ViT-B-32-quickgelu", (0.85, 0.5, 3), None),
        (
            "ViT-B-32-quickgelu",
            (0.4, 0.75, 1),
            "suit the drawn world of RefShapes; for this model give alpha=0.85",
        ),
        ("ViT-B-32-quickgelu", (0.4, 0.75, 2), None),  # someone's own
        ("local-dir:mine", (0.4, 0.75, 1), None),  # it may be of the drawn world, too
    ],
)
def test_shares_that_suit_another_world_are_told(
    clip: str, shares: tuple[float, float, int], said: str | None
) -> None:
    found = defaults.shares_of_others(clip, defaults.Shares(*shares))
    assert found is None if said is None else said in (found or "")
