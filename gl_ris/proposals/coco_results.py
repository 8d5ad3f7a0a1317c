"""Masks that somebody else made, as COCO results: a JSON list of image_id, segmentation and score."""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import numpy as np
import torch
from torch import Tensor

from gl_ris.errors import UserError, check_ranges, unknown_name
from gl_ris.files import atomic_file, decode, to_json
from gl_ris.hashes import sha256_of
from gl_ris.masks import encode_rle
from gl_ris.proposals.base import League, ProposalGenerator, Proposals
from gl_ris.proposals.given import Size, read_mask, size_of

ImageId = int | str
_LARGEST_SCORE = float(np.finfo(np.float32).max)
_Score = Annotated[float, msgspec.Meta(ge=-_LARGEST_SCORE, le=_LARGEST_SCORE)]

_ABSENT = float("nan")

log = logging.getLogger(__name__)


class Entry(msgspec.Struct, gc=False):
    """A mask in the file; its segmentation stays unread until its image comes, a view of the mapped file."""

    image_id: int | str | float  # Some programs write whole ids with a decimal point.
    segmentation: msgspec.Raw
    score: _Score = _ABSENT  # NaN, which no JSON holds, where it is not there.
    predicted_iou: _Score = _ABSENT  # SAM's name for it; `score` has its value once the file is read.


class _Sized(msgspec.Struct, gc=False):
    size: tuple[int, int]


class COCOResults(ProposalGenerator):
    """Serves the masks in a COCO results file, by image id.

    The file is a JSON list of ``{"image_id": ..., "segmentation": ..., "score": ...}``, in any order, as
    most frameworks write it: image ids are the data set's own (of RefCOCO, COCO's), a segmentation is a
    run-length encoding (compressed or not), a list of polygons, or the mask itself as rows of true and false,
    of the size of the image. In place of ``score`` there may be SAM's ``predicted_iou``. A ``bbox`` is not
    used (boxes are those of the masks), nor is a ``category_id``.

    Each process reads the file through on first use, which takes a second or so for 300,000 masks, and
    decodes the masks of the image in hand. An image without an entry has no proposals. One with a damaged
    entry counts as failed; a mask that was made for another size ends the run, before it starts.

    Args:
        path: The file.
        min_score: Masks with a lower score are left out; null for none.
        max_count: Most proposals of an image, those of the highest score; null for all.
        league: What their maker has learnt from: "unsupervised", "class-agnostic supervised",
            "COCO-supervised" or "ground truth".

    Raises:
        UserError: There is no such file, or a setting is out of its range.
    """

    name = "coco_results"
    stored = False
    in_workers = True

    def __init__(
        self,
        path: str,
        min_score: float | None = None,
        max_count: int | None = None,
        league: League = "not stated",
    ) -> None:
        self.path = Path(path).expanduser()
        self.min_score, self.max_count, self.league = min_score, max_count, league
        self._entries: dict[ImageId, list[Entry]] | None = None
        self._stamp, self._warned = (0, 0), False
        if not self.path.is_file():
            raise UserError(
                f"There is no file '{path}'; COCOResults needs the path of a JSON list of COCO results."
            )
        check_ranges("COCOResults: ", vars(self), {"at least 1, or null": "max_count"})
        if min_score is not None and min_score != min_score:
            raise UserError(f"COCOResults: min_score is {min_score}, it must be a number, or null.")
        if league not in get_args(League):
            raise unknown_name("league", league, get_args(League))

    def settings(self) -> dict[str, Any]:
        """Return every setting that bears on the masks; the file by its hash, wherever it lies."""
        limits = {"min_score": self.min_score, "max_count": self.max_count}
        return {"file_sha256": sha256_of(self.path), **limits}

    def input_files(self) -> dict[str, Path]:
        """Return the file."""
        return {self.path.name: self.path}

    def __getstate__(self) -> dict[str, Any]:
        # Views of a mapped file are not to be sent to other processes, which map it themselves.
        return {**vars(self), "_entries": None}

    @property
    def entries(self) -> dict[ImageId, list[Entry]]:
        """The entries of each image, in the order of the file; a `UserError` if it is damaged or changed."""
        status = self.path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        if self._entries is None:
            self._entries, self._stamp = _by_image(self.path), stamp
        # Read on, a file that was overwritten or cut off where it lies could end the process.
        if stamp != self._stamp:
            raise UserError(f"{self.path} has changed since it was read; start again.")
        return self._entries

    def prepare(self, image_ids: Sequence[ImageId]) -> None:
        """Read the file, and say how many images have no entry; a UserError if none has one."""
        known = self.entries
        unknown = [image_id for image_id in image_ids if image_id not in known]
        if image_ids and len(unknown) == len(image_ids):
            theirs, ours = (", ".join(map(repr, list(ids)[:3])) for ids in (known, unknown))
            raise UserError(
                f"{self.path} has no entry for any of the {len(image_ids):,} images: its image ids are "
                f"{theirs or 'none at all'}, those of the data set {ours}."
            )
        first = not self._warned and int(os.environ.get("LOCAL_RANK", "0")) == 0
        self._warned = True
        if unknown and first:
            log.warning(
                f"{self.path} has no entry for {len(unknown):,} of the {len(image_ids):,} images (the first: "
                f"{unknown[0]}); they have no proposals."
            )

    def __call__(self, image: Tensor) -> Proposals:
        """Refuse with a UserError: nobody knows which image this is."""
        raise UserError("COCOResults finds masks by the id of an image: call for_image(image_id, image).")

    def check_sizes(self, sizes: Mapping[ImageId, Size]) -> None:
        """Raise a UserError if a mask says another size than that of its image, ``(H, W)`` by image id."""
        wrong = [
            (image_id, entry, own)
            for image_id, size in sizes.items()
            for entry in self._served(image_id)
            if (own := said_size(entry.segmentation)) is not None and own != size
        ]
        if wrong:
            image_id, entry, own = wrong[0]
            raise self._other_size(image_id, entry, own, sizes[image_id], len({row[0] for row in wrong}))

    def for_image(self, image_id: ImageId, image: Tensor) -> Proposals:
        """Return the proposals of an image, which matters for its size and device only.

        Masks without a pixel are left out, equal scores keep the order of the file, and an unknown image has
        none. A ValueError if a mask is damaged, a UserError if it is of another size than the image.
        """
        entries, (height, width) = self._served(image_id), image.shape[1:]
        masks = torch.zeros(len(entries), height, width, dtype=torch.bool)
        for mask, entry in zip(masks, entries, strict=True):
            mask.copy_(self._mask(image_id, entry, height, width))
        scores = torch.tensor([entry.score for entry in entries], dtype=torch.float64)
        kept = masks.any(dim=2).any(dim=1)
        return Proposals.from_masks(masks[kept].to(image.device), scores[kept])

    def _served(self, image_id: ImageId) -> list[Entry]:
        """Return the entries of an image that stay, best first."""
        entries = sorted(self.entries.get(image_id, ()), key=lambda entry: -entry.score)
        if self.min_score is not None:
            entries = [entry for entry in entries if entry.score >= self.min_score]
        return entries[: self.max_count]

    def _mask(self, image_id: ImageId, entry: Entry, height: int, width: int) -> Tensor:
        own = said_size(entry.segmentation)
        if own is not None and own != (height, width):
            raise self._other_size(image_id, entry, own, (height, width), 1)
        try:
            return read_mask(msgspec.json.decode(entry.segmentation), height, width)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            # In general terms, so that failures of one kind are counted as one.
            raise ValueError(f"a mask in {self.path.name} is damaged") from error

    def _other_size(self, image_id: ImageId, entry: Entry, own: Size, size: Size, images: int) -> UserError:
        # Looked up where it is told alone: entries do not know their place.
        every = decode(self.path, list[Entry])
        place = next(
            number
            for number, other in enumerate(every, start=1)
            if other.image_id == image_id and bytes(other.segmentation) == bytes(entry.segmentation)
        )
        more = f", and so it is for {images:,} images" if images > 1 else ""
        return UserError(
            f"{self.path}: entry {place:,} is a mask of {own[0]} x {own[1]} pixels (height x width), but its "
            f"image {image_id} is of {size[0]} x {size[1]}{more}. Masks must be of the size of the original "
            "image; make or resize them anew."
        )


