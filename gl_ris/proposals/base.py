"""What a mask proposal is, and what makes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gl_ris.masks import tight_boxes

League = Literal["unsupervised", "class-agnostic supervised", "COCO-supervised", "ground truth", "not stated"]
"""What a generator has learnt from: only those of one league are to be compared."""


@dataclass(frozen=True)
class Proposals:
    """The masks of one image that a method may choose from.

    Attributes:
        masks: bool ``(N, H, W)`` at the image's own size; ``N`` may be 0.
        boxes: float32 ``(N, 4)``, XYXY in pixels, the right and lower edge exclusive.
        scores: float32 ``(N,)``; what they mean is the generator's affair, higher is better.
    """

    masks: Tensor
    boxes: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        """Check that the three belong together."""
        n = len(self.masks)
        if self.masks.ndim != 3 or self.masks.dtype != torch.bool:
            raise ValueError(
                f"masks must be bool (N, H, W), got {self.masks.dtype} {tuple(self.masks.shape)}."
            )
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,):
            raise ValueError(
                f"{n} masks need boxes ({n}, 4) and scores ({n},), "
                f"got {tuple(self.boxes.shape)} and {tuple(self.scores.shape)}."
            )

    def __len__(self) -> int:
        return len(self.masks)

    @classmethod
    def from_masks(cls, masks: Tensor, scores: Tensor | None = None) -> Proposals:
        """Make proposals of masks alone: boxes are the tight ones, scores 1 unless given.

        Args:
            masks: bool ``(N, H, W)``.
            scores: ``(N,)`` of any float type.
        """
        scores = torch.ones(len(masks)) if scores is None else scores.to(torch.float32)
        return cls(masks, tight_boxes(masks), scores.to(masks.device))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Proposals:
        """Return the proposals on ``device``."""
        return Proposals(
            *(t.to(device, non_blocking=non_blocking) for t in (self.masks, self.boxes, self.scores))
        )

    def pin_memory(self) -> Proposals:
        """Return the proposals in page-locked memory."""
        return Proposals(self.masks.pin_memory(), self.boxes.pin_memory(), self.scores.pin_memory())


class ProposalGenerator(ABC):
    """Makes mask proposals of an image.

    Attributes:
        name: Short name that results carry, e.g. ``"felzenszwalb"``.
        league: What it has learnt from.
        version: Raised whenever the same settings, weights and image come to give other masks: what was
            stored before is not read any more.
        stored: Whether it is worth keeping what it makes; not so for what only looks masks up.
    """

    name: str
    league: League = "not stated"
    version: int = 1
    stored: bool = True

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return every setting that bears on the masks, as JSON values; not where weights lie."""

    def weights_hash(self) -> str | None:
        """Return a hash of the weights that bear on the masks, or None if there are none.

        `gl_ris.files.file_hash` makes it of a file, so that nothing need be loaded to know what is stored.
        """
        return None

    @abstractmethod
    def __call__(self, image: Tensor) -> Proposals:
        """Return the proposals of ``image``, uint8 ``(3, H, W)`` RGB, best first; there may be none."""

    def for_image(self, image_id: int | str, image: Tensor) -> Proposals:
        """Return the proposals of an image of a data set; what looks masks up finds them by its id.

        Args:
            image_id: The data set's own name of the image.
            image: As in a call, which is all that a generator needs unless it overrides this.
        """
        return self(image)

    def prepare(self, image_ids: Sequence[int | str]) -> None:  # noqa: B027  most need nothing
        """Make ready for the images of a split, before any of them; each process does, perhaps repeatedly.

        Args:
            image_ids: Their ids, in order.

        Raises:
            UserError: If the generator cannot serve them: a file is missing, or is about other images.
        """
