"""CRIS's vision-language decoder: pixels attend to each other and to the words."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoids(count: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Encode the positions 0 to ``count - 1``: sine in even channels, cosine in odd ones.

    Pair ``i`` of channels turns with the frequency ``10000 ** (-2 i / channels)``.

    Returns:
        float32 ``(count, channels)``.
    """
    rates = torch.exp(torch.arange(0, channels, 2, device=device) * (-math.log(10000.0) / channels))
    angles = torch.arange(count, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def pixel_positions(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Encode the pixels of a map row by row: the first half of the channels says x, the second y.

    Returns:
        float32 ``(height * width, channels)``.
    """
    across = sinusoids(width, channels // 2, device).expand(height, -1, -1)
    down = sinusoids(height, channels // 2, device)[:, None].expand(-1, width, -1)
    return torch.cat([across, down], dim=-1).flatten(0, 1)


class DecoderLayer(nn.Module):
    """One layer: pixels to pixels, pixels to words, and a feed-forward network, each normalised twice.

    Args:
        channels: Of pixels and words.
        heads: Attention heads.
        hidden: Channels inside the feed-forward network.
        dropout: Rate of dropout.
    """

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(channels)
        self.cross_attn_norm = nn.LayerNorm(channels)
        self.self_attn = nn.MultiheadAttention(channels, heads, dropout=dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(channels, heads, dropout=dropout, batch_first=True)
        self.ffn = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, channels),
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, pixels: Tensor, words: Tensor, padding: Tensor, pixel_position: Tensor, word_position: Tensor
    ) -> Tensor:
        """Return the pixels ``(B, N, C)`` after the layer; ``padding`` is True where a word is none."""
        normed = self.norm1(pixels)
        placed = normed + pixel_position
        attended = self.self_attn(placed, placed, normed, need_weights=False)[0]
        pixels = pixels + self.dropout(self.self_attn_norm(attended))
        attended = self.multihead_attn(
            self.norm2(pixels) + pixel_position,
            words + word_position,
            words,
            key_padding_mask=padding,
            need_weights=False,
        )[0]
        pixels = pixels + self.dropout(self.cross_attn_norm(attended))
        return pixels + self.dropout(self.ffn(self.norm3(pixels)))


class Decoder(nn.Module):
    """All layers and a last normalisation.

    Args:
        layers: Their number.
        channels: Of pixels and words, a multiple of 4.
        heads: Attention heads.
        hidden: Channels inside the feed-forward networks.
        dropout: Rate of dropout.
    """

    def __init__(self, layers: int, channels: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(channels, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, words: Tensor, padding: Tensor) -> Tensor:
        """Let a map ask the words.

        Args:
            x: ``(B, C, h, w)``.
            words: ``(B, T, C)``.
            padding: bool ``(B, T)``, True where a word is none.

        Returns:
            ``(B, C, h, w)``.
        """
        channels, size = x.shape[1], x.shape[2:]
        pixel_position = pixel_positions(size[0], size[1], channels, x.device).to(x.dtype)
        word_position = sinusoids(words.shape[1], channels, x.device).to(x.dtype)
        pixels = x.flatten(2).transpose(1, 2)
        for layer in self.layers:
            pixels = layer(pixels, words, padding, pixel_position, word_position)
        return self.norm(pixels).transpose(1, 2).unflatten(2, size)
