"""A folder of one's own: images, and one CSV or JSONL file that says what is asked about them.

A row has ``file`` and ``expression``, and may have ``mask`` (a picture, a COCO run-length code or polygons),
``id`` and ``split``. Expressions with a mask are measured; of the others there are predictions alone.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from datamodules.base import GROUND_TRUTH, RISDataModule
from datamodules.files import clean_text
from datamodules.images import find_image_folder, image_path, read_image, size_of
from datamodules.own_rows import COLUMNS, SUFFIXES, BadRow, Row, read_rows
from datamodules.records import ImageRecord, Key, Referent, Segmentation
from datamodules.scene import ImageReader
from gl_ris.errors import UserError, unknown_name
from gl_ris.pictures import is_file

ALL = "all"
PARTITION = "own"
_NAMED = 10  # so many bad rows are named

log = logging.getLogger(__name__)


class Folder(RISDataModule):
    """Images and expressions of one's own, with masks or without.

    The root holds the images, in folders below it if wanted, and one CSV or JSONL file with the columns
    ``file`` (an image, from the root on) and ``expression``; optionally ``mask`` (a PNG from the root on, in
    which what is not black is the object; a COCO run-length code; or polygons), ``id`` and ``split``. A row
    without a mask has a prediction and no figure. A bad row stops the command, which names it.

    Args:
        root: The folder.
        annotations: Its CSV or JSONL file; None takes the only one there is.
        split: ``all`` rows, or those whose column ``split`` says so.
        upright: Turn images as their EXIF orientation says, as viewers do; masks are of what is seen then.
            false takes the pixels as they are stored, for masks of programs that do not look at EXIF.
        image_root: Folder of the images where that is not the root.
        allow_missing_images: Count the expressions of images that are missing or cannot be opened as failed.
        options: Those of `RISDataModule`.
    """

    partition = PARTITION

    def __init__(
        self,
        root: str | Path = "data/mine",
        annotations: str | Path | None = None,
        split: str = ALL,
        upright: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(split=split, rule="union", **options)
        if self.proposals == GROUND_TRUTH:
            raise UserError(
                "proposals=ground_truth needs every instance of an image, but a folder of one's own has only "
                "those that are asked about; choose other proposals, e.g. proposals=sam2."
            )
        self.root, self.upright = Path(root).expanduser(), upright
        self.annotations = None if annotations is None else Path(annotations).expanduser()
        self.dataset_name = self.root.resolve().name

    def require_files(self) -> None:
        """Check that there is one file of annotations; `UserError` if not."""
        find_annotations(self.root, self.annotations)

    def input_files(self) -> dict[str, Path]:
        """Return the file of rows."""
        path = find_annotations(self.root, self.annotations)
        return {path.name: path}

    def image_folders(self) -> list[Path]:
        """Return the root."""
        return [self.root]

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split, images in the order of their first rows; `UserError` that names the bad rows."""
        path = find_annotations(self.root, self.annotations)
        rows, bad = rows_of(path, self.split)
        images = self.root if self.image_root is None else self.image_root
        count = len(rows) + len(bad)
        records, more = records_of(rows, images, self.root, self.upright, self.allow_missing_images)
        if bad := sorted([*bad, *more]):
            named = "; ".join(f"line {line}: {reason}" for line, reason in bad[:_NAMED])
            rest = f"; and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
            raise UserError(f"'{path}': {len(bad):,} of {count:,} rows cannot be used: {named}{rest}.")
        return records

    def image_reader(self) -> ImageReader:
        """Find the images, and return what reads them; `UserError` if there is none."""
        folder = self.root if self.image_root is None else self.image_root
        names = [record.file_name for record in self.records]
        find_image_folder(folder, [], names)
        if missing := [name for name in names if not is_file(image_path(folder, name))]:
            what = f"{len(missing)} of {len(names)} images are missing (the first: {missing[0]:.200})"
            rank_zero_only(log.warning)("%s; their expressions count as failed.", what)
        return functools.partial(_read, folder, self.upright)


def _read(folder: Path, upright: bool, record: ImageRecord) -> Tensor:
    return read_image(image_path(folder, record.file_name), record.height, record.width, upright)