def said_size(written: msgspec.Raw) -> Size | None:
    """Return the size, ``(H, W)``, that a run-length code or a written-out mask says; None of all else."""
    start = bytes(written)[:16]
    try:
        if start[:1] == b"{":
            return msgspec.json.decode(written, type=_Sized).size
        return size_of(msgspec.json.decode(written)) if b"true" in start or b"false" in start else None
    except (ValueError, RecursionError):
        return None  # damage is the matter of its image


def _by_image(path: Path) -> dict[ImageId, list[Entry]]:
    found: defaultdict[ImageId, list[Entry]] = defaultdict(list)
    fix = (
        "It must be a JSON list of objects with image_id, segmentation and a finite score, or predicted_iou "
        "(SAM's generate() knows no image_id: add it to each entry)."
    )
    for number, entry in enumerate(decode(path, list[Entry], "list of COCO results", fix), start=1):
        image_id = entry.image_id
        if isinstance(image_id, float):
            if not image_id.is_integer():
                raise UserError(f"{path}: entry {number:,} has image_id {image_id}, no whole number. {fix}")
            image_id = int(image_id)
        if math.isnan(entry.score):
            entry.score = entry.predicted_iou
        if math.isnan(entry.score):
            raise UserError(f"{path}: entry {number:,} has neither a score nor a predicted_iou. {fix}")
        found[image_id].append(entry)
    return dict(found)


def write_coco_results(path: Path | str, found: Iterable[tuple[ImageId, Proposals]]) -> int:
    """Write proposals as a COCO results file, image by image as they come; it appears when it is complete.

    An image without proposals leaves no trace in the file, and boxes are lost: readers find the tight ones. A
    file of that name is replaced. Returns how many masks were written; a `UserError`, and no file, if a score
    is not finite.
    """
    count = 0
    with atomic_file(path) as file:
        file.write(b"[")
        for image_id, proposals in found:
            for mask, score in zip(proposals.masks, proposals.scores, strict=True):
                file.write((b",\n" if count else b"\n") + to_json(_entry(image_id, mask, score)))
                count += 1
        file.write(b"\n]\n")
    return count


def _entry(image_id: ImageId, mask: Tensor, score: Tensor) -> dict[str, Any]:
    if not score.isfinite():
        raise UserError(f"The score of a mask of image {image_id} is {score.item()}, which JSON cannot hold.")
    # No "bbox": with one, pycocotools takes results for boxes, and the area of the box for that of the mask.
    return {
        "image_id": image_id,
        "category_id": 1,
        "segmentation": encode_rle(mask),
        # the shortest decimal that is read back as the same float32
        "score": float(str(np.float32(score.item()))),
    }
