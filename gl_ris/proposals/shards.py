"""Append-only files that survive being killed: what `gl_ris.proposals.store` is made of.

A shard is a pair of files that exactly one process ever writes: ``NAME.masks`` holds records one after the
other, ``NAME.index`` a line for each, written after its record. A line begins with its own checksum and holds
that of its record, so what was cut off by a kill, or lost with the power, is recognised and passed over.
Whoever goes on with the work starts a new shard: nobody ever repairs or extends the files of others.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from gl_ris.files import to_json
from gl_ris.proposals.record import ImageKey

INDEX, RECORDS = ".index", ".masks"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an index.

    Attributes:
        image: Whose proposals these are, the fields of `ImageKey`.
        count: How many proposals there are.
        seconds: How long making them took.
        failure: Why there is no record, or None.
        offset: Where in the file of records the record begins.
        length: How many bytes it has.
        checksum: CRC-32 of the record.
    """

    image: ImageKey
    count: int
    seconds: float
    failure: str | None = None
    offset: int = 0
    length: int = 0
    checksum: int = 0


class ShardWriter:
    """Appends records to a shard of its own; each is in the hands of the operating system after `append`.

    Args:
        folder: Where the shard is made; the folder is made if it is missing.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Sorted by name, shards are in the order of their making.
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        self.index = folder / f"{name}{INDEX}"
        self._records = (folder / f"{name}{RECORDS}").open("xb", buffering=0)
        self._index = self.index.open("xb", buffering=0)

    def append(self, image: ImageKey, record: bytes, count: int, seconds: float) -> Entry:
        """Add the proposals of an image.

        Returns:
            The line of the index.

        Raises:
            OSError: The disk is full, for example; the writer is not to be used any more then.
        """
        offset = self._records.tell()
        _write(self._records, record)
        return self._line(Entry(image, count, seconds, None, offset, len(record), zlib.crc32(record)))

    def append_failure(self, image: ImageKey, reason: str, seconds: float) -> Entry:
        """Note that an image has no proposals because they could not be made.

        Raises:
            OSError: See `append`.
        """
        return self._line(Entry(image, 0, seconds, reason))

    def _line(self, entry: Entry) -> Entry:
        text = to_json(asdict(entry))
        _write(self._index, b"%08x %s\n" % (zlib.crc32(text), text))
        return entry

    def close(self) -> None:
        """Close the files."""
        self._records.close()
        self._index.close()


def _write(file: FileIO, content: bytes) -> None:
    if file.write(content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.name))


def shards(folder: Path) -> list[Path]:
    """Return the index files of a folder, the oldest first; none if the folder is missing."""
    return sorted(folder.glob(f"*{INDEX}"))


def read_index(path: Path) -> Iterator[Entry]:
    """Yield the sound lines of an index whose records are there in full length; others are passed over."""
    size = _size(path.with_suffix(RECORDS))
    lines = path.read_bytes().split(b"\n")
    # What follows the last line break is a line that was cut off, or nothing.
    for number, line in enumerate(lines[:-1], start=1):
        entry = _entry(line)
        if entry is None or entry.offset + entry.length > size:
            log.warning("Line %d of %s is damaged; its image counts as not stored.", number, path)
        else:
            yield entry


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _entry(line: bytes) -> Entry | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        fields = json.loads(text)
        entry = Entry(**{**fields, "image": ImageKey(*fields["image"])})
        fine = entry.offset >= 0 and entry.length >= 0 and isinstance(entry.image.image_id, int | str)
    except (ValueError, TypeError, KeyError):
        return None
    return entry if fine else None


def read_record(index: Path, entry: Entry) -> bytes | None:
    """Read the record that a line of ``index`` is about, and nothing else; None if it is damaged or gone."""
    try:
        # Opened anew each time: a position in an open file would be shared with forked processes.
        with index.with_suffix(RECORDS).open("rb", buffering=0) as file:
            file.seek(entry.offset)
            content = file.read(entry.length)
    except FileNotFoundError:
        return None
    return content if zlib.crc32(content) == entry.checksum and len(content) == entry.length else None
