"""An open_clip model as CRIS reads it: three maps of the image tower, and a state for every word."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DenseAttentionPool(nn.Module):
    """CLIP's attention pooling kept dense: every position attends to all, and none is added for the image.

    Args:
        pool: The pooling of an open_clip ``ModifiedResNet``; its parameters are taken over.
    """

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.num_heads: int = pool.num_heads
        self.positional_embedding = pool.positional_embedding
        self.q_proj, self.k_proj, self.v_proj, self.c_proj = (
            pool.q_proj,
            pool.k_proj,
            pool.v_proj,
            pool.c_proj,
        )
        outgoing, incoming = self.c_proj.weight.shape
        self.connect = nn.Sequential(nn.Conv2d(incoming, outgoing, 1, bias=False), nn.BatchNorm2d(outgoing))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, E, h, w)``, not negative, for a last map ``(B, C, h, w)``."""
        size = x.shape[2:]
        tokens = (x + self._position(*size)).flatten(2).transpose(1, 2)
        heads = [
            layer(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        ]
        attended = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        dense = self.c_proj(attended).transpose(1, 2).unflatten(2, size)
        return F.relu(dense + self.connect(x))

    def _position(self, height: int, width: int) -> Tensor:
        """Return the embedding of positions, without the row of the image, as ``(1, C, height, width)``."""
        rows = self.positional_embedding[1:]
        side = round(len(rows) ** 0.5)
        grid = rows.T.unflatten(1, (side, side))[None]
        return F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)


def densify(clip: Any) -> Any:
    """Swap the attention pooling of an open_clip model with a `ModifiedResNet` for a dense one, in place."""
    clip.visual.attnpool = DenseAttentionPool(clip.visual.attnpool)
    return clip


def image_maps(clip: Any, pixels: Tensor) -> list[Tensor]:
    """Return the maps of strides 8, 16 and 32, the last one pooled densely.

    Args:
        clip: What `densify` returned.
        pixels: ``(B, 3, H, W)``, sides a multiple of 32, normalised as the weights want it.
    """
    output = clip.visual.forward_intermediates(pixels, indices=[2, 3, 4], intermediates_only=True)
    fine, middle, coarse = output["image_intermediates"]
    return [fine, middle, clip.visual.attnpool(coarse)]


def text_states(clip: Any, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Encode expressions of any length up to the context.

    Args:
        clip: An open_clip model with a text transformer.
        token_ids: int64 ``(B, T)``; the end of text is the largest id, padding is 0.

    Returns:
        The states of all words ``(B, T, width)``, and of the sentence ``(B, E)``: the projected end of text.
    """
    length = token_ids.shape[1]
    states = clip.token_embedding(token_ids) + clip.positional_embedding[:length]
    states = clip.ln_final(clip.transformer(states, attn_mask=clip.attn_mask[:length, :length]))
    ends = states[torch.arange(len(states), device=states.device), token_ids.argmax(dim=1)]
    return states, ends @ clip.text_projection
