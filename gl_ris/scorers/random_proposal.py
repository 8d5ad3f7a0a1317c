"""The floor: a proposal at random."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from gl_ris.clip.context import ImageContext
from gl_ris.scorers.base import Scorer


class RandomProposal(Scorer):
    """Uniform random scores, drawn anew for every image and expression.

    The draw depends on the pixels and the expression alone, so it is the same in every run and under any
    sharding. The model and all settings have no influence.
    """

    name = "random"
    title = "Random"

    def texts(self, expressions: Sequence[str], noun_phrases: Sequence[str] | None = None) -> list[str]:
        """Nothing is encoded."""
        return []

    def score(
        self, context: ImageContext, expressions: Sequence[str], noun_phrases: Sequence[str] | None
    ) -> Tensor:
        """Draw scores in [0, 1)."""
        seed = hashlib.blake2b(context.image.cpu().contiguous().numpy().tobytes(), digest_size=8)
        rows = [_draw(seed.copy(), text, len(context.masks)) for text in expressions]
        return torch.stack(rows).to(context.masks.device)


def _draw(seed: hashlib.blake2b, expression: str, count: int) -> Tensor:
    seed.update(expression.encode())
    generator = torch.Generator().manual_seed(int.from_bytes(seed.digest(), "big") >> 1)
    return torch.rand(count, generator=generator)
