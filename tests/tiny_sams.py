"""Tiny models of each SAM family with random weights, saved the way the hub has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SIDE = 64
_DECODER = {
    "hidden_size": 16,
    "mlp_dim": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 16,
    "iou_head_depth": 2,
}
_PROMPT = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
_VIT = {
    "hidden_size": 16,
    "output_channels": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "mlp_dim": 16,
    "window_size": 2,
    "global_attn_indexes": [1],
    "num_pos_feats": 8,
    "initializer_range": 0.1,
}
_HIERA = {
    "hidden_size": 8,
    "image_size": [SIDE, SIDE],
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 24, 32],
    "num_attention_heads_per_stage": [1, 2, 3, 4],
    "window_size_per_stage": [8, 4, 4, 2],
    "global_attention_blocks": [3],
    "window_positional_embedding_background_size": [2, 2],
}
_NECK = {"fpn_hidden_size": 16, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}


def _sam() -> Any:
    from transformers import SamConfig, SamModel

    prompt = {**_PROMPT, "image_embedding_size": 4}
    return SamModel(SamConfig(vision_config=_VIT, prompt_encoder_config=prompt, mask_decoder_config=_DECODER))


def _sam_hq() -> Any:
    from transformers import SamHQConfig, SamHQModel

    prompt = {**_PROMPT, "image_embedding_size": 4}
    decoder = {**_DECODER, "vit_dim": 16}
    return SamHQModel(
        SamHQConfig(vision_config=_VIT, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    )


def _sam2() -> Any:
    from transformers import Sam2Config, Sam2Model

    vision = {
        **_NECK,
        "backbone_config": {**_HIERA, "model_type": "sam2_hiera_det_model"},
        "backbone_channel_list": [32, 24, 16, 8],
    }
    return Sam2Model(
        Sam2Config(vision_config=vision, prompt_encoder_config=_PROMPT, mask_decoder_config=_DECODER)
    )


def _edgetam() -> Any:
    from transformers import EdgeTamConfig, EdgeTamModel

    backbone = {
        "model_type": "timm_wrapper",
        "num_classes": 2,
        "architecture": "repvit_m0_9",
        "model_args": {
            "in_chans": 3,
            "features_only": True,
            "out_indices": [0, 1, 2, 3],
            "embed_dim": [8, 16, 16, 16],
            "depth": [1, 1, 1, 1],
        },
    }
    vision = {**_NECK, "backbone_config": backbone, "backbone_channel_list": [16, 16, 16, 8]}
    return EdgeTamModel(
        EdgeTamConfig(vision_config=vision, prompt_encoder_config=_PROMPT, mask_decoder_config=_DECODER)
    )


def _sam3_tracker() -> Any:
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 16,
        "window_size": 2,
        "global_attn_indexes": [1],
        "pretrain_image_size": SIDE,
    }
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "scale_factors": [4.0, 2.0, 1.0, 0.5],
    }
    return Sam3TrackerModel(
        Sam3TrackerConfig(vision_config=vision, prompt_encoder_config=_PROMPT, mask_decoder_config=_DECODER)
    )


def _keeps_shape() -> Any:
    from transformers import SamImageProcessor

    square = {"height": SIDE, "width": SIDE}
    return SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square)


def _squashes() -> Any:
    from transformers import Sam2ImageProcessor

    return Sam2ImageProcessor(size={"height": SIDE, "width": SIDE})


def _squashes3() -> Any:
    from transformers.models.sam3.image_processing_sam3 import Sam3ImageProcessor

    return Sam3ImageProcessor(size={"height": SIDE, "width": SIDE})


FAMILIES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "sam": (_sam, _keeps_shape),
    "sam_hq": (_sam_hq, _keeps_shape),
    "sam2": (_sam2, _squashes),
    "edgetam": (_edgetam, _squashes),
    "sam3_tracker": (_sam3_tracker, _squashes3),
}


def save_sam(folder: Path, family: str) -> Path:
    """Write a tiny model of a family to ``folder``, and return it.

    ``sam2_video`` is what the hub's SAM 2 says it is: one configuration for pictures and films.
    """
    torch.manual_seed(11)
    make_model, make_processor = FAMILIES[family.removesuffix("_video")]
    model = make_model()
    with torch.no_grad():
        for tensor in model.parameters():
            # many weights start at or near zero, where masks and scores see nothing of the image
            tensor.add_(torch.randn_like(tensor) * (0.15 if tensor.ndim > 1 else 0.3))
    model.save_pretrained(folder)
    make_processor().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": family}))
    return folder
