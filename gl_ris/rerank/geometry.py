"""The masks of one image as rules see them: boxes, areas, and how they lie to each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gl_ris.bits import Bits

# below which share of their size two centres are at one place
_CLOSE = 0.25


@dataclass(eq=False)
class Regions:
    """What rules are computed from; all but what is given is made on first use and kept.

    Attributes:
        boxes: float ``(N, 4)`` XYXY in pixels.
        size: Height and width of the image; None takes the box around all boxes for it.
        bits: The masks; None takes the boxes for them.
    """

    boxes: Tensor
    size: tuple[int, int] | None = None
    bits: Bits | None = None

    @classmethod
    def of(cls, boxes: Tensor | Regions) -> Regions:
        """Return the regions of boxes ``(N, 4)`` XYXY; regions as they are."""
        if isinstance(boxes, Regions):
            return boxes
        return cls(boxes if boxes.is_floating_point() else boxes.float())

    @cached_property
    def centres(self) -> Tensor:
        """Centres of the boxes, x and y in pixels, float ``(N, 2)``."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @cached_property
    def areas(self) -> Tensor:
        """Pixels of the masks, or of the boxes, float ``(N,)``, not 0."""
        found = _areas(self.boxes) if self.bits is None else self.bits.areas
        return found.to(self.boxes.dtype).clamp(min=1e-6)

    @cached_property
    def lengths(self) -> Tensor:
        """How large i and j are: the mean of the roots of their areas in pixels, float ``(N, N)``."""
        return (self.areas.sqrt()[:, None] + self.areas.sqrt()) / 2

    @cached_property
    def towards(self) -> Tensor:
        """Direction from i to j, float ``(N, N, 2)``, of length 1; near 0 where centres hardly differ."""
        steps = self.centres[None] - self.centres[:, None]
        return steps / (steps.square().sum(dim=-1) + (_CLOSE * self.lengths).square()).sqrt()[..., None]

    @cached_property
    def gaps(self) -> Tensor:
        """Distance between the boxes in pixels, float ``(N, N)``; 0 where they touch."""
        apart = self.boxes[:, None, :2] - self.boxes[None, :, 2:]
        return torch.maximum(apart, apart.transpose(0, 1)).clamp(min=0).norm(dim=-1)

    @cached_property
    def within(self) -> Tensor:
        """The share of i that lies in j, float ``(N, N)`` in [0, 1]."""
        if self.bits is None:
            return boxes_within(self.boxes)
        return self.bits.intersections(self.bits) / self.areas[:, None]

    @cached_property
    def places(self) -> Tensor:
        """Centre and lower edge as shares of the image: float ``(3, N)``, x, y, lower edge."""
        low, high = self.boxes[:, :2].amin(dim=0), self.boxes[:, 2:].amax(dim=0)
        if self.size is not None:
            low, high = torch.zeros_like(low), high.new_tensor(self.size[::-1])
        points = torch.cat([self.centres, self.boxes[:, 3:]], dim=1)
        return ((points - low[[0, 1, 1]]) / (high - low).clamp(min=1e-6)[[0, 1, 1]]).T


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def boxes_within(boxes: Tensor) -> Tensor:
    """Return the share of box i that lies in box j, ``(N, N)``; 0 for a box without area."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    return (high - low).clamp(min=0).prod(dim=-1) / _areas(boxes).clamp(min=1e-6)[:, None]
