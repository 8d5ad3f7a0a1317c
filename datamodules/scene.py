"""One image with everything that is asked about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gl_ris.proposals.base import Proposals


@dataclass(frozen=True)
class Scene:
    """An image, its expressions and the masks they refer to: what a data module yields, one per step.

    Attributes:
        image: uint8 ``(3, H, W)``, RGB, values 0 to 255, in the pixel orientation of the stored file.
        expressions: The ``E`` expressions, ref by ref.
        targets: bool ``(R, H, W)``, one mask per ref.
        referents: int64 ``(E,)``: the row of ``targets`` that each expression refers to.
        image_id: The data set's own name of the image.
        ref_ids: For each expression, the id of its ref.
        sent_ids: For each expression, its own id.
        index: Position of the image in the split (after `limit`), starting at 0.
        proposals: The masks to choose from, if the data bring them along.
        error: Why the image cannot be used, or None. If it is given, ``image`` is all zeros, ``targets`` are
            what could be made of the annotations (zeros where they are at fault), and every expression counts
            as failed.
        subsets: For each subset that the data set has, bool ``(E,)``: which of the expressions are in it.
        raw: The expressions as they were typed, before the data set cleaned them; where that is not known, as
            they are.
    """

    image: Tensor
    expressions: list[str]
    targets: Tensor
    referents: Tensor
    image_id: int | str
    ref_ids: list[int | str]
    sent_ids: list[int | str]
    index: int
    proposals: Proposals | None = None
    error: str | None = None
    subsets: Mapping[str, Tensor] = field(default_factory=dict)
    raw: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let expressions stand for what was typed where that is not given."""
        if not self.raw:
            object.__setattr__(self, "raw", list(self.expressions))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Scene:
        """Return the scene with its tensors on ``device``; Lightning moves a batch by this method."""
        return dataclasses.replace(
            self,
            image=self.image.to(device, non_blocking=non_blocking),
            targets=self.targets.to(device, non_blocking=non_blocking),
            referents=self.referents.to(device, non_blocking=non_blocking),
            proposals=None
            if self.proposals is None
            else self.proposals.to(device, non_blocking=non_blocking),
            subsets={name: m.to(device, non_blocking=non_blocking) for name, m in self.subsets.items()},
        )

    def pin_memory(self) -> Scene:
        """Return the scene with its tensors in page-locked memory; a `DataLoader` pins by this method."""
        return dataclasses.replace(
            self,
            image=self.image.pin_memory(),
            targets=self.targets.pin_memory(),
            referents=self.referents.pin_memory(),
            proposals=None if self.proposals is None else self.proposals.pin_memory(),
            subsets={name: members.pin_memory() for name, members in self.subsets.items()},
        )
