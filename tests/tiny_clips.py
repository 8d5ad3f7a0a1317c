"""Tiny CLIPs with random weights, saved the way open_clip reads folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

WORDS = ["a", "the", "red", "blue", "green", "star", "circle", "square", "big", "small", "left", "right"]
WORDS += ["above", "below", "of", "and", "striped", "dog"]
CONTEXT = 12
VISION: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 5, "head_width": 8, "mlp_ratio": 2.0},
    "resnet": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
}


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = ["<pad>", "<unk>", *WORDS, "<start>", "<end>"]
    ids = {word: index for index, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, ids[word]) for word in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
    ).save_pretrained(folder)


def shake(model: nn.Module) -> None:
    """Give every tensor random values: open_clip starts many of them at zero, where a test sees nothing."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.is_floating_point() and tensor.ndim:
            tensor.add_(torch.randn_like(tensor) * (0.05 if tensor.ndim > 1 else 0.2))
        if name.endswith("bn3.weight"):
            tensor.mul_(8)  # or the pooled feature is position embedding and little else


def save_clip(folder: Path, kind: str, preprocess: dict[str, Any] | None = None, **model: Any) -> Path:
    """Write a tiny CLIP as a ``local-dir`` folder and return the folder."""
    from open_clip.model import CLIP, CustomTextCLIP
    from safetensors.torch import save_file

    config = {
        "embed_dim": 24,
        "vision_cfg": VISION[kind],
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": len(WORDS) + 4,
            "width": 16,
            "heads": 2,
            "layers": 2,
            "hf_tokenizer_name": "tiny",
        },
        **model,
    }
    torch.manual_seed(7)
    built = {key: value for key, value in config.items() if key != "custom_text"}
    module = (CustomTextCLIP if config.get("custom_text") else CLIP)(**built)
    shake(module)
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder)
    preprocess = preprocess or {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "interpolation": "bicubic"}
    document = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    save_file(
        {key: value.contiguous() for key, value in module.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder
