"""CRIS's text-guided feature pyramid: three maps and a sentence to one map of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(incoming: int, outgoing: int, kernel: int) -> nn.Sequential:
    """Return convolution (same size), batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outgoing),
        nn.ReLU(),
    )


def upsample(x: Tensor) -> Tensor:
    """Double height and width."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class CoordinateConvolution(nn.Module):
    """A convolution that is told where it is: x and y from -1 to 1 as two more channels."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__()
        self.conv1 = convolution(incoming + 2, outgoing, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, h, w)``."""
        y, across = torch.meshgrid(
            *(torch.linspace(-1, 1, side, device=x.device, dtype=x.dtype) for side in x.shape[2:]),
            indexing="ij",
        )
        coordinates = torch.stack([across, y]).expand(len(x), -1, -1, -1)
        return self.conv1(torch.cat([x, coordinates], dim=1))


class Neck(nn.Module):
    """Fuses the sentence into the coarsest map, and the maps with each other, at stride 16.

    Args:
        incoming: Channels of the maps of strides 8, 16, 32.
        outgoing: Channels inside, likewise; the middle one is that of the result.
        sentence: Channels of the sentence.
    """

    def __init__(self, incoming: Sequence[int], outgoing: Sequence[int], sentence: int) -> None:
        super().__init__()
        fine, middle, coarse = outgoing
        self.txt_proj = nn.Sequential(
            nn.Linear(sentence, coarse, bias=False), nn.BatchNorm1d(coarse), nn.ReLU()
        )
        self.f1_v_proj = convolution(incoming[2], coarse, 1)
        self.norm_layer = nn.Sequential(nn.BatchNorm2d(coarse), nn.ReLU())
        self.f2_v_proj = convolution(incoming[1], middle, 3)
        self.f2_cat = convolution(middle + coarse, middle, 1)
        self.f3_v_proj = convolution(incoming[0], fine, 3)
        self.f3_cat = convolution(fine + middle, middle, 1)
        self.f4_proj5 = convolution(coarse, middle, 3)
        self.f4_proj4 = convolution(middle, middle, 3)
        self.f4_proj3 = convolution(middle, middle, 3)
        self.aggr = convolution(3 * middle, middle, 1)
        self.coordconv = nn.Sequential(CoordinateConvolution(middle, middle), convolution(middle, middle, 3))

    def forward(self, maps: Sequence[Tensor], sentence: Tensor) -> Tensor:
        """Fuse.

        Args:
            maps: ``(B, C, h, w)`` at strides 8, 16 and 32.
            sentence: ``(B, D)``; in training ``B`` is at least 2, which batch normalisation needs.

        Returns:
            ``(B, middle, h, w)`` at stride 16.
        """
        state = self.txt_proj(sentence)[:, :, None, None]
        f5 = self.norm_layer(self.f1_v_proj(maps[2]) * state)
        f4 = self.f2_cat(torch.cat([self.f2_v_proj(maps[1]), upsample(f5)], dim=1))
        f3 = self.f3_cat(torch.cat([F.avg_pool2d(self.f3_v_proj(maps[0]), 2), f4], dim=1))
        parts = [self.f4_proj3(f3), self.f4_proj4(f4), upsample(self.f4_proj5(f5))]
        return self.coordconv(self.aggr(torch.cat(parts, dim=1)))
