"""The parts of CRIS, each against the same thing written out."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.supervised.cris.network import (
    CoordinateConvolution,
    CRISSize,
    DecoderLayer,
    DenseAttentionPool,
    Neck,
    Projector,
    image_maps,
    pixel_positions,
    sinusoids,
    text_states,
)


@pytest.fixture
def clip() -> nn.Module:
    torch.manual_seed(0)
    return open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        text_cfg={"context_length": 12, "vocab_size": 50, "width": 16, "heads": 2, "layers": 2},
        quick_gelu=True,
    ).eval()


def ids(*expressions: list[int], length: int) -> Tensor:
    return torch.tensor([[48, *words, 49] + [0] * (length - 2 - len(words)) for words in expressions])


@torch.no_grad()
def test_the_maps_are_those_of_the_tower_layer_by_layer(clip: nn.Module) -> None:
    pixels, visual = torch.randn(2, 3, 64, 96), clip.visual
    x = visual.stem(pixels)
    expected = [x := layer(x) for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4)]
    clip.visual.attnpool = DenseAttentionPool(clip.visual.attnpool)
    maps = image_maps(clip, pixels)
    for own, theirs in zip(maps[:2], expected[1:3], strict=True):
        assert torch.equal(own, theirs)
    assert maps[2].shape == (2, 16, 2, 3)


@torch.no_grad()
def test_dense_pooling_is_self_attention_of_the_positions_beside_a_shortcut(clip: nn.Module) -> None:
    pool = clip.visual.attnpool
    nn.init.normal_(pool.positional_embedding)
    dense = DenseAttentionPool(pool).eval()
    x = torch.randn(2, 256, 3, 4)
    grid = pool.positional_embedding[1:].reshape(2, 2, 256).permute(2, 0, 1)[None]
    tokens = (x + F.interpolate(grid, (3, 4), mode="bicubic")).flatten(2).permute(2, 0, 1)
    attended, _ = F.multi_head_attention_forward(
        tokens,
        tokens,
        tokens,
        256,
        pool.num_heads,
        None,
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        None,
        None,
        False,
        0.0,
        pool.c_proj.weight,
        pool.c_proj.bias,
        training=False,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    shortcut = dense.connect[1](torch.conv2d(x, dense.connect[0].weight))
    expected = (attended.permute(1, 2, 0).reshape(2, 16, 3, 4) + shortcut).relu()
    torch.testing.assert_close(dense(x), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_sentence_is_what_clip_makes_of_it(clip: nn.Module) -> None:
    tokens = ids([3, 7, 9], [5], length=12)
    words, sentence = text_states(clip, tokens)
    torch.testing.assert_close(sentence, clip.encode_text(tokens))
    assert words.shape == (2, 12, 16)
    shorter = text_states(clip, tokens[:, :6])
    torch.testing.assert_close(shorter[1], sentence)
    torch.testing.assert_close(shorter[0], words[:, :6])


def test_positions_are_sines_and_cosines_of_x_then_of_y() -> None:
    made = pixel_positions(3, 4, 8).view(3, 4, 8)
    for y in range(3):
        for x in range(4):
            for i in range(2):
                rate = 10000 ** (-2 * i / 4)
                row = [math.sin(x * rate), math.cos(x * rate), math.sin(y * rate), math.cos(y * rate)]
                got = [made[y, x, c].item() for c in (2 * i, 2 * i + 1, 4 + 2 * i, 5 + 2 * i)]
                assert got == pytest.approx(row, abs=1e-6)
    assert torch.equal(sinusoids(4, 4), made[0, :, :4])


@torch.no_grad()
def test_a_layer_normalises_what_it_attends_to_and_what_came_of_it() -> None:
    torch.manual_seed(0)
    layer = DecoderLayer(8, CRISSize(heads=2, hidden=12, dropout=0.5)).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, words, place, order = torch.randn(1, 6, 8), torch.randn(1, 5, 8), torch.randn(6, 8), torch.randn(5, 8)

    def attend(made: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor, count: int) -> Tensor:
        wq, wk, wv = made.in_proj_weight.chunk(3)
        bq, bk, bv = made.in_proj_bias.chunk(3)
        q, k, v = q[0] @ wq.T + bq, k[0] @ wk.T + bk, v[0] @ wv.T + bv
        parts = [
            (q[:, s] @ k[:count, s].T / 2).softmax(-1) @ v[:count, s] for s in (slice(0, 4), slice(4, 8))
        ]
        return made.out_proj(torch.cat(parts, 1))[None]

    n = layer.norm1(x)
    y = x + layer.self_attn_norm(attend(layer.self_attn, n + place, n + place, n, 6))
    n = layer.norm2(y)
    y = y + layer.cross_attn_norm(attend(layer.multihead_attn, n + place, words + order, words, 3))
    hidden = F.layer_norm(layer.ffn[0](layer.norm3(y)).relu(), (12,), layer.ffn[3].weight, layer.ffn[3].bias)
    expected = y + layer.ffn[4](hidden)
    padding = torch.tensor([[False, False, False, True, True]])
    torch.testing.assert_close(layer(x, words, padding, place, order), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_coordinates_run_from_minus_one_to_one_x_first() -> None:
    layer = CoordinateConvolution(3, 5).eval()
    x = torch.randn(1, 3, 4, 6)
    extra = torch.zeros(1, 2, 4, 6)
    for i in range(4):
        for j in range(6):
            extra[0, :, i, j] = torch.tensor([-1 + 2 * j / 5, -1 + 2 * i / 3])
    expected = layer.conv1[1](torch.conv2d(torch.cat([x, extra], 1), layer.conv1[0].weight, padding=1)).relu()
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_neck_lets_the_sentence_scale_the_coarsest_map() -> None:
    torch.manual_seed(0)
    neck = Neck((4, 8, 6), (5, 10, 20), 6).eval()
    maps = [torch.randn(1, 4, 16, 24), torch.randn(1, 8, 8, 12), torch.randn(1, 6, 4, 6)]
    sentence = torch.randn(1, 6)
    for module in neck.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)

    def conv(layer: nn.Sequential, x: Tensor) -> Tensor:
        return layer[1](torch.conv2d(x, layer[0].weight, padding=layer[0].weight.shape[-1] // 2)).relu()

    def twice(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    state = neck.txt_proj[1](sentence @ neck.txt_proj[0].weight.T).relu()[0]
    f5 = neck.norm_layer[0](conv(neck.f1_v_proj, maps[2]) * state.view(1, -1, 1, 1)).relu()
    f4 = conv(neck.f2_cat, torch.cat([conv(neck.f2_v_proj, maps[1]), twice(f5)], 1))
    fine = conv(neck.f3_v_proj, maps[0])
    fine = (fine[..., ::2, ::2] + fine[..., 1::2, ::2] + fine[..., ::2, 1::2] + fine[..., 1::2, 1::2]) / 4
    f3 = conv(neck.f3_cat, torch.cat([fine, f4], 1))
    all_three = [conv(neck.f4_proj3, f3), conv(neck.f4_proj4, f4), twice(conv(neck.f4_proj5, f5))]
    expected = neck.coordconv(conv(neck.aggr, torch.cat(all_three, 1)))
    torch.testing.assert_close(neck(neck.project(maps), sentence), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_each_sentence_is_a_kernel_for_its_own_image() -> None:
    torch.manual_seed(0)
    projector = Projector(6, 4).eval()
    x, sentences = torch.randn(3, 8, 5, 7), torch.randn(3, 6)
    logits = projector(x, sentences)
    assert logits.shape == (3, 1, 20, 28)
    pixels = projector.vis(x)
    for row in range(3):
        numbers = projector.txt.weight @ sentences[row] + projector.txt.bias
        kernel, bias = numbers[:36].reshape(1, 4, 3, 3), numbers[36:]
        alone = torch.conv2d(pixels[row : row + 1], kernel, bias, padding=1)
        torch.testing.assert_close(logits[row : row + 1], alone, atol=1e-5, rtol=1e-4)
