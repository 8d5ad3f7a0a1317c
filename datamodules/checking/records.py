"""Checks of one image with its targets, as they are done in many processes at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from datamodules.images import image_path, read_image
from datamodules.records import ImageRecord, MaskRule, Referent
from gl_ris.errors import UserError

Finding = tuple[str, str]
"""Kind of problem and example."""


@dataclass(frozen=True)
class Depth:
    """How thoroughly images and masks are looked at.

    Attributes:
        images: ``none``, ``exists`` or ``decode``.
        folder: Folder of the images; None if it was not found.
        masks: Whether to draw the targets.
        tiny: A target with fewer pixels than this is told.
        rule: How polygons become a mask.
    """

    images: str = "exists"
    folder: Path | None = None
    masks: bool = True
    tiny: int = 10
    rule: MaskRule = "union"


def check_record(record: ImageRecord, split: str, depth: Depth) -> list[Finding]:
    """Check one image: its file, its targets, its sentences.

    Args:
        record: The image.
        split: Name of its split, for the examples.
        depth: How thoroughly.

    Returns:
        What is wrong, in pairs of kind and example.
    """
    where = f"{split}, image {record.image_id}"
    found = list(_image(record, where, depth))
    for referent in record.referents:
        place = f"{where}, ref {referent.ref_id}"
        found += [("sentence empty", f"{place}: {text!r}") for text in referent.sentences if not text.strip()]
        if depth.masks:
            found += _mask(record, referent, place, depth)
    return found


def stays_inside(file_name: str) -> bool:
    """Return whether the name of an image leads to a place inside of its folder."""
    try:
        image_path(Path("images"), file_name)
    except UserError:
        return False
    return True


def _image(record: ImageRecord, where: str, depth: Depth) -> Iterator[Finding]:
    if depth.images == "none":
        return
    if not stays_inside(record.file_name):
        yield "image name", f"{where}: {record.file_name!r:.200}"
        return
    if depth.folder is None:  # told once, for all
        return
    path = image_path(depth.folder, record.file_name)
    if not path.is_file():
        yield "image missing", f"{where}: {path}"
    elif depth.images == "decode":
        try:
            read_image(path, record.height, record.width)
        except ValueError as error:
            yield "image unreadable", f"{where}: {path}: {error}"


def _mask(record: ImageRecord, referent: Referent, place: str, depth: Depth) -> Iterator[Finding]:
    try:
        mask = referent.mask(record.height, record.width, depth.rule)
    except ValueError as error:
        yield "mask faulty", f"{place}: {error}"
        return
    area, size = int(mask.sum()), record.height * record.width
    if area == 0:
        yield "mask empty", place
    elif area == size:
        yield "mask full", place
    elif area < depth.tiny:
        yield "mask tiny", f"{place}: {area} pixels"
    if (beyond := _beyond(record, referent)) > 1:
        yield "mask leaves image", f"{place}: by {beyond:.1f} pixels"


def _beyond(record: ImageRecord, referent: Referent) -> float:
    """Return by how many pixels the farthest vertex lies outside of the image, 0 if none does."""
    points = [p.reshape(-1, 2) for s in referent.segmentations for p in s.opened().polygons if len(p)]
    if not points:
        return 0.0
    xy = np.concatenate(points)
    return float(max((-xy).max(), (xy - [record.width, record.height]).max(), 0.0))


def check_records(
    records: Sequence[ImageRecord], split: str, depth: Depth, workers: int, progress: bool
) -> Iterator[Finding]:
    """Check many images, in ``workers`` processes (0: in this one), in order."""
    bar = tqdm(total=len(records), desc=f"checking {split}", unit="image", disable=None if progress else True)
    chunks = [list(records[start : start + 64]) for start in range(0, len(records), 64)]
    with bar:
        for size, found in _mapped(chunks, split, depth, workers):
            bar.update(size)
            yield from found


def _mapped(
    chunks: Sequence[list[ImageRecord]], split: str, depth: Depth, workers: int
) -> Iterable[tuple[int, list[Finding]]]:
    if workers == 0 or len(chunks) < 2:
        return (_check_chunk(chunk, split, depth) for chunk in chunks)
    return _in_processes(chunks, split, depth, min(workers, len(chunks)))


def _in_processes(
    chunks: Sequence[list[ImageRecord]], split: str, depth: Depth, workers: int
) -> Iterator[tuple[int, list[Finding]]]:
    # A fresh process each: one forked from a process that has used torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        count = len(chunks)
        yield from pool.map(_check_chunk, chunks, [split] * count, [depth] * count)


def _check_chunk(records: list[ImageRecord], split: str, depth: Depth) -> tuple[int, list[Finding]]:
    return len(records), [finding for record in records for finding in check_record(record, split, depth)]
