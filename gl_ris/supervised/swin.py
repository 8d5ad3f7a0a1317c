"""The Swin Transformer as segmentation models have it: windows are padded first and shifted then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import (
    SwinTransformer,
    SwinTransformerBlock,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn


class PadFirstBlock(SwinTransformerBlock):
    """A Swin block that pads to whole windows before the cyclic shift.

    timm shifts first and pads afterwards, and masks for the unpadded map; where a map is no multiple of the
    window the two differ (by an eighth in stage 4 of Swin-B at 480 pixels), so that weights trained in one
    order do not fit the other.
    """

    def _attn(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape[1:]
        rows, columns = (
            -(-length // window) * window
            for length, window in zip((height, width), self.window_size, strict=True)
        )
        x = F.pad(x, (0, 0, 0, columns - width, 0, rows - height))
        if any(self.shift_size):
            x = torch.roll(x, [-shift for shift in self.shift_size], dims=(1, 2))
        windows = window_partition(x, self.window_size).view(-1, self.window_area, channels)
        windows = self.attn(windows, mask=self._shift_mask(x))
        x = window_reverse(windows.view(-1, *self.window_size, channels), self.window_size, rows, columns)
        if any(self.shift_size):
            x = torch.roll(x, self.shift_size, dims=(1, 2))
        return x[:, :height, :width].contiguous()

    def _shift_mask(self, padded: Tensor) -> Tensor | None:
        """Return the mask between tokens that only the shift brought together; kept while it fits."""
        key = (padded.shape[1:3], padded.device, padded.dtype)
        if getattr(self, "_mask_key", None) != key:
            self._mask_key, self._mask = key, self.get_attn_mask(padded)
        return self._mask


def swin(
    image_size: int,
    patch_size: int,
    embed_dim: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    window_size: int,
    drop_path_rate: float,
) -> Any:
    """Build an untrained Swin Transformer without head, whose stages are to be run one by one.

    Args:
        image_size: Side that the maps are laid out for; other multiples of the patch work too.
        patch_size: Side of a patch, the stride of the first map.
        embed_dim: Channels of the first stage, doubled from stage to stage.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        window_size: Side of a window; never shrunk, however small the map.
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0.

    Returns:
        The network: ``patch_embed``, then ``layers``; maps are ``(B, H, W, C)``. A stage merges patches when
        it begins.
    """
    network = SwinTransformer(
        img_size=image_size,
        patch_size=patch_size,
        num_classes=0,
        embed_dim=embed_dim,
        depths=tuple(depths),
        num_heads=tuple(num_heads),
        window_size=window_size,
        drop_path_rate=drop_path_rate,
        always_partition=True,
        strict_img_size=False,
    )
    network.norm = nn.Identity()
    for module in network.modules():
        if isinstance(module, SwinTransformerBlock):
            # timm names the class of its blocks in the middle of a constructor; the state is the same
            module.__class__ = PadFirstBlock
    return network
