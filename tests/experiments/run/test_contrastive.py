from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.run.contrastive import END, LEVEL, PAD, START, ContrastiveCLIP, train_tokenizer
from gl_ris.clip import load_clip
from gl_ris.supervised.cris.network import text_states

CAPTIONS = [
    "a red star",
    "the small blue circle below a red star",
    "left star",
    "A Red star, and a blue circle",
]
TEXT = {
    "context_length": 20,
    "vocab_size": 280,
    "width": 16,
    "heads": 2,
    "layers": 2,
    "hf_tokenizer_name": "x",
}
VISION: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "rn": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
}
PREPROCESS = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(CAPTIONS * 5, folder, 280)
    return folder


def make(tower: str, tokenizer: Path, **options: Any) -> ContrastiveCLIP:
    torch.manual_seed(0)
    model_cfg = {"embed_dim": 16, "vision_cfg": VISION[tower], "text_cfg": TEXT}
    module = ContrastiveCLIP(model_cfg, PREPROCESS, **options)
    module.use_tokenizer(tokenizer)
    return module


def images(tower: str, count: int) -> Tensor:
    size = VISION[tower]["image_size"]
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)


def test_end_token_has_the_highest_id_and_padding_zero(tokenizer: Path) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    assert loaded.convert_tokens_to_ids(PAD) == 0
    assert loaded.convert_tokens_to_ids(END) == len(loaded) - 1 == 279
    ids = loaded("a red star").input_ids
    assert (ids[0], ids[-1]) == (loaded.convert_tokens_to_ids(START), 279)
    assert loaded("A RED star").input_ids == ids
    # no word is unknown: it is spelt in bytes
    assert loaded.decode(loaded("zebra café").input_ids, skip_special_tokens=True).strip() == "zebra café"


def test_cut_texts_are_encoded_as_whole_ones(tokenizer: Path) -> None:
    module = make("vit", tokenizer)
    tokens = module.tokenize(CAPTIONS)
    assert tokens.shape[1] < TEXT["context_length"]
    whole = torch.nn.functional.pad(tokens, (0, TEXT["context_length"] - tokens.shape[1]))
    assert torch.allclose(text_states(module.model, tokens)[1], module.model.encode_text(whole), atol=1e-6)


@pytest.mark.parametrize("tower", VISION)
def test_exported_model_loads_and_encodes_alike(tower: str, tokenizer: Path, tmp_path: Path) -> None:
    module = make(tower, tokenizer).eval()
    module.export(tmp_path / "model", tokenizer)
    clip = load_clip(f"local-dir:{tmp_path / 'model'}")
    expected = text_states(module.model, module.tokenize(CAPTIONS))[1]
    assert torch.allclose(clip.encode_texts(CAPTIONS), expected, atol=5e-3)  # stored in half precision
    pixels = torch.randn(2, 3, *[VISION[tower]["image_size"]] * 2)
    assert torch.allclose(clip.model.encode_image(pixels), module.model.encode_image(pixels), atol=2e-2)


def test_loss_is_the_mean_over_the_sets_of_captions(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make("vit", tokenizer).eval()
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    pictures, sets = images("vit", 4), [CAPTIONS, CAPTIONS[::-1]]
    both = module.training_step((pictures, sets), 0)
    single = [module.training_step((pictures, [texts]), 0) for texts in sets]
    assert torch.allclose(both, torch.stack(single).mean())

    # the definition: symmetric cross entropy over scaled cosines
    image, (text,) = module.features((pictures, [CAPTIONS]))
    logits = module.model.logit_scale.exp() * image @ text.T
    there, back = logits.log_softmax(1).diag(), logits.log_softmax(0).diag()
    assert torch.allclose(single[0], -(there.mean() + back.mean()) / 2, atol=1e-5)


def test_rate_rises_stays_and_falls(tokenizer: Path) -> None:
    module = make("vit", tokenizer, learning_rate=1.0, warmup=10)
    module._trainer = SimpleNamespace(estimated_stepping_batches=100)  # type: ignore[assignment]
    parts = module.configure_optimizers()
    rate = parts["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert rate(0) == pytest.approx(0.1)
    assert [rate(step) for step in (9, 40, int(100 * LEVEL))] == [1, 1, 1]
    assert rate(100) == 0
    assert rate(int(100 * LEVEL) + 5) == pytest.approx(0.8)


def test_gains_biases_and_embeddings_do_not_decay(tokenizer: Path) -> None:
    module = make("vit", tokenizer, weight_decay=0.3)
    module._trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    groups = module.configure_optimizers()["optimizer"].param_groups
    names = {id(p): name for name, p in module.model.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] == 0.3 for p in group["params"]}
    spared = {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert decayed | spared == set(names.values())
    assert {"logit_scale", "token_embedding.weight", "visual.class_embedding", "ln_final.weight"} <= spared
    assert {"visual.conv1.weight", "transformer.resblocks.0.mlp.c_fc.weight", "text_projection"} <= decayed
