"""The names of a published LAVT checkpoint, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_PWAM = {
    "vis_project.0": "vis",
    "image_lang_att.f_query.0": "query",
    "image_lang_att.f_key.0": "key",
    "image_lang_att.f_value.0": "value",
    "image_lang_att.W.0": "out",
    "project_mm.0": "mm",
}
_LAYER_IN_BLOCK = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}

# Buffers that follow from the measures, and what segmentation has no use for.
_DROPPED = re.compile(
    r"(.*\.)?(relative_position_index|attn_mask)|(backbone\.)?(norm|head)\.(weight|bias)|(.*\.)?position_ids"
)


def from_official(
    model: Mapping[str, Tensor], bert_model: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Give the tensors of a published checkpoint our names; names that are not known stay as they are."""
    renamed = {rename(name): tensor for name, tensor in model.items() if not _DROPPED.fullmatch(name)}
    text = {f"text.{name}": tensor for name, tensor in (bert_model or {}).items() if not _is_extra(name)}
    return renamed | text


def _is_extra(name: str) -> bool:
    return name.startswith("pooler.") or _DROPPED.fullmatch(name) is not None


def rename(name: str) -> str:
    """Translate one name.

    Example:
        >>> rename("backbone.layers.0.downsample.norm.weight")
        'visual.layers.1.downsample.norm.weight'
        >>> rename("classifier.bn2_3.running_mean")
        'decoder.block3.4.running_mean'
    """
    for pattern, translate in _RULES:
        if match := pattern.fullmatch(name):
            return translate(match)
    return name


_RULES = [
    (
        re.compile(r"backbone\.layers\.(\d+)\.downsample\.(.+)"),
        lambda m: f"visual.layers.{int(m[1]) + 1}.downsample.{m[2]}",
    ),
    (re.compile(r"backbone\.(layers\.\d+\.blocks\..+|patch_embed\..+)"), lambda m: f"visual.{m[1]}"),
    (
        re.compile(rf"backbone\.layers\.(\d+)\.fusion\.({'|'.join(map(re.escape, _PWAM))})\.(.+)"),
        lambda m: f"pwam.{m[1]}.{_PWAM[m[2]]}.{m[3]}",
    ),
    (re.compile(r"backbone\.layers\.(\d+)\.res_gate\.(.+)"), lambda m: f"gate.{m[1]}.{m[2]}"),
    (re.compile(r"backbone\.norm(\d+)\.(.+)"), lambda m: f"out_norm.{m[1]}.{m[2]}"),
    (re.compile(r"classifier\.conv1_1\.(.+)"), lambda m: f"decoder.head.{m[1]}"),
    (
        re.compile(r"classifier\.(conv[12]|bn[12])_([2-4])\.(.+)"),
        lambda m: f"decoder.block{m[2]}.{_LAYER_IN_BLOCK[m[1]]}.{m[3]}",
    ),
    (re.compile(r"text_encoder\.(.+)"), lambda m: f"text.{m[1]}"),
]
