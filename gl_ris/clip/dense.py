"""A feature for every position of an image of any size, as methods for dense prediction read it from CLIP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.clip.blocks import run_blocks
from gl_ris.clip.tower import one_thread_per_operation
from gl_ris.errors import UserError, unknown_name

Grid = tuple[int, int]
# the last blocks, that GEM's stream passes through
_GEM_BLOCKS = 6


def _alike(vectors: Tensor) -> Tensor:
    return vectors @ vectors.mT * vectors.shape[-1] ** -0.5


def _near(grid: Grid, like: Tensor) -> Tensor:
    """NACLIP's Gaussian of 5 patches around each, 0 to and from the class token: ``(L, L)``."""
    places = torch.cartesian_prod(*(torch.arange(side, dtype=like.dtype) for side in grid)).to(like.device)
    return F.pad((-(torch.cdist(places, places) ** 2) / 50).exp(), (1, 0, 1, 0))


# How values of the last block are weighed, from queries and keys ``(heads, L, d)`` and the grid; and whether
# residual connection and MLP stay.
_LAST: dict[str, tuple[Callable[[Tensor, Tensor, Grid], Tensor], bool]] = {
    "maskclip": (lambda query, _, __: torch.eye(query.shape[1], device=query.device), False),
    "sclip": (lambda query, key, _: _alike(query).softmax(-1) + _alike(key).softmax(-1), True),
    "clearclip": (lambda query, _, __: _alike(query).softmax(-1), False),
    "naclip": (lambda _, key, grid: (_alike(key) + _near(grid, key)).softmax(-1), False),
}
WAYS = (*_LAST, "gem")


def check_way(clip: Any, way: str) -> None:
    """Raise a `UserError` if there is no such way, or it does not fit the image tower of ``clip``."""
    if way not in WAYS:
        raise unknown_name("heat map", way, WAYS)
    tower = clip.tower
    if tower.kind == "resnet" and way != "maskclip":
        reason = "needs a VisionTransformer, and that has a ResNet; choose a ViT, or the heat map 'maskclip'"
    elif (
        tower.kind == "vit" and type(tower.visual.transformer.resblocks[-1].attn) is not nn.MultiheadAttention
    ):
        reason = "cannot read its attention, which is not torch's own; choose a ViT such as ViT-B-16"
    else:
        return
    raise UserError(f"Heat map '{way}' does not fit CLIP model '{clip.name}': it {reason}.")


def patch_of(clip: Any) -> int:
    """Return the side in pixels of what becomes one position."""
    return 32 if clip.tower.kind == "resnet" else clip.tower.visual.conv1.kernel_size[0]


@torch.no_grad()
def dense_features(clip: Any, way: str, pixels: Tensor) -> Tensor:
    """Read a feature for every position, float32 ``(rows, columns, D)``, not normalised.

    ``way`` is one of `WAYS`, and ``pixels`` standardised ``(1, 3, h, w)`` in whole patches. From queries q,
    keys k, values v of a ViT's last block, before its output layer: maskclip takes v (its variant with
    residual connection and MLP is the method ``score_map``; on a ResNet, values of the attention pooling),
    sclip (softmax(s q q') + softmax(s k k')) v with residual and MLP, clearclip softmax(s q q') v, naclip
    softmax(s k k' + G) v. GEM adds up, over the last six blocks, beside the stream that goes on as ever, the
    mean over x in q, k, v of A(A(x) x) v; A(x) is the softmax of t x x' for x of unit length, t = s times the
    mean length of the normed tokens. Position embeddings of other grids are resized as each code does it.

    Raises:
        UserError: No such way, or not of this tower.
        ValueError: Pixels of another shape.
    """
    check_way(clip, way)
    tower, cell = clip.tower, patch_of(clip)
    if pixels.ndim != 4 or pixels.shape[:2] != (1, 3) or any(n % cell or not n for n in pixels.shape[2:]):
        raise ValueError(f"pixels must be (1, 3, h, w) in multiples of {cell}, got {tuple(pixels.shape)}.")
    with one_thread_per_operation(clip.device):
        if tower.kind == "resnet":
            return tower.dense_features(tower.image_state(pixels, 1)).float()
        grid = pixels.shape[2] // cell, pixels.shape[3] // cell
        tokens = tower.embedded(pixels, _positions(tower, grid, antialias=way == "gem"))
        tokens = _gem(tower, tokens) if way == "gem" else _last(tower, tokens, way, grid)
        return tower.project(tokens[0, 1:]).float().unflatten(0, grid)


def _positions(tower: Any, grid: Grid, antialias: bool) -> Tensor:
    """Resize position embeddings, without antialiasing by the factor (n + 0.1) / m of n in place of m."""
    own, size = tower.visual.positional_embedding, tower.grid_size
    if grid == size:
        return own
    factors = None if antialias else [(to + 0.1) / of for to, of in zip(grid, size, strict=True)]
    maps = own[1:].float().T.unflatten(1, size)[None]
    options: Any = {"size": grid if antialias else None, "scale_factor": factors, "antialias": antialias}
    maps = F.interpolate(maps, mode="bicubic", **options)
    return torch.cat([own[:1], maps[0].flatten(1).T.to(own.dtype)])


def _heads(block: Any, normed: Tensor) -> list[Tensor]:
    """Queries, keys and values of tokens ``(1, L, width)``, float32 ``(heads, L, d)`` each."""
    attention = block.attn
    parts = F.linear(normed[0], attention.in_proj_weight, attention.in_proj_bias).float().chunk(3, dim=-1)
    return [part.unflatten(-1, (attention.num_heads, -1)).transpose(0, 1) for part in parts]


def _output(block: Any, values: Tensor, dtype: torch.dtype) -> Tensor:
    return block.attn.out_proj(values.transpose(0, 1).flatten(1).to(dtype))[None]


def _last(tower: Any, tokens: Tensor, way: str, grid: Grid) -> Tensor:
    (weights, whole), (*blocks, block) = _LAST[way], tower.visual.transformer.resblocks
    tokens = run_blocks(tower.layers, blocks, tokens)
    query, key, value = _heads(block, block.ln_1(tokens))
    attended = _output(block, weights(query, key, grid) @ value, tokens.dtype)
    if not whole:
        return attended
    tokens = tokens + block.ls_1(attended)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def _gem(tower: Any, tokens: Tensor) -> Tensor:
    blocks = list(tower.visual.transformer.resblocks)
    tokens = stream = run_blocks(tower.layers, blocks[:-_GEM_BLOCKS], tokens)
    for block in blocks[-_GEM_BLOCKS:]:
        normed = block.ln_1(tokens)
        parts = _heads(block, normed)
        sharpness = normed.float().norm(dim=-1).mean() * parts[0].shape[-1] ** -0.5
        unit = F.normalize(torch.stack(parts), dim=-1)
        for _ in range(2):
            weights = (sharpness * unit @ unit.mT).softmax(-1)
            unit = F.normalize(weights @ unit, dim=-1)
        stream = stream + block.ls_1(_output(block, (weights @ parts[2]).mean(dim=0), tokens.dtype))
        tokens = run_blocks(tower.layers, [block], tokens)
    return stream
