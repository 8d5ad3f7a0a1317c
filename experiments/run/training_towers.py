"""Towers of a CLIP as a training runs them: fast on CPUs in half precision, and with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gl_ris.supervised.lavt.network import LAVTSize, swin


class SwinTower(nn.Module):
    """LAVT's Swin as the image tower of a CLIP: its last map, normalised, averaged and projected."""

    def __init__(self, size: LAVTSize, embed_dim: int) -> None:
        super().__init__()
        self.trunk = swin(size)
        width = size.embed_dim * 2 ** (len(size.depths) - 1)
        self.norm, self.proj = nn.LayerNorm(width), nn.Linear(width, embed_dim, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode ``(B, 3, H, W)`` to ``(B, embed_dim)``."""
        maps = self.trunk.patch_embed(pixels)
        for layer in self.trunk.layers:
            maps = layer(maps)
        return self.proj(self.norm(maps).mean(dim=(1, 2)))


def vit_features(visual: Any, pixels: Tensor) -> Tensor:
    """Encode ``(B, 3, H, W)`` with open_clip's VisionTransformer, to ``(B, D)``."""
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    tokens = torch.cat([first, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
    *blocks, last = visual.transformer.resblocks
    tokens = visual.ln_pre(tokens)
    for block in blocks:
        tokens = _block(block, tokens)
    return (visual.ln_post(_block(last, tokens, rows=1)[:, 0]) @ visual.proj).float()


def text_features(model: Any, tokens: Tensor) -> Tensor:
    """Encode token ids ``(B, L)`` of which the end of text has the largest, to ``(B, D)``."""
    length = tokens.shape[1]  # the tower is causal: a shorter context gives the same features
    states = model.token_embedding(tokens) + model.positional_embedding[:length]
    for block in model.transformer.resblocks:
        states = _block(block, states, mask=model.attn_mask[:length, :length])
    ends = states[torch.arange(len(states), device=states.device), tokens.argmax(dim=1)]
    return (model.ln_final(ends) @ model.text_projection).float()


def _block(block: Any, tokens: Tensor, rows: int | None = None, mask: Tensor | None = None) -> Tensor:
    """Run a residual attention block of open_clip for the first ``rows`` tokens.

    Attention is written out: in half precision on CPUs torch's own takes more than twice as long.
    """
    attention, normed = block.attn, block.ln_1(tokens)
    width = tokens.shape[-1]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    query = F.linear(normed[:, :rows], weight[:width], bias[:width])
    parts = (query, *F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1))
    query, key, value = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in parts)
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    seen = (logits if mask is None else logits + mask).softmax(dim=-1).to(value.dtype) @ value
    tokens = tokens[:, :rows] + attention.out_proj(seen.transpose(1, 2).flatten(2))
    return tokens + block.mlp(block.ln_2(tokens))
