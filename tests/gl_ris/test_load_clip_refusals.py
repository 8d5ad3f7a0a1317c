"""One clear sentence for every model that cannot be loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch

from gl_ris.clip import load_clip, loading
from gl_ris.errors import UserError
from gl_ris.hashes import LIST, list_of


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


def odd_tokenizer(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    document["added_tokens"][0]["id"] = False  # tokenizers answers with a bare Exception
    (folder / "tokenizer.json").write_text(json.dumps(document))


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
        (odd_tokenizer, "tokenizer of CLIP model .* cannot be loaded"),
        (
            lambda folder: (folder / "open_clip_config.json").write_text("[" * 10_000),
            "open_clip_config.json is damaged",
        ),
        (lambda folder: change_config(folder, vision_cfg={"layers": 2**32}), "says 4294967296 layers"),
        (lambda folder: change_config(folder, vision_cfg={"width": 16_000}), "speaks of .* values, and its"),
        (lambda folder: change_config(folder, text_cfg={"context_length": 60_000}), "speaks of .* values"),
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
        "missing keys", "wrong shapes", "no tokenizer", "half a tokenizer", "odd tokenizer", "deep config",
        "many layers", "wide", "long texts", "no class token", "interpolation", "unknown key",
        "no tower", "no width", "two colours", "a word", "no deviation",
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
    with pytest.raises(UserError, match=r"refshapes-vit/.* is not as it was released"):
        load_clip("refshapes-vit")
    (folder.parent / LIST).write_text(list_of(folder.parent))
    assert load_clip("refshapes-vit").name == "refshapes-vit"
    truncate(folder.parent / "refshapes-vit")
    with pytest.raises(UserError, match=r"model.safetensors' is not as it was released .*reinstall"):
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


@pytest.mark.parametrize("given", ["ViT-S-32-alt", "ViT-S-32"])
def test_a_file_of_weights_of_another_width_is_one_sentence(given: str, tmp_path: Path) -> None:
    wanted = {"ViT-S-32-alt": "ViT-S-32", "ViT-S-32": "ViT-S-32-alt"}[given]
    torch.save(open_clip.create_model(given).state_dict(), tmp_path / "weights.pt")
    message = rf"weights of CLIP model '{wanted}' cannot be loaded \(.+\); .* of that very architecture\.$"
    with pytest.warns(UserWarning, match="does not say"), pytest.raises(UserError, match=message) as told:
        load_clip(wanted, str(tmp_path / "weights.pt"))
    assert "\n" not in str(told.value)
