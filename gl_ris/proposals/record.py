"""The proposals of one image as bytes, and the name of that image."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.masks import decode_rle, encode_rle
from gl_ris.proposals.base import Proposals

_HEAD = struct.Struct("<III")


class ImageKey(NamedTuple):
    """What proposals belong to: an image of a data set, as it was when they were made.

    Attributes:
        image_id: The data set's own id.
        height: Rows of pixels.
        width: Columns of pixels.
        pixels: Checksum of the decoded pixels. They, and not the file, are what a generator sees: a file that
            is merely packed anew keeps its proposals, a decoder that gives other values does not.
    """

    image_id: int | str
    height: int
    width: int
    pixels: str

    @classmethod
    def of(cls, image_id: int | str, image: Tensor) -> ImageKey:
        """Name an image, uint8 ``(3, H, W)``; about a millisecond for 480 x 640."""
        height, width = image.shape[1:]
        pixels = hashlib.blake2b(image.cpu().contiguous().numpy().data, digest_size=8).hexdigest()
        return cls(image_id, height, width, pixels)


def pack(proposals: Proposals) -> bytes:
    """Write proposals as bytes: compressed COCO run lengths, boxes and scores as float32.

    In this order, all little-endian: count, height and width, the length of each mask's code, the boxes, the
    scores, the codes.
    """
    codes = [encode_rle(mask)["counts"].encode("ascii") for mask in proposals.masks]
    head = _HEAD.pack(len(codes), *proposals.masks.shape[1:])
    lengths = np.array([len(code) for code in codes], "<u4").tobytes()
    figures = [t.cpu().to(torch.float32).numpy().astype("<f4") for t in (proposals.boxes, proposals.scores)]
    return b"".join([head, lengths, *(values.tobytes() for values in figures), *codes])


def unpack(content: bytes) -> Proposals:
    """Read what `pack` wrote.

    Raises:
        UserError: It is damaged.
    """
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
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for row, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True)):
        masks[row] = decode_rle({"size": [height, width], "counts": content[end - length : end]})
    boxes, scores = np.split(figures, [4 * count])
    return Proposals(masks, torch.from_numpy(boxes).view(count, 4), torch.from_numpy(scores))
