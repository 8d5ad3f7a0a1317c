"""CRIS's geometry: the whole image centred in a square, and maps brought back from it.

A pixel ``x`` of the image lies at ``scale * x + shift`` of the square, counted in whole pixels from the
first one's centre, along either axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Letterbox:
    """How an image lies in a square.

    Attributes:
        height: Of the image in pixels.
        width: Of the image in pixels.
        side: Of the square in pixels.
    """

    height: int
    width: int
    side: int

    @property
    def scale(self) -> float:
        """Pixels of the square for a pixel of the image."""
        return min(self.side / self.height, self.side / self.width)

    @property
    def shift(self) -> tuple[float, float]:
        """Where the first pixel of the image lies in the square, (y, x)."""
        return (self.side - self.height * self.scale) / 2, (self.side - self.width * self.scale) / 2

    def image(self, image: Tensor, border: Sequence[float]) -> Tensor:
        """Bring an image into the square, bicubic without antialiasing, rounded to whole grey levels.

        Args:
            image: uint8 ``(3, height, width)``, RGB.
            border: RGB in 0 to 255 of what the image does not cover.

        Returns:
            float32 ``(3, side, side)``, whole numbers from 0 to 255.
        """
        colour = torch.tensor(border, dtype=torch.float32, device=image.device).view(3, 1, 1)
        return (self._into(image.float() - colour, "bicubic") + colour).round().clamp(0, 255)

    def mask(self, mask: Tensor) -> Tensor:
        """Bring a mask, bool ``(height, width)``, into the square, bilinear: float32 in [0, 1]."""
        return self._into(mask[None].float(), "bilinear")[0]

    def back(self, heat: Tensor) -> Tensor:
        """Bring a map of the square back onto the image, bicubic, 0 outside of the square.

        Args:
            heat: float ``(side, side)``.

        Returns:
            float32 ``(height, width)``.
        """
        places = [
            torch.arange(length, device=heat.device) * self.scale + start
            for length, start in zip((self.height, self.width), self.shift, strict=True)
        ]
        return _sample(heat[None].float(), places[0], places[1], "bicubic")[0]

    def _into(self, planes: Tensor, mode: str) -> Tensor:
        places = [
            (torch.arange(self.side, device=planes.device) - start) / self.scale for start in self.shift
        ]
        return _sample(planes, places[0], places[1], mode)


def _sample(planes: Tensor, rows: Tensor, columns: Tensor, mode: str) -> Tensor:
    """Sample planes ``(C, H, W)`` at every crossing of rows and columns, given in pixels; 0 outside."""
    height, width = planes.shape[1:]
    # grid_sample counts from -1 to 1 between the centres of the first and the last pixel
    y, x = 2 * rows / max(height - 1, 1) - 1, 2 * columns / max(width - 1, 1) - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].to(planes.dtype)
    return F.grid_sample(planes[None], grid, mode=mode, padding_mode="zeros", align_corners=True)[0]
