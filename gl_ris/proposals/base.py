"""What mask proposals are, as tensors and as bytes, whose they are, and what makes them."""

from __future__ import annotations

import hashlib
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.masks import decode_rle, encode_rle, tight_boxes
from gl_ris.proposals.given import as_masks, as_tensor, read_list

_HEAD = struct.Struct("<III")
_MOST_PIXELS = 1 << 33  # of all masks of a record

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
        n = len(self.masks)
        if self.masks.ndim != 3 or self.masks.dtype != torch.bool:
            raise UserError(
                f"masks must be bool (N, H, W), got {self.masks.dtype} {tuple(self.masks.shape)}."
            )
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,):
            raise UserError(
                f"{n} masks need boxes ({n}, 4) and scores ({n},), "
                f"got {tuple(self.boxes.shape)} and {tuple(self.scores.shape)}."
            )

    def __len__(self) -> int:
        return len(self.masks)

    @classmethod
    def from_masks(cls, masks: Any, scores: Any = None) -> Proposals:
        """Make proposals of masks alone: boxes are the tight ones, scores ``(N,)`` 1 unless given.

        Args:
            masks: ``(N, H, W)``, a tensor, an array or a list of such ``(H, W)``: bool, or whole numbers of
                which 0 is outside and one other, 1 or 255, inside.
            scores: Numbers, ``N`` of them, higher is better.

        Raises:
            UserError: The masks are none, or of several sizes, or there are more or fewer scores.
        """
        found = as_masks(masks)
        if scores is None:
            return cls(found, tight_boxes(found), torch.ones(len(found), device=found.device))
        given = as_tensor(scores, "scores").to(torch.float32)
        return cls(found, tight_boxes(found), given.to(found.device))

    @classmethod
    def from_list(
        cls, entries: Sequence[Mapping[str, Any]], size: tuple[int, int] | None = None
    ) -> Proposals:
        """Make proposals of a list of masks with scores, such as SAM's ``generate()`` returns.

        Args:
            entries: Each with a ``segmentation`` (an array or tensor ``(H, W)``, or a COCO run-length code)
                and a ``score``, or SAM's ``predicted_iou``; what else it has is not used.
            size: ``(H, W)`` of the image; may be left out where the first entry says it.

        Returns:
            The masks in the order of the list, with tight boxes.

        Raises:
            UserError: An entry lacks one of them, is damaged, or of another size.
        """
        masks, scores = read_list(entries, size)
        return cls.from_masks(masks, scores)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Proposals:
        """Return the proposals on ``device``."""
        return Proposals(
            *(t.to(device, non_blocking=non_blocking) for t in (self.masks, self.boxes, self.scores))
        )

    def pin_memory(self) -> Proposals:
        """Return the proposals in page-locked memory."""
        return Proposals(self.masks.pin_memory(), self.boxes.pin_memory(), self.scores.pin_memory())


def pack(proposals: Proposals) -> bytes:
    """Write proposals as bytes: compressed COCO run lengths, boxes and scores as float32."""
    # In this order, all little-endian: count, height and width, the length of each mask's code, the boxes,
    # the scores, the codes.
    codes = [encode_rle(mask)["counts"].encode("ascii") for mask in proposals.masks]
    head = _HEAD.pack(len(codes), *proposals.masks.shape[1:])
    lengths = np.array([len(code) for code in codes], "<u4").tobytes()
    figures = [t.cpu().to(torch.float32).numpy().astype("<f4") for t in (proposals.boxes, proposals.scores)]
    return b"".join([head, lengths, *(values.tobytes() for values in figures), *codes])


def unpack(content: bytes) -> Proposals:
    """Read what `pack` wrote; a `UserError` if it is damaged."""
    try:
        count, height, width = _HEAD.unpack_from(content)
        lengths = np.frombuffer(content, "<u4", count, _HEAD.size)
        figures = np.frombuffer(content, "<f4", 5 * count, _HEAD.size + 4 * count).astype(np.float32)
    except (struct.error, ValueError) as error:
        raise UserError(f"Damaged record of proposals: {error}.") from error
    start = _HEAD.size + 24 * count
    ends = start + np.cumsum(lengths, dtype=np.int64)
    if len(content) != (ends[-1] if count else start):
        raise UserError("Damaged record of proposals: its length is not what it says.")
    spans = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    codes = [{"size": [height, width], "counts": content[first:last]} for first, last in spans]
    for code in codes[:1]:  # a size that is wrong may ask for any amount of memory
        decode_rle(code)
    if max(1, count) * height * width > _MOST_PIXELS:
        raise UserError(f"Damaged record of proposals: it speaks of {count} masks of {height} x {width}.")
    masks = torch.empty(count, height, width, dtype=torch.bool)
    for row, code in enumerate(codes):
        masks[row] = decode_rle(code)
    boxes, scores = np.split(figures, [4 * count])
    return Proposals(masks, torch.from_numpy(boxes).view(count, 4), torch.from_numpy(scores))


class ImageKey(NamedTuple):
    """What proposals belong to: an image of a data set, as it was when they were made."""

    image_id: int | str  # The data set's own id.
    height: int
    width: int
    # Checksum of the decoded pixels. They, and not the file, are what a generator sees: a file that is merely
    # packed anew keeps its proposals, a decoder that gives other values does not.
    pixels: str

    @classmethod
    def of(cls, image_id: int | str, image: Tensor) -> ImageKey:
        """Name an image, uint8 ``(3, H, W)``; about a millisecond for 480 x 640."""
        pixels = hashlib.blake2b(image.cpu().contiguous().numpy().data, digest_size=8).hexdigest()
        return cls(image_id, image.shape[1], image.shape[2], pixels)


class ProposalGenerator(ABC):
    """Makes mask proposals of an image."""

    name: str  # Short name that results carry, such as "felzenszwalb".
    league: League = "not stated"
    # Raised whenever the same settings, weights and image come to give other masks: what was stored before is
    # not read any more.
    version: int = 1
    stored: bool = True  # Whether it is worth keeping what it makes; not so for what only looks masks up.
    # Whether workers that read images may make proposals side by side, each with a copy of it in a forked
    # process; what may be on a GPU, or keeps all cores busy by itself, stays in the main process.
    in_workers: bool = False

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return every setting that bears on the masks, as JSON values; not where weights lie."""

    def weights_hash(self) -> str | None:
        """Return a hash of the weights that bear on the masks, or None if there are none."""
        return None

    def input_files(self) -> Mapping[str, Path]:
        """Return the files that the masks are made with, by name."""
        return {}

    @abstractmethod
    def __call__(self, image: Tensor) -> Proposals:
        """Propose masks.

        Args:
            image: uint8 ``(3, H, W)``, RGB, any size.

        Returns:
            Proposals at the image's own size and on its device, best first; there may be none at all.

        Raises:
            UserError: The generator lacks something, or its files are damaged.
        """

    def for_image(self, image_id: int | str, image: Tensor) -> Proposals:
        """Return the proposals of an image of a data set; what looks masks up finds them by its id."""
        return self(image)

    def check_sizes(self, sizes: Mapping[int | str, tuple[int, int]]) -> None:  # noqa: B027  as below
        """Raise a `UserError` if what it has was made for images of other sizes, ``(H, W)`` by image id."""

    def prepare(self, image_ids: Sequence[int | str]) -> None:  # noqa: B027  most need nothing
        """Make ready for the images of a split, before any of them; each process does, perhaps repeatedly.

        Raises:
            UserError: The generator cannot serve them: a file is missing, or is about other images.
        """
