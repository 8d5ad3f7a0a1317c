"""The order of padding and shifting in a Swin block, against windows cut out one by one."""

from __future__ import annotations

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor

from gl_ris.supervised.lavt.network import LAVTSize, PadFirstBlock, swin


def block(kind: type[SwinTransformerBlock], side: int, window: int, shift: int) -> SwinTransformerBlock:
    torch.manual_seed(0)
    made = kind(
        dim=8,
        input_resolution=(side, side),
        num_heads=2,
        window_size=window,
        shift_size=shift,
        always_partition=True,
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made.eval()


def attention_by_hand(made: SwinTransformerBlock, x: Tensor, window: int, shift: int) -> Tensor:
    """Pad, lay shifted windows over the torus, and let each token attend by a plain sum."""
    side = x.shape[0]
    padded = -(-side // window) * window
    full = torch.zeros(padded, padded, x.shape[2])
    full[:side, :side] = x
    result = torch.zeros_like(full)
    head = x.shape[2] // made.attn.num_heads
    for top in range(0, padded, window):
        for left in range(0, padded, window):
            cells = [(i, j) for i in range(top, top + window) for j in range(left, left + window)]
            places = [((i + shift) % padded, (j + shift) % padded) for i, j in cells]
            wrapped = [(i + shift >= padded, j + shift >= padded) for i, j in cells]
            tokens = torch.stack([full[place] for place in places])
            q, k, v = made.attn.qkv(tokens).chunk(3, dim=1)
            out = []
            for n, (i, j) in enumerate(cells):
                heads = []
                for h in range(made.attn.num_heads):
                    part = slice(h * head, (h + 1) * head)
                    scores = k[:, part] @ q[n, part] * head**-0.5
                    for m, (a, b) in enumerate(cells):
                        row = (i - a + window - 1) * (2 * window - 1) + (j - b + window - 1)
                        scores[m] += made.attn.relative_position_bias_table[row, h]
                        scores[m] -= 100.0 * (wrapped[n] != wrapped[m])
                    heads.append(scores.softmax(0) @ v[:, part])
                out.append(torch.cat(heads))
            for place, value in zip(places, made.attn.proj(torch.stack(out)), strict=True):
                result[place] = value
    return result[:side, :side]


@torch.no_grad()
@pytest.mark.parametrize(
    ("side", "window", "shift"), [(8, 4, 0), (8, 4, 2), (5, 4, 0), (5, 4, 2), (3, 4, 2), (7, 3, 1)]
)
def test_a_block_pads_first_and_shifts_then(side: int, window: int, shift: int) -> None:
    made = block(PadFirstBlock, side, window, shift)
    x = torch.randn(1, side, side, 8)
    torch.testing.assert_close(
        made._attn(x)[0], attention_by_hand(made, x[0], window, shift), atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_timm_shifts_first_so_that_its_own_block_differs_where_a_map_is_padded() -> None:
    x = torch.randn(1, 15, 15, 8)
    ours, theirs = block(PadFirstBlock, 15, 12, 6), block(SwinTransformerBlock, 15, 12, 6)
    assert (ours._attn(x) - theirs._attn(x)).norm() > 0.01 * theirs._attn(x).norm()
    x = torch.randn(1, 8, 8, 8)
    ours, theirs = block(PadFirstBlock, 8, 4, 2), block(SwinTransformerBlock, 8, 4, 2)
    torch.testing.assert_close(ours._attn(x), theirs._attn(x))


@torch.no_grad()
def test_one_network_reads_images_of_several_sizes() -> None:
    network = swin(LAVTSize(32, 2, 8, (2, 2), (1, 2), 4, 0.0)).eval()
    for height, width in [(32, 32), (20, 28), (32, 32)]:
        x = network.patch_embed(torch.randn(1, 3, height, width))
        for stage in network.layers:
            x = stage(x)
        assert x.shape == (1, height // 4, width // 4, 16)
    assert all(type(b) is PadFirstBlock for stage in network.layers for b in stage.blocks)
