"""Visual Genome's images as they are published: in two folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.records import ImageRecord

PARTS = ("VG_100K", "VG_100K_2")
"""The folders that the two published archives unpack to."""


def in_parts(records: Sequence[ImageRecord], folders: Iterable[Path]) -> list[ImageRecord]:
    """Return the records with the part that holds each image in front of its file name.

    Args:
        records: Their file names are without a folder.
        folders: Where the parts may be; the first that has both is taken. With none, and for images that are
            in neither part, file names stay as they are.
    """
    for folder in folders:
        if all((folder / part).is_dir() for part in PARTS):
            found = {name: f"{part}/{name}" for part in PARTS for name in os.listdir(folder / part)}
            return [
                replace(record, file_name=found.get(record.file_name, record.file_name)) for record in records
            ]
    return list(records)
