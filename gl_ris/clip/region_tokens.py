"""One class token per mask through all blocks of a ViT (the Region token baseline; Adapting CLIP)."""

from __future__ import annotations

import torch
from torch import Tensor

from gl_ris.clip.vit import ViTTower


def tokens_of(regions: Tensor) -> Tensor:
    """Say which grid tokens a region is made of: those at least half of which it covers.

    A region that covers no token by half is made of the ones that it covers most.

    Args:
        regions: float ``(N, rows, columns)``, covered shares in [0, 1].

    Returns:
        bool ``(N, rows * columns)``, with at least one True in a row.
    """
    shares = regions.flatten(1)
    return shares >= shares.amax(dim=1, keepdim=True).clamp(max=0.5)


def region_tokens(tower: ViTTower, embedded: Tensor, members: Tensor) -> Tensor:
    """Run one class token per region, which attends to itself and to the tokens of its region alone.

    The region tokens start as copies of the class token and ride along in one pass over the image. Nothing
    attends to them: grid tokens and the image's own class token are those of the unchanged model, so they are
    computed once for all regions, and a region of all tokens gives the feature of the image.

    Args:
        tower: The ViT.
        embedded: What enters its first block, ``(1, 1 + rows * columns, width)``, the class token first.
        members: bool ``(N, rows * columns)``, see `tokens_of`.

    Returns:
        The projected class token of each region, ``(N, feature_dim)``, not normalised.
    """
    count, length = len(members), embedded.shape[1]
    attends = torch.eye(length + count, dtype=torch.bool, device=members.device)
    attends[:length, :length] = True
    attends[length:, 1:length] = members
    # open_clip would add True and False as 1 and 0.
    bias = torch.zeros_like(attends, dtype=embedded.dtype).masked_fill(~attends, -torch.inf)
    tokens = torch.cat([embedded, embedded[:, :1].expand(-1, count, -1)], dim=1)
    for block in tower.visual.transformer.resblocks:
        tokens = block(tokens, attn_mask=bias)
    return tower.project(tokens[0, length:])
