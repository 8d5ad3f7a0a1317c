"""Which entries of a COCO results file belong to which image: found once, kept beside the file."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gl_ris.errors import UserError
from gl_ris.files import atomic_file
from gl_ris.proposals.json_entries import LARGEST_ENTRY, EntryReader, parse_entry

ImageId = int | str
_FORMAT = 1
_LARGEST_SCORE = float(np.finfo(np.float32).max)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class COCOIndex:
    """Where the entries of each image are in a file.

    Attributes:
        path: The file.
        sha256: Of the file.
        ranks: For each image id, its number, counted from 0.
        starts: int64 ``(images + 1,)``: entries ``starts[n]`` to ``starts[n + 1]`` are of image ``n``.
        positions: int64 ``(entries,)``: first byte of each entry, image by image, in the order of the file.
        lengths: int64 ``(entries,)``: bytes of each entry.
    """

    path: Path
    sha256: str
    ranks: dict[ImageId, int]
    starts: np.ndarray
    positions: np.ndarray
    lengths: np.ndarray

    def read(self, image_id: ImageId) -> list[dict[str, Any]]:
        """Return the entries of an image, in the order of the file; none for an unknown image.

        Raises:
            UserError: The file is not any more what was indexed.
        """
        rank = self.ranks.get(image_id)
        if rank is None:
            return []
        first, last = self.starts[rank], self.starts[rank + 1]
        spans = zip(self.positions[first:last].tolist(), self.lengths[first:last].tolist(), strict=True)
        with self.path.open("rb") as file:
            return [self._entry(file, image_id, *span) for span in spans]

    def _entry(self, file: Any, image_id: ImageId, position: int, length: int) -> dict[str, Any]:
        file.seek(position)
        try:
            entry = parse_entry(file.read(min(length, LARGEST_ENTRY)))
            if image_of(entry) == image_id:
                return entry
        except ValueError:
            pass
        raise UserError(
            f"{self.path} has changed since it was indexed; start again, and it will be indexed anew."
        )


def image_of(entry: dict[str, Any]) -> ImageId:
    """Return the image id of an entry.

    Raises:
        ValueError: There is none, or it is neither a whole number nor text.
    """
    if not isinstance(entry, dict) or "image_id" not in entry:
        raise ValueError("no image_id")
    found = entry["image_id"]
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise ValueError(f"image_id {found!r:.40}, which is neither a whole number nor text")
    return found


def check_entry(entry: dict[str, Any]) -> None:
    """Check that an entry has a segmentation and a score that can be compared.

    Raises:
        ValueError: It has not.
    """
    if not isinstance(entry.get("segmentation"), dict | list):
        raise ValueError("no segmentation (a run-length encoding or polygons)")
    score = entry.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise ValueError("no score" if score is None else f"score {score!r:.40}, which is no number")
    if not abs(score) <= _LARGEST_SCORE:
        raise ValueError(f"score {score!r:.40}, which is not finite")


def load_index(path: Path) -> COCOIndex:
    """Return the index of a results file; it is made, with a bar, unless the one beside the file fits it.

    Where nothing can be written beside the file, each process that needs the index makes it.

    Raises:
        UserError: The file is no list of COCO results, damaged, cut off, or an entry lacks what it needs.
    """
    status = path.stat()
    stamp = [_FORMAT, status.st_size, status.st_mtime_ns]
    kept = path.with_name(f"{path.name}.index.npz")
    index = _kept(kept, path, stamp)
    if index is None:
        index = _made(path, status.st_size)
        _keep(kept, index, stamp)
    return index


def _made(path: Path, size: int) -> COCOIndex:
    from tqdm import tqdm

    quiet = int(os.environ.get("LOCAL_RANK", "0")) > 0
    ranks: dict[ImageId, int] = {}
    images, positions, lengths = array("q"), array("q"), array("q")
    bar = tqdm(total=size, desc=f"Indexing {path.name}", unit="B", unit_scale=True, delay=1, disable=quiet)
    with bar:
        reader = EntryReader(path, bar.update)
        for position, length, entry in reader:
            try:
                image_id = image_of(entry)
                check_entry(entry)
            except ValueError as reason:
                raise UserError(
                    f"{path}: entry {reader.count + 1:,} (at byte {position:,}) has {reason}."
                ) from reason
            images.append(ranks.setdefault(image_id, len(ranks)))
            positions.append(position)
            lengths.append(length)
    codes = np.frombuffer(images, np.int64) if images else np.zeros(0, np.int64)
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.bincount(codes, minlength=len(ranks)).cumsum()]).astype(np.int64)
    found = (np.array(column, np.int64)[order] for column in (positions, lengths))
    return COCOIndex(path, reader.sha256, ranks, starts, *found)


def _kept(kept: Path, path: Path, stamp: list[int]) -> COCOIndex | None:
    """Read the index beside a file; None if there is none, or one of another file."""
    try:
        with np.load(kept, allow_pickle=False) as stored:
            head = json.loads(bytes(stored["head"]))
            starts, positions, lengths = (stored[name] for name in ("starts", "positions", "lengths"))
        ranks = {image_id: rank for rank, image_id in enumerate(head["images"])}
        whole = len(starts) == len(ranks) + 1 and starts[-1] == len(positions) == len(lengths)
        if not whole or head["stamp"] != stamp:
            return None
        return COCOIndex(path, head["sha256"], ranks, starts, positions, lengths)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile):
        return None


def _keep(kept: Path, index: COCOIndex, stamp: list[int]) -> None:
    head = {"stamp": stamp, "sha256": index.sha256, "images": list(index.ranks)}
    packed = np.frombuffer(json.dumps(head).encode(), np.uint8)
    try:
        with atomic_file(kept) as file:
            np.savez(file, head=packed, starts=index.starts, positions=index.positions, lengths=index.lengths)
    except OSError as error:
        log.warning("The index of %s cannot be kept (%s); it will be made anew.", index.path, error)
