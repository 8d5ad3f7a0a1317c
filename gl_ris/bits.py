"""Masks of one image packed as bits, and what is counted of them, once for all who ask.

On a CPU a word of 64 pixels is counted at once; on other devices torch counts the masks where they are.
"""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class Bits:
    """Masks whose words, areas, and occupied rows and columns are made on first use and kept.

    They are bool ``(N, H, W)`` on any device, neither copied nor changed. Who makes it does not write into
    the masks any more.
    """

    def __init__(self, masks: Tensor) -> None:
        self.masks = masks
        self._packed = masks.device.type == "cpu"

    @classmethod
    def of(cls, masks: Tensor | Bits) -> Bits:
        """Return ``masks`` if they are `Bits` already, else those of them."""
        return masks if isinstance(masks, Bits) else cls(masks)

    def __len__(self) -> int:
        return len(self.masks)

    @cached_property
    def words(self) -> np.ndarray:
        """The masks as uint64 ``(N, H, words of a row)``, see `pack`; of masks on a CPU only."""
        return pack(self.masks)

    @cached_property
    def areas(self) -> Tensor:
        """Pixels of each mask, int64 ``(N,)``."""
        return torch.from_numpy(count(self.words)) if self._packed else self.masks.flatten(1).sum(dim=1)

    @cached_property
    def occupied(self) -> tuple[Tensor, Tensor]:
        """Which columns and which rows of each mask have a pixel, bool ``(N, W)`` and ``(N, H)``."""
        if not self._packed:
            return self.masks.any(dim=1), self.masks.any(dim=2)
        columns, rows = (np.bitwise_or.reduce(self.words, axis=axis) for axis in (1, 2))
        columns = np.unpackbits(columns.view(np.uint8), axis=1, count=self.masks.shape[2])
        return torch.from_numpy(columns.view(np.bool_)), torch.from_numpy(rows > 0)

    def intersections(self, others: Bits) -> Tensor:
        """Pixels that each mask shares with each of ``R`` others of its size, int64 ``(N, R)``."""
        if len(others) > len(self):
            return others.intersections(self).T
        shared = self.areas.new_zeros(len(self), len(others))
        for number in others.areas.nonzero().flatten().tolist():
            if self._packed:
                rows = others.occupied[1][number].nonzero()
                part = slice(int(rows[0]), int(rows[-1]) + 1)
                area = torch.from_numpy(count(self.words[:, part] & others.words[number, part]))
            else:
                area = (self.masks & others.masks[number]).flatten(1).sum(dim=1)
            shared[:, number] = area
        return shared

    def cell_shares(self, grid: tuple[int, int]) -> Tensor:
        """Covered share of each cell of a grid, float32 ``(N, *grid)``, by adaptive average pooling."""
        if not self._packed:
            return F.adaptive_avg_pool2d(self.masks[:, None].float(), grid)[:, 0]
        height, width = self.masks.shape[1:]
        # the first and one past the last pixel of each cell; neighbours may share one
        (top, bottom), (left, right) = (
            (np.arange(cells) * side // cells, -(-np.arange(1, cells + 1) * side // cells))
            for side, cells in zip((height, width), grid, strict=True)
        )
        x = np.arange(width)
        columns = pack(torch.from_numpy((left[:, None] <= x) & (x < right[:, None])))
        shares = np.empty((len(self), *grid), np.float32)
        down = np.zeros((len(self), height + 1), np.int64)
        for column, wanted in enumerate(columns):
            down[:, 1:] = 0
            for place in np.flatnonzero(wanted):
                down[:, 1:] += np.bitwise_count(self.words[:, :, place] & wanted[place])
            np.cumsum(down, axis=1, out=down)
            shares[:, :, column] = down[:, bottom] - down[:, top]
        # as torch divides, to the last bit: a single cell by its area, others by one side after the other
        sides = (bottom - top)[:, None].astype(np.float32), (right - left).astype(np.float32)
        shares = shares / (sides[0] * sides[1]) if grid == (1, 1) else shares / sides[0] / sides[1]
        return torch.from_numpy(shares)

    def cell_samples(self, grid: tuple[int, int]) -> Tensor:
        """Bilinear mean of the four pixels around each cell's centre, float32 ``(N, *grid)``."""
        bilinear = partial(F.interpolate, size=grid, mode="bilinear", align_corners=False, antialias=False)
        if not self._packed:
            return bilinear(self.masks[:, None].float())[:, 0]
        # Floats are made of rows that are read alone: two around each centre, which torch rounds in float32.
        height, width = self.masks.shape[1:]
        centres = (np.arange(grid[0]) + 0.5) * height / grid[0] - 0.5
        near = np.floor(np.add.outer([-1e-6 * height, 1e-6 * height], centres)).astype(np.int64)
        rows = torch.from_numpy(np.unique(np.stack([near, near + 1]).clip(0, height - 1)))
        canvas = torch.zeros(1, 1, height, width, dtype=torch.float32)
        samples = torch.empty(len(self), *grid, dtype=torch.float32)
        for strips, cells in zip(self.masks[:, rows].float(), samples, strict=True):
            canvas[0, 0].index_copy_(0, rows, strips)
            cells.copy_(bilinear(canvas)[0, 0])
        return samples


def pack(masks: Tensor) -> np.ndarray:
    """Pack bool ``(..., W)`` of a CPU, 64 pixels a word: uint64 ``(..., ceil(W / 64))``, zeros behind W."""
    spare = -masks.shape[-1] % 64
    pixels = (
        np.pad(masks.numpy(), [(0, 0)] * (masks.ndim - 1) + [(0, spare)]) if spare else masks.contiguous()
    )
    return np.packbits(pixels, axis=-1).view(np.uint64)


def count(words: np.ndarray) -> np.ndarray:
    """Count the pixels of masks packed as ``(..., H, words)``: int64 ``(...)``."""
    return np.bitwise_count(words).sum(axis=(-2, -1), dtype=np.int64)