def find_annotations(root: Path, named: Path | None = None) -> Path:
    """Return the file of annotations in a folder; `UserError` if there is none, or several and none named."""
    if not root.is_dir():
        raise UserError(f"No folder '{root}': give yours by data.root=FOLDER.")
    if named is not None:
        found = next((path for path in (root / named, named) if is_file(path)), None)
        if found is None or found.suffix.lower() not in SUFFIXES:
            raise UserError(f"No CSV or JSONL file '{named}' in '{root}'; give one by data.annotations=FILE.")
        return found
    if not (files := annotation_files(root)):
        raise UserError(f"'{root}' holds no CSV or JSONL file with the columns {', '.join(COLUMNS[:2])}.")
    if len(files) > 1:
        names = ", ".join(path.name for path in files[:5])
        raise UserError(f"'{root}' holds several files ({names}); name one by data.annotations=FILE.")
    return files[0]


def annotation_files(root: Path) -> list[Path]:
    """Return the CSV and JSONL files of a folder, by name."""
    files = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in files if path.suffix.lower() in SUFFIXES and is_file(path))


def rows_of(path: Path, split: str) -> tuple[list[Row], list[BadRow]]:
    """Read the rows of a split, and what is wrong with others; `UserError` for an unknown split."""
    everything, bad = read_rows(path)
    rows = [row for row in everything if split in (ALL, row.split)]
    if not rows and everything:
        there = {row.split for row in everything if row.split}
        raise unknown_name(f"split of '{path}'", split, {ALL, *there})
    return rows, bad


def records_of(
    rows: Sequence[Row], images: Path, masks: Path, upright: bool, allow_missing: bool
) -> tuple[list[ImageRecord], list[BadRow]]:
    """Turn rows into a record per image, and say what is wrong with those that are bad."""
    records: dict[str, ImageRecord] = {}
    bad: list[BadRow] = []
    lines: dict[Key, int] = {}
    sizes = functools.cache(functools.partial(_size, images, upright, allow_missing))
    for row in rows:
        try:
            if (first := lines.setdefault(row.id, row.line)) != row.line:
                raise ValueError(f"id {row.id!r} is that of line {first}, too")
            name, size = sizes(row.file)
            mask = None if row.mask is None else outline(row.mask, masks, size)
            # of an image that is missing, the mask may tell the size
            height, width = size or (mask.rle["size"] if mask is not None and mask.rle else (1, 1))
            record = records.setdefault(name, ImageRecord(name, name, height, width, ()))
            target = (mask,) if mask else ()
            referent = Referent(row.id, target, (row.expression,), (row.id,), targeted=bool(mask))
            records[name] = dataclasses.replace(record, referents=(*record.referents, referent))
        except ValueError as reason:
            bad.append((row.line, str(reason).rstrip(".")))
    return list(records.values()), bad


def _size(folder: Path, upright: bool, allow_missing: bool, file: str) -> tuple[str, tuple[int, int] | None]:
    """Return an image's name from the folder on, and its height and width; ValueError if it is bad."""
    path = image_path(folder, file)
    name = clean_text(path.relative_to(Path(folder).absolute()).as_posix())
    try:
        return name, size_of(path, upright)
    except ValueError as reason:
        if allow_missing:
            return name, None
        raise ValueError(f"'{file:.200}': {reason}") from reason


def outline(value: Any, folder: Path, size: tuple[int, int] | None) -> Segmentation:
    """Read what a row has for a mask; ValueError if it is none, or not of the ``size`` of its image."""
    if isinstance(value, str) and value[:1] not in ("{", "["):
        path = image_path(folder, value)
        height, width = size_of(path, what="mask")
        if size not in (None, (height, width)):
            _refuse((height, width), size)
        return Segmentation(file=path)
    try:
        given = msgspec.json.decode(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise ValueError(f"mask is no JSON: {error}") from error
    flat = isinstance(given, list) and given and all(isinstance(n, int | float) for n in given)
    found = Segmentation.from_json([given] if flat else given)
    if found.fault is not None or not (found.rle or found.polygons):
        raise ValueError(found.fault or "mask has no polygon")
    if found.rle is not None:
        own = found.rle["size"]
        if not isinstance(own, list) or len(own) != 2 or not all(type(n) is int and n > 0 for n in own):
            raise ValueError(f"mask has size {own!r:.60}, which should be [height, width]")
        if size not in (None, tuple(own)):
            _refuse(tuple(own), size)
    return found


def _refuse(mask: tuple[int, ...], image: tuple[int, int] | None) -> None:
    assert image is not None
    turned = ", upright" if mask == image[::-1] else ""
    hint = "; data.upright=false takes images as they are stored" if turned else ""
    raise ValueError(f"mask is {mask[1]} x {mask[0]}, its image {image[1]} x {image[0]}{turned}{hint}")
