"""Loading: folders, files and downloads, with the weights' own preprocessing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch

from gl_ris.clip import RegionCLIP, load_clip, loading
from gl_ris.errors import UserError
from gl_ris.scorers.global_local import GlobalLocal


@pytest.fixture
def folder(clip_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A tiny CLIP of its own to damage."""
    return Path(shutil.copytree(clip_folder("vit"), tmp_path / "clip"))


@pytest.mark.parametrize(("kind", "size", "grid"), [("vit", 32, 4), ("resnet", 96, 3)])
def test_a_folder_loads_with_its_own_preprocessing(
    clips: dict[str, RegionCLIP], kind: str, size: int, grid: int
) -> None:
    clip = clips[kind]
    assert (clip.image_size, clip.tower.grid_size) == ((size, size), (grid, grid))
    assert (clip.mean, clip.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    assert (clip.interpolation, clip.feature_dim) == ("bicubic", 24)
    assert not clip.training
    assert not any(value.requires_grad for value in clip.parameters())
    pixels = torch.randn(11, 3, size, size)
    with torch.no_grad():
        expected = clip.model.encode_image(pixels)
    torch.testing.assert_close(clip.encode_image(pixels), expected, rtol=1e-5, atol=1e-5)


def test_half_precision_weights_are_read_into_float32(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = folder / "open_clip_model.safetensors"
    save_file({key: value.half() for key, value in load_file(weights).items()}, weights)
    model = load_clip(f"local-dir:{folder}").model
    assert {value.dtype for value in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_lower_precision_gives_nearby_float32_features(
    clip_folder: Callable[..., Path], kind: str, dtype: torch.dtype, image: torch.Tensor, masks: torch.Tensor
) -> None:

    name = f"local-dir:{clip_folder(kind)}"
    full, low = (GlobalLocal(load_clip(name, dtype=d), recipe="clean") for d in (None, dtype))
    for a, b in zip(full.visual_features(image, masks), low.visual_features(image, masks), strict=True):
        assert b.dtype == torch.float32
        assert 0 < (a - b).abs().max() < 0.05
    a, b = (scorer.text_features(["a dog"], ["dog"]) for scorer in (full, low))
    assert 0 < (a - b).abs().max() < 0.05


def test_random_weights_are_announced() -> None:
    with pytest.warns(UserWarning, match="'ViT-S-32-alt' has random weights"):
        clip = load_clip("ViT-S-32-alt")
    assert clip.tower.kind == "vit"


def test_a_weights_file_of_an_architecture(tmp_path: Path) -> None:
    model = open_clip.create_model("ViT-S-32-alt")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.warns(UserWarning, match="does not say its activation and preprocessing"):
        clip = load_clip("ViT-S-32-alt", str(tmp_path / "weights.pt"))
    assert torch.equal(clip.model.visual.proj, model.visual.proj)
    (tmp_path / "weights.pt").write_bytes((tmp_path / "weights.pt").read_bytes()[:5000])
    message = r"weights of CLIP model 'ViT-S-32-alt' cannot be loaded .* complete"
    with pytest.warns(UserWarning, match="does not say"), pytest.raises(UserError, match=message):
        load_clip("ViT-S-32-alt", str(tmp_path / "weights.pt"))


OFFLINE = """
import sys, warnings
from gl_ris.clip import load_clip
clip = load_clip("hf-hub:someone/tiny")
print(clip.mean, tuple(clip.encode_texts(["a dog"]).shape))
for name, weights in (("hf-hub:someone/else", None), ("ViT-B-32", "laion2b_s34b_b79k")):
    try:
        load_clip(name, weights)
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_download_in_the_cache_works_offline_and_one_that_is_not_is_one_sentence(
    clip_folder: Callable[..., Path], tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "models--someone--tiny"
    # without a name of a tokenizer it is CLIP's own, which open_clip brings
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    shutil.copytree(clip_folder("vit", text_cfg=text), repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"):
        environment.pop(name, None)
    root = Path(loading.__file__).parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    first, *rest = answer.stdout.strip().splitlines()
    assert first == "(0.4, 0.5, 0.6) (1, 24)"
    assert [line.split()[0] for line in rest] == ["UserError"] * 2
    assert "configuration of CLIP model 'hf-hub:someone/else' cannot be read" in rest[0]
    assert "set HF_HUB_OFFLINE=1" in rest[0]
    assert "weights of CLIP model 'ViT-B-32' cannot be loaded" in rest[1]


def test_unsafe_pickles_are_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state_dict": Trap()}, tmp_path / "weights.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match="cannot be loaded"):
            load_clip("ViT-S-32-alt", str(tmp_path / "weights.pt"))
    assert not (tmp_path / "sprung").exists()
