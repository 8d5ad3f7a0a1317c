"""Transformer blocks of open_clip, computed for the tokens that are needed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.clip.kernels import Layers, has_hooks

ALL = slice(None)
_LINEAR = (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)


def run_blocks(
    layers: Layers,
    blocks: Sequence[Any],
    tokens: Tensor,
    rows: slice = ALL,
    bias: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """Run residual attention blocks of open_clip on ``(B, L, width)``, the last one for tokens in ``rows``.

    ``bias``, ``(L, L)`` or ``(B, 1, L, L)``, is added to the logits of attention; ``keep``, as ``(B, L, 1)``,
    multiplies what enters each block. Other kinds of blocks and those with hooks are called, for all tokens.
    """
    for index, block in enumerate(blocks):
        tokens = tokens if keep is None else tokens * keep
        is_last, is_known = index == len(blocks) - 1, _is_known(block)
        if is_last and is_known:
            return _run(layers, block, tokens, rows, bias)
        tokens = _run(layers, block, tokens, ALL, bias) if is_known else _call(block, tokens, bias)
    return tokens[:, rows]


def _call(block: Any, tokens: Tensor, bias: Tensor | None) -> Tensor:
    if bias is not None and bias.ndim == 4:  # torch's own attention wants one for each head
        bias = bias.expand(-1, block.attn.num_heads, -1, -1).flatten(0, 1)
    return block(tokens, attn_mask=bias)


def _is_known(block: Any) -> bool:
    """Say whether a block is made as open_clip's ordinary one, and nobody can tell that `_run` stands in."""
    from open_clip.transformer import ResidualAttentionBlock

    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv") or has_hooks(block):
        return False
    attention, mlp = block.attn, dict(block.mlp.named_children())
    linear = (attention.out_proj, mlp.get("c_fc"), mlp.get("c_proj"))
    is_plain = type(attention) is nn.MultiheadAttention and attention.in_proj_bias is not None
    return is_plain and [*mlp] == ["c_fc", "gelu", "c_proj"] and all(type(one) in _LINEAR for one in linear)


def _run(layers: Layers, block: Any, tokens: Tensor, rows: slice, bias: Tensor | None) -> Tensor:
    attention, width = block.attn, tokens.shape[-1]
    weight, shift = attention.in_proj_weight, attention.in_proj_bias
    normed = block.ln_1(tokens)
    # apart, as queries are those of some tokens and the rest those of all
    query = layers.linear(normed[:, rows], weight[:width], shift[:width])
    key, value = layers.linear(normed, weight[width:], shift[width:]).chunk(2, dim=-1)
    query, key, value = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value)
    )
    bias = None if bias is None else bias[..., rows, :].to(tokens.dtype)
    seen = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).flatten(2)
    out = attention.out_proj
    tokens = _added(tokens[:, rows], block.ls_1, lambda plus: layers.linear(seen, out.weight, out.bias, plus))
    normed = block.ln_2(tokens)
    return _added(tokens, block.ls_2, lambda plus: layers.mlp(normed, block.mlp, plus))


def _added(tokens: Tensor, scale: nn.Module, compute: Callable[[Tensor | None], Tensor]) -> Tensor:
    """Compute what is added to tokens, together with them where nothing comes between."""
    return compute(tokens) if isinstance(scale, nn.Identity) else tokens + scale(compute(None))
