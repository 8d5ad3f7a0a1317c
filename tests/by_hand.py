"""Passes through the towers of a CLIP model written out, to check the methods against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from PIL import Image
from torch import Tensor, nn

from gl_ris.clip import RegionCLIP
from gl_ris.recipe import Recipe


def pixels_of(clip: RegionCLIP, image: Tensor) -> Tensor:
    """The tower's input under recipe clean, which test_global_local checks against Pillow."""
    return clip.context(image, torch.ones(1, *image.shape[1:]).bool()).pixels(Recipe())


def published_picture(clip: RegionCLIP, image: Tensor, size: list[int] | None = None) -> Tensor:
    """The tower's input under recipe published, or the picture of another size that crops are cut from."""
    picture = TF.resize(Image.fromarray(image.permute(1, 2, 0).numpy()), [800])
    whole = TF.normalize(TF.to_tensor(picture), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return TF.resize(whole, size or list(clip.image_size), antialias=False)


def embedded(clip: RegionCLIP, pixels: Tensor) -> Tensor:
    """The tokens before the first block of a ViT, by hand: (1 + cells, width)."""
    visual = clip.model.visual
    patches = F.conv2d(pixels, visual.conv1.weight, stride=visual.conv1.stride)[0].flatten(1).T
    return visual.ln_pre(torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding)


def attend(block: nn.Module, queries: Tensor, keys: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention written out, queries (n, width) over keys (m, width), both normalised already."""
    attention, width, heads = block.attn, queries.shape[1], block.attn.num_heads  # type: ignore[union-attr]
    weight, shift = attention.in_proj_weight, attention.in_proj_bias
    q, k, v = (
        (source @ weight[part * width : (part + 1) * width].T + shift[part * width : (part + 1) * width])
        for part, source in enumerate((queries, keys, keys))
    )
    outputs = []
    for q_head, k_head, v_head in zip(*(x.chunk(heads, dim=1) for x in (q, k, v)), strict=True):
        logits = q_head @ k_head.T / (width // heads) ** 0.5
        outputs.append((logits if bias is None else logits + bias).softmax(dim=1) @ v_head)
    return attention.out_proj(torch.cat(outputs, dim=1))


def run_block(block: nn.Module, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
    normed = block.ln_1(tokens)  # type: ignore[operator]
    tokens = tokens + attend(block, normed, normed, bias)
    return tokens + block.mlp(block.ln_2(tokens))  # type: ignore[operator]


def pooled_map(clip: RegionCLIP, feature_map: Tensor) -> Tensor:
    """Attention pooling of (C, rows, columns) written out, to (D,)."""
    pool = clip.model.visual.attnpool
    tokens = feature_map.flatten(1).T
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + pool.positional_embedding
    q, k, v = pool.q_proj(tokens[:1]), pool.k_proj(tokens), pool.v_proj(tokens)
    outputs = [
        (a @ b.T / a.shape[1] ** 0.5).softmax(dim=1) @ c
        for a, b, c in zip(*(x.chunk(pool.num_heads, dim=1) for x in (q, k, v)), strict=True)
    ]
    return pool.c_proj(torch.cat(outputs, dim=1))[0]


def feature_map(clip: RegionCLIP, pixels: Tensor) -> Tensor:
    """What enters the attention pooling of an ordinary forward pass, (C, rows, columns)."""
    caught: list[Tensor] = []
    hook = clip.model.visual.attnpool.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    clip.model.visual(pixels)
    hook.remove()
    return caught[0][0]


def dense(clip: RegionCLIP, pixels: Tensor) -> Tensor:
    """MaskCLIP's features (D, rows, columns): value and output layers made convolutions of size 1x1."""
    visual = clip.model.visual

    def convolved(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        layer.weight.data, layer.bias.data = weight[:, :, None, None], bias  # type: ignore[union-attr]
        return layer(inputs[None])[0]

    if clip.tower.kind == "resnet":
        pool = visual.attnpool
        value = convolved(feature_map(clip, pixels), pool.v_proj.weight, pool.v_proj.bias)
        return convolved(value, pool.c_proj.weight, pool.c_proj.bias)
    tokens = embedded(clip, pixels)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = run_block(block, tokens)
    width, grid = tokens.shape[1], clip.tower.grid_size
    tokens = tokens[1:]
    inputs = last.ln_1(tokens).T.reshape(width, *grid)
    value = convolved(inputs, last.attn.in_proj_weight[2 * width :], last.attn.in_proj_bias[2 * width :])
    output = convolved(value, last.attn.out_proj.weight, last.attn.out_proj.bias)
    tokens = tokens + output.flatten(1).T
    tokens = tokens + last.mlp(last.ln_2(tokens))
    return (visual.ln_post(tokens) @ visual.proj).T.reshape(-1, *grid)


def covered(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.interpolate(masks[:, None].float(), grid, mode="area")[:, 0]
