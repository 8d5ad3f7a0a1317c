"""A file of JSON values that any number of processes reads one by one, none of them holding it."""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np

_MAGIC = b"gl-ris\0\1"
# where the offsets begin, where the head begins; CRC-32 of all before
_PLACES, _CHECK = struct.Struct("<QQ"), struct.Struct("<I8s")
_BLOCK = 1 << 20


def encode_row(value: Any) -> bytes:
    """Write a value as the bytes of a row."""
    return encode_text(value).encode("ascii")


def encode_text(value: Any) -> str:
    """Write a value as compact JSON in ASCII, in which even a lone surrogate survives."""
    return json.dumps(value, separators=(",", ":"))


def encode_list(parts: Iterable[bytes]) -> bytes:
    """Join encoded values to an encoded list.

    Example:
        >>> encode_list([encode_row("a"), encode_row({"b": None})])
        b'["a",{"b":null}]'
    """
    return b"[" + b",".join(parts) + b"]"


def write_rows(file: BinaryIO, rows: Iterable[bytes], head: Mapping[str, Any]) -> None:
    """Write rows to an empty file.

    Args:
        file: Where to.
        rows: Each the outcome of `encode_row`.
        head: What is to be known of all of them; small.
    """
    check, offsets = zlib.crc32(_MAGIC), [len(_MAGIC)]
    file.write(_MAGIC)
    for row in rows:
        file.write(row)
        check = zlib.crc32(row, check)
        offsets.append(offsets[-1] + len(row))
    tail = np.asarray(offsets, dtype="<i8").tobytes() + encode_row(dict(head))
    tail += _PLACES.pack(offsets[-1], offsets[-1] + 8 * len(offsets))
    file.write(tail + _CHECK.pack(zlib.crc32(tail, check), _MAGIC))


class Rows(Sequence[Any]):
    """The values that `write_rows` wrote, each read when it is asked for.

    Of a file, only the offsets are copied into the process; the values stay in the file, whose pages the
    system shares among all processes. A copy in another process (a data loader's worker) opens it anew.

    Args:
        source: The file, or its content.

    Attributes:
        head: What is known of all of them.

    Raises:
        ValueError: If a byte of it is missing or was changed.
        OSError: If it cannot be opened.
    """

    def __init__(self, source: Path | bytes) -> None:
        self.source = source
        self._data: mmap.mmap | bytes = source if isinstance(source, bytes) else _mapped(source)
        if len(self._data) < len(_MAGIC) + _PLACES.size + _CHECK.size:
            raise ValueError("too short")
        end = len(self._data) - _CHECK.size
        self._check, magic = _CHECK.unpack(self._data[end:])
        if magic != _MAGIC or _checksum(source, end) != self._check:
            raise ValueError("its checksum is another")
        end -= _PLACES.size
        offsets_at, head_at = _PLACES.unpack(self._data[end : end + _PLACES.size])
        self._offsets = np.frombuffer(self._data[offsets_at:head_at], dtype="<i8")
        self.head: dict[str, Any] = json.loads(self._data[head_at:end])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return json.loads(self._data[self._offsets[place] : self._offsets[place + 1]])

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.source, self._check)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _checksum(source: Path | bytes, end: int) -> int:
    """Return the CRC-32 of the first ``end`` bytes; of a file, without mapping its pages into the process."""
    if isinstance(source, bytes):
        return zlib.crc32(memoryview(source)[:end])
    check = 0
    with source.open("rb") as file:
        while end > 0 and (block := file.read(min(_BLOCK, end))):
            check, end = zlib.crc32(block, check), end - len(block)
    return check


def _reopened(source: Path | bytes, check: int) -> Rows:
    rows = Rows(source)
    if rows._check != check:
        raise ValueError(f"{source!r:.200} was made anew while it was in use; start again.")
    return rows
