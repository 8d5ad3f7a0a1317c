"""A VisionTransformer of open_clip opened for regions: token masking in the last blocks (paper, Sec. 4.1)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.clip.blocks import ALL, run_blocks
from gl_ris.clip.kernels import Layers
from gl_ris.errors import UserError

_CLASS = slice(0, 1)  # the token that is pooled


class ViTTower:
    """An open_clip ``VisionTransformer`` with a class token; `gl_ris.clip.tower.Tower` says what is what."""

    kind = "vit"

    def __init__(self, visual: Any, layers: Layers) -> None:
        self.visual, self.layers = visual, layers
        self.image_size: tuple[int, int] = tuple(visual.image_size)
        self.grid_size: tuple[int, int] = tuple(visual.grid_size)
        self.feature_dim: int = visual.output_dim
        self.depth = len(visual.transformer.resblocks)

    def check_masked_blocks(self, masked_blocks: int) -> None:
        """Raise a `UserError` for what is not an integer from 0 to the depth of the tower."""
        if not isinstance(masked_blocks, int) or not 0 <= masked_blocks <= self.depth:
            raise UserError(
                f"masked_blocks={masked_blocks!r} does not fit a tower of {self.depth} blocks: "
                f"give a whole number from 0 (no masking) to {self.depth}."
            )

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode whole images."""
        return self.project(self.run(0, self.embedded(pixels), _CLASS)[:, 0])

    def run(self, first: int, tokens: Tensor, rows: slice = ALL, **options: Any) -> Tensor:
        """Run the blocks from ``first`` on, see `run_blocks`."""
        return run_blocks(self.layers, self.visual.transformer.resblocks[first:], tokens, rows, **options)

    def embedded(self, pixels: Tensor, positions: Tensor | None = None) -> Tensor:
        """Make the tokens that enter the first block, ``(B, 1 + rows * columns, width)``.

        ``positions`` are embeddings of a grid that is not the tower's own.
        """
        visual = self.visual
        positions = visual.positional_embedding if positions is None else positions
        patches = visual.conv1(pixels.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + positions.to(patches.dtype)
        return visual.ln_pre(tokens)

    def image_state(self, pixels: Tensor, masked_blocks: int, unit_map: bool = False) -> Tensor:
        """Run the first ``L - k`` blocks, to tokens ``(1, 1 + rows * columns, width)``, class token first.

        For ``k = 0`` that token alone: nothing else is read behind the last block.
        """
        self.check_masked_blocks(masked_blocks)
        blocks = self.visual.transformer.resblocks[: self.depth - masked_blocks]
        rows = ALL if masked_blocks else _CLASS
        return run_blocks(self.layers, blocks, self.embedded(pixels), rows)

    def region_features(self, state: Tensor, grid_masks: Tensor, masked_blocks: int) -> Tensor:
        """Multiply grid tokens by the mask before each of the last ``k`` blocks, and project the class token.

        The class token is never masked. With ``k = 0`` every mask gets the feature of the image.
        """
        keep = grid_masks.flatten(1).to(state.dtype)
        keep = torch.cat([keep.new_ones(len(keep), 1), keep], dim=1)[..., None]
        tokens = state.expand(len(grid_masks), -1, -1)
        return self.project(self.run(self.depth - masked_blocks, tokens, _CLASS, keep=keep)[:, 0])

    def project(self, tokens: Tensor) -> Tensor:
        """Take tokens from behind the last block, ``(..., width)``, to features ``(..., feature_dim)``."""
        return self.visual.ln_post(tokens) @ self.visual.proj

    def last_map(self, state: Tensor) -> Tensor:
        """Return the grid tokens as the last block's attention reads them, ``(1, width, rows, columns)``."""
        tokens = self.visual.transformer.resblocks[-1].ln_1(state)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, self.grid_size)

    def pool(self, state: Tensor, shifts: Tensor) -> Tensor:
        """Run the last block, its attention on grid tokens with each of ``(S, width)`` added."""
        # The residual connection keeps what entered the block, and the attention its class token.
        block = self.visual.transformer.resblocks[-1]
        if not isinstance(block.attn, nn.MultiheadAttention):
            return self._pool_whole(state, shifts)
        # Keys and values of the image are projected once. What is added to those of the grid changes how much
        # the class token sees of all of it, and is added to what it sees by that much.
        attention, normed = block.attn, block.ln_1(state[0])
        own = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        added = F.linear(shifts, attention.in_proj_weight).chunk(3, dim=-1)
        query, key, value, _, more_key, more_value = (
            part.float().unflatten(-1, (attention.num_heads, -1)).transpose(0, 1) for part in (*own, *added)
        )
        query = query[:, :1] * query.shape[-1] ** -0.5
        on_grid = (torch.arange(len(normed), device=query.device) > 0).float()
        logits = query @ key.transpose(1, 2) + (query * more_key).sum(dim=-1, keepdim=True) * on_grid
        seen = logits.softmax(dim=-1)
        pooled = seen @ value + (seen @ on_grid)[..., None] * more_value
        attended = attention.out_proj(pooled.transpose(0, 1).flatten(1).to(state.dtype))
        tokens = state[0, :1] + block.ls_1(attended)
        return self.project(tokens + block.ls_2(block.mlp(block.ln_2(tokens))))

    def _pool_whole(self, state: Tensor, shifts: Tensor) -> Tensor:
        """Do what `pool` does for any kind of block."""
        block = self.visual.transformer.resblocks[-1]
        pad = F.pad(shifts[:, None].expand(-1, state.shape[1] - 1, -1), (0, 0, 1, 0))
        with block.ln_1.register_forward_hook(lambda _, __, normalised: normalised + pad):
            return self.project(block(state.expand(len(shifts), -1, -1))[:, 0])

    def dense_features(self, state: Tensor) -> Tensor:
        """Take every grid token through the last block by itself and project it."""
        # Where a token attends to itself alone, attention is nothing but the value and output layers. As in
        # MaskCLIP's code, the block's residual connections and its MLP stay.
        tokens = state[:, 1:]
        alone = torch.full((tokens.shape[1],) * 2, -torch.inf, device=tokens.device).fill_diagonal_(0)
        return self.project(self.run(self.depth - 1, tokens, bias=alone))[0].unflatten(0, self.grid_size)


