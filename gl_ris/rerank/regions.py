"""The masks of one image as rules see them: boxes, areas, and how they lie to each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gl_ris.bits import Bits


@dataclass(eq=False)
class Regions:
    """What rules are computed from; everything that is not given is made on first use and kept.

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
        """Return regions as they are, and those of boxes ``(N, 4)`` XYXY."""
        return boxes if isinstance(boxes, Regions) else cls(boxes if boxes.is_floating_point() else boxes.float())

    @cached_property
    def centres(self) -> Tensor:
        """Centres of the boxes, x and y in pixels, float ``(N, 2)``."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @cached_property
    def areas(self) -> Tensor:
        """Pixels of the masks, or of the boxes, float ``(N,)``."""
        if self.bits is not None:
            return self.bits.areas.to(self.boxes.dtype)
        return (self.boxes[:, 2:] - self.boxes[:, :2]).clamp(min=0).prod(dim=1)

    @cached_property
    def lengths(self) -> Tensor:
        """How large two regions are, float ``(N, N)``: the mean of the roots of their areas, in pixels."""
        sides = self.areas.sqrt()
        return ((sides[:, None] + sides) / 2).clamp(min=1e-6)

    @cached_property
    def towards(self) -> Tensor:
        """Direction from the centre of i to that of j, float ``(N, N, 2)``, of length 1 where they are apart.

        The length falls to 0 where centres are closer than regions are large, for then a direction says little.
        """
        steps = self.centres[None] - self.centres[:, None]
        return steps / (steps.square().sum(dim=-1) + (_CLOSE * self.lengths).square()).sqrt()[..., None]

    @cached_property
    def gaps(self) -> Tensor:
        """Distance between the boxes in pixels, float ``(N, N)``; 0 where they touch."""
        low, high = self.boxes[:, None, :2], self.boxes[:, None, 2:]
        apart = torch.maximum(low - self.boxes[None, :, 2:], self.boxes[None, :, :2] - high)
        return apart.clamp(min=0).square().sum(dim=-1).sqrt()

    @cached_property
    def within(self) -> Tensor:
        """The share of i that lies in j, float ``(N, N)`` in [0, 1], 1 on the diagonal."""
        if self.bits is None:
            return boxes_within(self.boxes)
        shared = self.bits.intersections(self.bits).to(self.boxes.dtype)
        return shared / self.areas.clamp(min=1)[:, None]

    @cached_property
    def places(self) -> Tensor:
        """Centre, and lower edge, as shares of the image: float ``(N, 3)``, x, y, lower edge."""
        if self.size is None:
            low, high = self.boxes[:, :2].amin(dim=0), self.boxes[:, 2:].amax(dim=0)
        else:
            low, high = self.boxes.new_zeros(2), self.boxes.new_tensor(self.size[::-1])
        points = torch.cat([self.centres, self.boxes[:, 3:]], dim=1)
        return (points - low[[0, 1, 1]]) / (high - low).clamp(min=1e-6)[[0, 1, 1]]


# below which share of their size two centres are at one place
_CLOSE = 0.25


def boxes_within(boxes: Tensor) -> Tensor:
    """Return the share of box i that lies in box j, ``(N, N)``; 0 for a box without area."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    return (high - low).clamp(min=0).prod(dim=-1) / areas.clamp(min=1e-6)[:, None]
