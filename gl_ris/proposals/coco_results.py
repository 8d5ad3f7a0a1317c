"""Masks that somebody else made, as COCO results: a JSON list of image_id, segmentation and score."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from gl_ris.errors import UserError, unknown_name
from gl_ris.files import atomic_file, to_json
from gl_ris.masks import decode_rle, encode_rle, polygons_to_mask
from gl_ris.proposals.base import League, ProposalGenerator, Proposals
from gl_ris.proposals.coco_index import COCOIndex, ImageId, load_index

log = logging.getLogger(__name__)


class COCOResults(ProposalGenerator):
    """Serves the masks in a COCO results file, by image id.

    The file is a JSON list of ``{"image_id": ..., "segmentation": ..., "score": ...}``, in any order, as
    most frameworks write it: image ids are the data set's own (of RefCOCO, COCO's), a segmentation is a
    run-length encoding (compressed or not) or a list of polygons, of the size of the image. A ``bbox`` is not
    used (boxes are those of the masks), nor is a ``category_id``.

    On first use the file is read through once, and where each image's entries are is kept beside it, in
    ``FILE.index.npz``; from then on only the entries of the image in hand are read. An image without an entry
    has no proposals. One with an entry that is damaged, or made for another size, counts as failed.

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

    def __init__(
        self,
        path: str,
        min_score: float | None = None,
        max_count: int | None = None,
        league: League = "not stated",
    ) -> None:
        self.path = Path(path).expanduser()
        self.min_score = min_score
        self.max_count = max_count
        self.league = league
        self._index: COCOIndex | None = None
        self._told = False
        if not self.path.is_file():
            raise UserError(
                f"There is no file '{path}'; COCOResults needs the path of a JSON list of COCO results."
            )
        if max_count is not None and max_count < 1:
            raise UserError(f"COCOResults: max_count is {max_count}, it must be at least 1, or null.")
        if min_score is not None and math.isnan(min_score):
            raise UserError(f"COCOResults: min_score is {min_score}, it must be a number, or null.")
        if league not in get_args(League):
            raise unknown_name("league", league, get_args(League))

    @property
    def index(self) -> COCOIndex:
        """What is where in the file; it is read through if that is not known yet.

        Raises:
            UserError: The file is no list of COCO results, damaged, cut off, or an entry lacks what it needs.
        """
        if self._index is None:
            self._index = load_index(self.path)
        return self._index

    def settings(self) -> dict[str, Any]:
        """Return every setting that bears on the masks; the file by its hash, wherever it lies."""
        return {"file_sha256": self.index.sha256, "min_score": self.min_score, "max_count": self.max_count}

    def prepare(self, image_ids: Sequence[ImageId]) -> None:
        """Read the file through if need be, and tell how many of the images have no entry.

        Raises:
            UserError: None of them has, or the file is damaged.
        """
        known = self.index.ranks
        unknown = [image_id for image_id in image_ids if image_id not in known]
        if image_ids and len(unknown) == len(image_ids):
            theirs, ours = (", ".join(map(repr, list(ids)[:3])) for ids in (known, unknown))
            raise UserError(
                f"{self.path} has no entry for any of the {len(image_ids):,} images: its image ids are "
                f"{theirs or 'none at all'}, those of the data set {ours}."
            )
        told, self._told = self._told, True
        if unknown and not told and int(os.environ.get("LOCAL_RANK", "0")) == 0:
            log.warning(
                "%s has no entry for %s of the %s images (the first: %s); they have no proposals.",
                self.path,
                f"{len(unknown):,}",
                f"{len(image_ids):,}",
                unknown[0],
            )

    def __call__(self, image: Tensor) -> Proposals:
        """Refuse: nobody knows which image this is.

        Raises:
            UserError: Always.
        """
        raise UserError("COCOResults finds masks by the id of an image: call for_image(image_id, image).")

    def for_image(self, image_id: ImageId, image: Tensor) -> Proposals:
        """Return the proposals of an image.

        Args:
            image_id: As the file has it.
            image: uint8 ``(3, H, W)``; only its size and device matter.

        Returns:
            Proposals on the device of the image, best first, equal scores in the order of the file; masks
            without a pixel are left out. There are none for an unknown image.

        Raises:
            ValueError: A mask is damaged, or of another size than the image.
            UserError: The file is damaged, or has changed meanwhile.
        """
        entries = sorted(self.index.read(image_id), key=lambda entry: -entry["score"])
        if self.min_score is not None:
            entries = [entry for entry in entries if entry["score"] >= self.min_score]
        height, width = image.shape[1:]
        masks = torch.zeros(len(entries[: self.max_count]), height, width, dtype=torch.bool)
        for mask, entry in zip(masks, entries, strict=False):
            mask.copy_(self._mask(entry["segmentation"], height, width))
        scores = torch.tensor([entry["score"] for entry in entries[: self.max_count]], dtype=torch.float64)
        kept = masks.any(dim=2).any(dim=1)
        return Proposals.from_masks(masks[kept].to(image.device), scores[kept])

    def _mask(self, segmentation: Any, height: int, width: int) -> Tensor:
        try:
            if isinstance(segmentation, dict):
                return decode_rle(segmentation, size=(height, width))
            limit = 10 * max(height, width)
            if any(abs(value) > limit for polygon in segmentation for value in polygon):
                # the rasteriser walks along every pixel of an edge
                raise ValueError(f"a polygon leaves the image of {width} x {height} by far")
            return polygons_to_mask(segmentation, height, width)
        except (ValueError, TypeError, OverflowError) as error:
            # told in general terms, so that failures of one kind are counted as one
            size = segmentation.get("size") if isinstance(segmentation, dict) else None
            wrong_size = isinstance(size, list) and size != [height, width]
            what = "of another size than the image" if wrong_size else "damaged"
            raise ValueError(f"a mask in {self.path.name} is {what}") from error


def write_coco_results(path: Path | str, found: Iterable[tuple[ImageId, Proposals]]) -> int:
    """Write proposals as a COCO results file, image by image as they come; it appears when it is complete.

    There is no ``bbox``: with one, pycocotools takes the results for boxes, and the area of the box for that
    of the mask. Readers find the tight boxes, so boxes of another kind are lost.

    Args:
        path: The file; one of that name is replaced.
        found: Image ids and the proposals of each. An image without any leaves no trace in the file.

    Returns:
        How many masks were written.

    Raises:
        UserError: A score is not finite; the file is not written then.
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
    return {
        "image_id": image_id,
        "category_id": 1,
        "segmentation": encode_rle(mask),
        # the shortest decimal that is read back as the same float32
        "score": float(str(np.float32(score.item()))),
    }
