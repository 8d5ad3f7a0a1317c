"""Pixel-word attention, against a loop over pixels and words."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gl_ris.supervised.lavt.network import LanguageGate, PixelWordAttention


def unit_rows(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def by_hand(made: PixelWordAttention, pixels: Tensor, words: Tensor, mask: Tensor, heads: int) -> Tensor:
    def dense(layer: torch.nn.Conv1d, x: Tensor) -> Tensor:
        return layer.weight[:, :, 0] @ x + layer.bias[:, None]

    channels = pixels.shape[0]
    share = channels // heads
    query = unit_rows(dense(made.query, pixels))
    key, value = dense(made.key, words), dense(made.value, words)
    gathered = torch.zeros_like(pixels)
    present = [t for t in range(words.shape[1]) if mask[t]]
    for n in range(pixels.shape[1]):
        for h in range(heads):
            part = slice(h * share, (h + 1) * share)
            scores = torch.stack([query[part, n] @ key[part, t] / math.sqrt(channels) for t in present])
            for weight, t in zip(scores.softmax(0), present, strict=True):
                gathered[part, n] += weight * value[part, t]
    gathered = unit_rows(dense(made.out, gathered))
    return gelu(dense(made.mm, gelu(dense(made.vis, pixels)) * gathered))


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    return torch.randn(2, 8, 6), torch.randn(2, 5, 5), mask


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2])
def test_every_pixel_gathers_from_the_words_that_are_there(
    inputs: tuple[Tensor, Tensor, Tensor], heads: int
) -> None:
    made = PixelWordAttention(8, 5, heads)
    fused = made(*inputs)
    for row in range(2):
        expected = by_hand(made, *(part[row] for part in inputs), heads)
        torch.testing.assert_close(fused[row], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padding_says_nothing_and_order_means_nothing(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    made = PixelWordAttention(8, 5)
    pixels, words, mask = inputs
    other = torch.where(mask[:, None].bool(), words, torch.randn_like(words))
    torch.testing.assert_close(made(pixels, words, mask), made(pixels, other, mask))
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(made(pixels, words, mask), made(pixels, words[..., order], mask[:, order]))


@torch.no_grad()
def test_the_gate_lets_through_a_share_of_each_channel() -> None:
    gate, x = LanguageGate(3), torch.randn(4, 3)
    hidden = (x @ gate[0].weight.T).clamp(min=0)
    torch.testing.assert_close(gate(x), torch.tanh(hidden @ gate[2].weight.T) * x)
