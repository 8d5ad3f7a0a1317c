"""Loading: what fits, and one clear sentence for everything that does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from gl_ris.clip import RegionCLIP, load_clip, loading
from gl_ris.clip.region_tokens import region_tokens
from gl_ris.clip.tower import fitting_architectures, misfit, open_tower
from gl_ris.errors import UserError
from gl_ris.recipe import Recipe
from gl_ris.scorers import Scorer
from gl_ris.scorers.cropping import Cropping
from gl_ris.scorers.global_local import GlobalLocal
from gl_ris.scorers.grad_cam import GradCAM
from gl_ris.scorers.region_token import RegionToken
from gl_ris.scorers.score_map import ScoreMap


@pytest.fixture
def folder(clip_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A tiny CLIP of its own to damage."""
    return Path(shutil.copytree(clip_folder("vit"), tmp_path / "clip"))


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "open_clip_config.json"
    document = json.loads(path.read_text())
    for key, value in changes.items():
        section = "preprocess_cfg" if key in ("interpolation", "mean", "std") else "model_cfg"
        current = document[section].get(key)
        document[section][key] = {**current, **value} if isinstance(value, dict) and current else value  # type: ignore[dict-item]
    path.write_text(json.dumps(document))


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
    from gl_ris.scorers.global_local import GlobalLocal

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


SMALL = ["ViT-S-32-alt", "ViT-B-32-quickgelu", "ViT-M-16-alt", "RN50-quickgelu"]
LARGE = {
    "ViT-B-16": (224, 14, 512),
    "ViT-B-32-256": (256, 8, 512),
    "ViT-B-16-plus-240": (240, 15, 640),
    "ViT-L-14-quickgelu": (224, 16, 768),
    "ViT-L-14-336": (336, 24, 768),
    "ViT-L-16-320": (320, 20, 768),
    "ViT-H-14": (224, 16, 1024),
    "ViT-H-14-378-quickgelu": (378, 27, 1024),
    "ViT-g-14": (224, 16, 1024),
    "ViT-bigG-14": (224, 16, 1280),
    "RN101": (224, 7, 512),
    "RN50x4": (288, 9, 640),
    "RN50x16": (384, 12, 768),
    "RN50x64-quickgelu": (448, 14, 1024),
}


