"""Learning where from what: expressions compete for the patches of an image without any mask.

A reconstruction of the multi-label patch assignment of TSEG (arXiv 2205.04725), whose code is not public.
The weighted pooling with its focal term is that of Araslanov and Roth (CVPR 2020).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1.0
"""Weight of nothing in the pooling, so that an expression with few patches has a small score."""

FOCAL_POWER, FOCAL_OFFSET = 3, 0.01


def assign(similarities: Tensor, present: Tensor, ignored: Tensor, background: Tensor) -> Tensor:
    """Share the patches of each image out among the background and the expressions.

    An expression competes with the background and with the expressions that are *not* of the image, never
    with others of the image: two of them may well refer to the same object.

    Args:
        similarities: ``(B, E, P)``, of ``E`` expressions with the ``P`` patches of each image.
        present: bool ``(B, E)``, the expressions of each image.
        ignored: bool ``(B, E)``, those that are neither (the words of a present one, from another image).
        background: Scalar, its similarity with every patch.

    Returns:
        Shares ``(B, E, P)`` in [0, 1]; 0 for ignored expressions.
    """
    absent = ~present & ~ignored
    others = similarities.masked_fill(~absent[..., None], -torch.inf)
    level = torch.logsumexp(torch.cat([others, background.expand_as(others[:, :1])], dim=1), dim=1)[:, None]
    rivals = torch.where(present[..., None], torch.logaddexp(level, similarities), level)
    return (similarities - rivals).exp().masked_fill(ignored[..., None], 0.0)


def pooled_scores(similarities: Tensor, shares: Tensor, focal: bool = True) -> Tensor:
    """Score how well each image shows what each expression says, ``(B, E)``.

    Args:
        similarities: ``(B, E, P)``.
        shares: Of `assign`, ``(B, E, P)``.
        focal: Ask of expressions that have hardly any patches to take some. Without it the scores can be
            right while the patches are wrong.
    """
    pooled = (shares * similarities).sum(dim=2) / (EPSILON + shares.sum(dim=2))
    if not focal:
        return pooled
    size = shares.mean(dim=2)
    return pooled + (1 - size) ** FOCAL_POWER * (FOCAL_OFFSET + size).log()


def assignment_loss(
    similarities: Tensor, owners: Tensor, words: Tensor, background: Tensor, focal: bool = True
) -> Tensor:
    """Multi-label loss of images and the expressions of a batch.

    Args:
        similarities: ``(B, E, P)``.
        owners: int64 ``(E,)``, the image of each expression.
        words: int64 ``(E,)``, equal for expressions of the same words.
        background: Scalar.
        focal: See `pooled_scores`.

    Returns:
        Scalar: binary cross-entropy of the scores above the background, the mean over pairs of an image and
        an expression, but for those that say of another image what is true of this one.
    """
    present = owners[None] == torch.arange(len(similarities), device=owners.device)[:, None]
    same_words = (words[:, None] == words[None]).float()
    ignored = (present.float() @ same_words > 0) & ~present
    shares = assign(similarities, present, ignored, background)
    scores = pooled_scores(similarities, shares, focal) - background
    losses = F.binary_cross_entropy_with_logits(scores, present.to(scores.dtype), reduction="none")
    return losses[~ignored].mean()