def tokens_of(regions: Tensor) -> Tensor:
    """Say which grid tokens a region is made of: those at least half of which it covers.

    A region that covers no token by half is made of the ones that it covers most. From covered shares, float
    ``(N, rows, columns)`` in [0, 1], to bool ``(N, rows * columns)``, with at least one True in a row.
    """
    shares = regions.flatten(1)
    return shares >= shares.amax(dim=1, keepdim=True).clamp(max=0.5)


def centred_on_corners(tower: ViTTower, pixels: Tensor) -> Tensor:
    """Shift an image ``(1, 3, h, w)`` so that each patch is centred on its cell's upper left corner.

    That is the padding of Adapting CLIP's patch convolution: zeros enter from above and from the left.
    """
    down, right = ((side - 1) // 2 for side in tower.visual.conv1.kernel_size)
    return F.pad(pixels, (right, -right, down, -down))


def region_tokens(tower: ViTTower, embedded: Tensor, members: Tensor) -> Tensor:
    """Run one class token per region, which attends to itself and to the tokens of its region alone.

    From what enters the first block, ``(1, 1 + rows * columns, width)``, and the ``members`` of `tokens_of`,
    to the projected class tokens, ``(N, feature_dim)``, not normalised.
    """
    # The region tokens start as copies of the class token and ride along in one pass over the image. Nothing
    # attends to them: grid tokens and the image's own class token are those of the unchanged model, so they
    # are computed once for all regions, and a region of all tokens gives the feature of the image.
    count, length = len(members), embedded.shape[1]
    attends = torch.eye(length + count, dtype=torch.bool, device=members.device)
    attends[:length, :length] = True
    attends[length:, 1:length] = members
    # open_clip would add True and False as 1 and 0.
    bias = torch.zeros_like(attends, dtype=embedded.dtype).masked_fill(~attends, -torch.inf)
    tokens = torch.cat([embedded, embedded[:, :1].expand(-1, count, -1)], dim=1)
    return tower.project(tower.run(0, tokens, slice(length, None), bias=bias)[0])
