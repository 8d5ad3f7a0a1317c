"""The floors, which see neither model nor meaning: a proposal at random, and the largest one."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from gl_ris.clip.image import ImageContext
from gl_ris.scorers.base import Scorer, Texts


class Floor(Scorer):
    """A method in which the model and all settings have no influence."""

    cosines = False

    def texts(self, expressions: Texts, noun_phrases: Texts | None = None) -> list[str]:
        """Nothing is encoded."""
        return []


class RandomProposal(Floor):
    """Uniform random scores, drawn anew for every image and expression.

    The draw depends on the pixels and the expression alone, so it is the same in every run and under any
    sharding.
    """

    name = "random"
    title = "Random"

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Draw scores in [0, 1)."""
        seed = hashlib.blake2b(context.image.cpu().contiguous().numpy().tobytes(), digest_size=8)
        rows = [_draw(seed.copy(), text, len(context.masks)) for text in expressions]
        return torch.stack(rows).to(context.masks.device)


def _draw(seed: hashlib.blake2b, expression: str, count: int) -> Tensor:
    seed.update(expression.encode())
    generator = torch.Generator().manual_seed(int.from_bytes(seed.digest(), "big") >> 1)
    return torch.rand(count, generator=generator)


class LargestProposal(Floor):
    """The area of a mask, whatever the expression says."""

    name = "largest"
    title = "Largest"

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Score by the number of pixels."""
        return context.bits.areas.float().expand(len(expressions), -1)
