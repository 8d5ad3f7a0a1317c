"""Towers of a CLIP as a training runs them: fast on CPUs in half precision, and with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gl_ris.supervised.lavt.network import LAVTSize, swin

# Sides of windows, as shares of the image's: about those of the objects.
WINDOW = (0.2, 0.5)


class SwinTower(nn.Module):
    """LAVT's Swin as the image tower of a CLIP: its last map, normalised, averaged and projected."""

    def __init__(self, size: LAVTSize, embed_dim: int) -> None:
        super().__init__()
        self.trunk = swin(size)
        width = size.embed_dim * 2 ** (len(size.depths) - 1)
        self.norm, self.proj = nn.LayerNorm(width), nn.Linear(width, embed_dim, bias=False)

    def forward(self, pixels: Tensor, keeps: Tensor) -> Tensor:
        """Encode parts of ``(B, 3, H, W)`` to ``(B, N, D)``: means of the last map, weighed by ``keeps``."""
        maps = self.trunk.patch_embed(pixels)
        for layer in self.trunk.layers:
            maps = layer(maps)
        shares = keeps.flatten(1) / keeps.sum(dim=(1, 2))[:, None]
        return self.proj(shares.to(maps.dtype) @ self.norm(maps).flatten(1, 2)).float()


def resnet_views(visual: Any, pixels: Tensor, keeps: Tensor) -> Tensor:
    """Pool parts of the last map of open_clip's ModifiedResNet, to ``(B, N, D)``.

    ``keeps``, ``(N, rows, columns)`` in [0, 1], weighs the map's positions. A part is pooled as a region is
    (paper, Eqs. 2 and 3): zeros outside of it, and the mean over all positions as the query.
    """
    maps = visual.stem(pixels)
    for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        maps = stage(maps)
    pool, tokens, keep = visual.attnpool, maps.flatten(2).transpose(1, 2), keeps.flatten(1)
    place = pool.positional_embedding
    layers = (pool.q_proj, pool.k_proj, pool.v_proj)
    # projections are linear: those of the map are scaled as the map is, for all parts at once
    seen = [F.linear(tokens, layer.weight) for layer in layers]
    means = [torch.einsum("ng,bgc->bnc", keep.to(one.dtype) / keep.shape[1], one) for one in seen]
    places = [layer(place.to(tokens.dtype)) for layer in layers]
    query, mean_key, mean_value = (_heads(mean + at[0], pool) for mean, at in zip(means, places, strict=True))
    key, value = _heads(seen[1], pool), _heads(seen[2], pool)
    key_at, value_at = (_heads(at[1:], pool) for at in places[1:])
    query = query * query.shape[-1] ** -0.5
    logits = torch.einsum("bnhd,bghd->bnhg", query, key) * keep[:, None]
    logits = logits + torch.einsum("bnhd,ghd->bnhg", query, key_at)
    own = (query * mean_key).sum(-1, keepdim=True)
    weights = torch.cat([own, logits], dim=-1).float().softmax(dim=-1)
    first, rest = weights[..., :1] * mean_value, weights[..., 1:]
    pooled = first + torch.einsum("bnhg,bghd->bnhd", (rest * keep[:, None]).to(value.dtype), value)
    pooled = pooled + torch.einsum("bnhg,ghd->bnhd", rest.to(value.dtype), value_at)
    return pool.c_proj(pooled.flatten(2)).float()


def _heads(tokens: Tensor, pool: Any) -> Tensor:
    return tokens.unflatten(-1, (pool.num_heads, -1))


def vit_views(visual: Any, pixels: Tensor, keeps: Tensor) -> Tensor:
    """Encode parts of images by open_clip's VisionTransformer, to ``(B, N, D)``.

    A part is masked as a region is in the last block (paper, Eq. 3 with k = 1); ``keeps``, ``(N, rows,
    columns)``, is positive at its patches: how large it is makes no difference, since a layer norm follows.
    """
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    tokens = torch.cat([first, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
    *blocks, last = visual.transformer.resblocks
    tokens = visual.ln_pre(tokens)
    for block in blocks:
        tokens = _block(block, tokens)
    inside = F.pad(keeps.flatten(1) > 0, (1, 0), value=True)
    query, key, value = _projected(last.attn, last.ln_1(tokens), rows=1)
    # what the layer norm makes of a token of zeros
    _, no_key, no_value = _projected(last.attn, last.ln_1.bias[None, None], rows=1)
    logits = torch.where(inside, query @ key.transpose(-1, -2), query @ no_key.transpose(-1, -2))
    weights = logits.float().softmax(dim=-1)
    blank = (weights * ~inside).sum(-1, keepdim=True)
    pooled = (weights * inside).to(value.dtype) @ value + blank.to(value.dtype) * no_value
    states = tokens[:, :1] + last.attn.out_proj(pooled.transpose(1, 2).flatten(2))
    return (visual.ln_post(states + last.mlp(last.ln_2(states))) @ visual.proj).float()


def text_features(model: Any, tokens: Tensor) -> Tensor:
    """Encode token ids ``(B, L)`` of which the end of text has the largest, to ``(B, D)``."""
    length = tokens.shape[1]  # the tower is causal: a shorter context gives the same features
    states = model.token_embedding(tokens) + model.positional_embedding[:length]
    for block in model.transformer.resblocks:
        states = _block(block, states, mask=model.attn_mask[:length, :length])
    ends = states[torch.arange(len(states), device=states.device), tokens.argmax(dim=1)]
    return (model.ln_final(ends) @ model.text_projection).float()


def _block(block: Any, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Run a residual attention block of open_clip.

    Attention is written out: in half precision on CPUs torch's own takes more than twice as long.
    """
    attention = block.attn
    query, key, value = _projected(attention, block.ln_1(tokens))
    logits = query @ key.transpose(-1, -2)
    seen = (logits if mask is None else logits + mask).softmax(dim=-1).to(value.dtype) @ value
    tokens = tokens + attention.out_proj(seen.transpose(1, 2).flatten(2))
    return tokens + block.mlp(block.ln_2(tokens))


def _projected(attention: Any, normed: Tensor, rows: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Project to scaled queries (of the first ``rows`` tokens), keys and values: ``(B, heads, L, d)``."""
    width = normed.shape[-1]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    query = F.linear(normed[:, :rows], weight[:width], bias[:width])
    parts = (query, *F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1))
    query, key, value = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in parts)
    return query * query.shape[-1] ** -0.5, key, value


def random_boxes(count: int) -> Tensor:
    """Return the box of the whole image, then ``count`` random ones with sides of `WINDOW`.

    They are ``(1 + count, 4)``, as top, left, bottom and right in [0, 1].
    """
    size = torch.empty(count, 2).uniform_(*WINDOW)
    start = torch.rand(count, 2) * (1 - size)
    return torch.cat([torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.cat([start, start + size], dim=1)])


def covered(boxes: Tensor, rows: int, columns: int) -> Tensor:
    """Compute the share of each cell of a grid that boxes cover: float ``(N, rows, columns)`` in [0, 1]."""
    shares = []
    for side, cells in enumerate((rows, columns)):
        low, high, cell = boxes[:, side, None] * cells, boxes[:, side + 2, None] * cells, torch.arange(cells)
        shares.append((torch.minimum(high, cell + 1) - torch.maximum(low, cell)).clamp(min=0))
    return shares[0][:, :, None] * shares[1][:, None]
