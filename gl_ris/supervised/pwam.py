"""How LAVT brings language into the stages of its image encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PixelWordAttention(nn.Module):
    """LAVT's pixel-word attention: every pixel gathers from the words and is multiplied by what it gets.

    Args:
        channels: Channels ``C`` of the stage.
        text_channels: Channels of the text encoder.
        heads: Attention heads. Scores are scaled by all ``C`` channels, however many heads share them.
    """

    def __init__(self, channels: int, text_channels: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.vis = nn.Conv1d(channels, channels, 1)
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(text_channels, channels, 1)
        self.value = nn.Conv1d(text_channels, channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)
        self.mm = nn.Conv1d(channels, channels, 1)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Fuse.

        Args:
            pixels: ``(B, C, N)``, ``N`` above 1 (its rows are normalised over the ``N`` positions).
            words: ``(B, text_channels, T)``.
            mask: ``(B, T)``, 1 for words, 0 for padding.

        Returns:
            ``(B, C, N)``.
        """
        keep = mask[:, None].to(words.dtype)
        query = F.instance_norm(self.query(pixels))
        key, value = self.key(words) * keep, self.value(words) * keep
        parts = [part.unflatten(1, (self.heads, -1)) for part in (query, key, value)]
        scores = parts[0].transpose(2, 3) @ parts[1] * pixels.shape[1] ** -0.5
        weights = (scores + (1e4 * keep - 1e4)[:, :, None]).softmax(dim=-1)
        gathered = (weights @ parts[2].transpose(2, 3)).transpose(2, 3).flatten(1, 2)
        gathered = F.instance_norm(self.out(gathered))
        return F.gelu(self.mm(F.gelu(self.vis(pixels)) * gathered))


class LanguageGate(nn.Sequential):
    """LAVT's language gate: how much of the fused feature is added back to the stream, channel by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Linear(channels, channels, bias=False), nn.ReLU(), nn.Linear(channels, channels, bias=False)
        )

    def forward(self, fused: Tensor) -> Tensor:
        """Return the gated residual of ``fused``, ``(..., C)``."""
        return torch.tanh(super().forward(fused)) * fused