def run_tower(tower: Any, device: str) -> list[tuple[int, ...]]:
    """Everything that the scorers ask of a tower, for two masks; gives the shapes of the features."""
    pixels = torch.zeros(1, 3, *tower.image_size, device=device)
    grids = torch.ones(2, *tower.grid_size, device=device)
    k, one = min(3, tower.depth), min(1, tower.depth)
    last = tower.image_state(pixels, one)
    features = [tower.encode(pixels), tower.region_features(tower.image_state(pixels, k), grids, k)]
    features += [tower.pool(last, tower.last_map(last)), tower.dense_features(last)]
    if tower.kind == "vit":
        embedded = tower.image_state(pixels, tower.depth)
        features.append(region_tokens(tower, embedded, grids.flatten(1).bool()))
    return [tuple(feature.shape) for feature in features]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_small_architectures_run_from_end_to_end(name: str, image: torch.Tensor, masks: torch.Tensor) -> None:
    with pytest.warns(UserWarning, match="random weights"):
        clip = load_clip(name)
    methods: list[type[Scorer]] = [GlobalLocal, Cropping, GradCAM, ScoreMap]
    for method in [*methods, RegionToken] if clip.tower.kind == "vit" else methods:
        scores = method(clip, recipe="clean")(
            image, masks[[0, 3]], ["a dog", "the red star"], ["dog", "star"]
        )
        assert scores.shape == (2, 2)
        assert scores.isfinite().all()
    context = clip.context(image, masks[[0, 3]])
    expected = clip.model.encode_image(context.pixels(Recipe()))[0]
    torch.testing.assert_close(context.global_features(Recipe(), 3)[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LARGE)
def test_large_architectures_have_the_right_shapes(name: str) -> None:
    size, side, width = LARGE[name]
    with pytest.warns(UserWarning, match="random weights"):
        clip = load_clip(name, device="meta")
    assert (clip.image_size, clip.tower.grid_size) == ((size, size), (side, side))
    assert clip.feature_dim == width
    texts, _ = clip._text_tower.batches(["a dog"], batch_size=1)
    with torch.no_grad():
        shapes = run_tower(clip.tower, "meta")
        assert clip._text_tower.encode(texts[0]).shape == (1, width)
    assert shapes == [(1, width), (2, width), (1, width), (side, side, width), (2, width)][: len(shapes)]


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


def test_a_torchscript_archive_is_named_as_what_it_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ViT-B-32.pt", "w") as archive:
        archive.writestr("ViT-B-32/constants.pkl", b"")
        archive.writestr("ViT-B-32/code/model.py", "")
    with pytest.raises(
        UserError, match=r"ViT-B-32\.pt of .* are a TorchScript archive.* use the tag 'openai'"
    ):
        load_clip("ViT-B-32-quickgelu", str(tmp_path / "ViT-B-32.pt"))


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


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B32", None, "Unknown CLIP model 'ViT-B32'. Did you mean 'ViT-B-32'"),
        ("refshapes-vti", None, "Unknown CLIP model 'refshapes-vti'. Did you mean 'refshapes-vit'"),
        ("ViT-B-32", "opnai", "of CLIP model 'ViT-B-32', 'opnai'. Did you mean 'openai'"),
        ("ViT-B-32", "openai", "QuickGELU mismatch: .* trained with .* use 'ViT-B-32-quickgelu'"),
        ("RN50", "openai", "QuickGELU mismatch: .* use 'RN50-quickgelu'"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "Unknown weights"),
        ("ViT-B-16-SigLIP", "webli", "does not fit: its image tower is timm's .* these fit: .*ViT-L-14-336"),
        (
            "EVA02-B-16",
            None,
            "'EVA02-B-16' does not fit: its image tower is timm's 'eva02_.* these fit: .*RN101",
        ),
        ("convnext_base", None, "'convnext_base' does not fit: its image tower is timm's 'convnext_base'"),
        ("ViTamin-B", None, "'ViTamin-B' does not fit: its image tower is timm's"),
        ("MobileCLIP-S1", None, "'MobileCLIP-S1' does not fit: its image tower is timm's"),
        ("coca_ViT-B-32", None, "does not fit: its image tower has an attentional pooler"),
        ("ViT-L-14-CLIPA", None, "does not fit: its image tower pools by 'avg'"),
        ("local-dir:/no/such/folder", None, "there is no folder /no/such/folder; the folder must hold"),
        ("hf-hub:a/b", "openai", "brings its own weights: leave out pretrained='openai'"),
    ],
)
def test_names_that_do_not_work(name: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_clip(name, pretrained)


def test_a_gelu_mismatch_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_clip.pretrained.get_pretrained_cfg", lambda *_: {"quick_gelu": False})
    with pytest.raises(UserError, match=r"trained without QuickGELU .* is with it; use 'ViT-B-32'\."):
        load_clip("ViT-B-32-quickgelu", "some-tag")


def damage_config(folder: Path) -> None:
    (folder / "open_clip_config.json").write_text('{"model_cfg": {"embed')


def no_model(folder: Path) -> None:
    (folder / "open_clip_config.json").write_text("{}")


def truncate(folder: Path) -> None:
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def empty(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").write_bytes(b"")


def other_weights(folder: Path) -> None:
    change_config(folder, vision_cfg={"layers": 6})


def wrong_shapes(folder: Path) -> None:
    change_config(folder, embed_dim=32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "open_clip_config.json").unlink(), "open_clip_config.json is missing"),
        (damage_config, "open_clip_config.json is damaged"),
        (no_model, "open_clip_config.json is damaged .*model_cfg"),
        (lambda folder: (folder / "open_clip_model.safetensors").unlink(), "no weights"),
        (truncate, "weights of CLIP model .* cannot be loaded"),
        (empty, "weights of CLIP model .* cannot be loaded"),
        (other_weights, "weights of CLIP model .* cannot be loaded .*Missing key"),
        (wrong_shapes, "weights of CLIP model .* cannot be loaded .*size mismatch"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer of CLIP model .* cannot be loaded"),
        (
            lambda folder: (folder / "tokenizer.json").write_text('{"version": '),
            "tokenizer of CLIP model .* cannot be loaded",
        ),
        (lambda folder: change_config(folder, vision_cfg={"pool_type": "avg"}), "pools by 'avg'"),
        (lambda folder: change_config(folder, interpolation="nearest"), "interpolation 'nearest'"),
        (lambda folder: change_config(folder, vision_cfg={"wdith": 3}), "cannot be loaded .*wdith"),
        (lambda folder: change_config(folder, vision_cfg=3), r"no image tower \(vision_cfg\); the folder"),
        (lambda folder: change_config(folder, vision_cfg={"width": 0}), "cannot be loaded"),
        (lambda folder: change_config(folder, mean=[0.1, 0.2]), r"mean \[0.1, 0.2\] in .* three numbers, in"),
        (lambda folder: change_config(folder, mean="grey"), "mean grey in .* three numbers, in"),
        (lambda folder: change_config(folder, std=[0.2, 0, 0.2]), r"std \[0.2, 0, 0.2\] in .* all positive"),
    ],
    ids=[
        "no config", "half a config", "empty config", "no weights", "truncated weights", "empty weights",
        "missing keys", "wrong shapes", "no tokenizer", "half a tokenizer", "no class token", "interpolation",
        "unknown key", "no tower", "no width", "two colours", "a word", "no deviation",
    ],
)  # fmt: skip
def test_a_damaged_folder_is_one_sentence(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_clip(f"local-dir:{folder}")
    assert "\n" not in str(caught.value)


def test_a_damaged_shipped_model_says_how_to_get_it_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "ASSETS", folder.parent)
    with pytest.raises(UserError, match=r"there is no folder .*refshapes-vit; install gl-ris again"):
        load_clip("refshapes-vit")
    folder.rename(folder.parent / "refshapes-vit")
    assert load_clip("refshapes-vit").name == "refshapes-vit"
    truncate(folder.parent / "refshapes-vit")
    with pytest.raises(UserError, match=r"cannot be loaded .*train_refshapes_clip"):
        load_clip("refshapes-vit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu0"}, "Unknown device 'gpu0'"),
        ({"dtype": torch.int8}, "Unknown dtype of a CLIP model 'torch.int8'"),
    ],
)
def test_impossible_options(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_clip(f"local-dir:{folder}", **options)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there(folder: Path) -> None:
    with pytest.raises(UserError, match="'cuda' was asked for, but torch sees no GPU"):
        load_clip(f"local-dir:{folder}", device="cuda")


def test_the_list_of_what_fits_agrees_with_what_opens() -> None:
    """Every architecture's configuration, and the native towers themselves, on the meta device."""
    from open_clip.model import _build_vision_tower

    fitting = fitting_architectures()
    assert {"RN50", "RN101-quickgelu", "ViT-B-32", "ViT-L-14-336", "ViT-H-14"} <= set(fitting)
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        assert (misfit(config["vision_cfg"]) is None) == (name in fitting)
        if "timm_model_name" in config["vision_cfg"]:
            continue
        with torch.device("meta"):
            visual = _build_vision_tower(config["embed_dim"], config["vision_cfg"])
        if name in fitting:
            assert open_tower(visual).feature_dim == config["embed_dim"]
        else:
            with pytest.raises(UserError, match="cannot be opened for regions"):
                open_tower(visual)
