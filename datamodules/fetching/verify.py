"""Whether a file is what it should be: size, hash, and the looks of its kind."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from datamodules.fetching.errors import SourceFailed

# First bytes of each kind of file; a torch checkpoint is a zip or, older, a pickle.
KINDS: dict[str, tuple[bytes, ...]] = {
    "any": (b"",),
    "zip": (b"PK\x03\x04", b"PK\x05\x06"),
    "tar": (b"",),
    "torch": (b"PK\x03\x04", b"\x80\x02"),
    "parquet": (b"PAR1",),
    "json": (b"{", b"["),
}
SUFFIXES = {".parquet": "parquet", ".pth": "torch", ".json": "json"}
_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<head")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it comes.

    Attributes:
        magic: Its kind, a key of `KINDS`.
        size: Its exact size in bytes, or None.
        at_most: More bytes than this are never taken.
        hashes: Published hashes by algorithm, e.g. ``{"sha256": "..."}``.
    """

    magic: str = "any"
    size: int | None = None
    at_most: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)


def check_beginning(first: bytes, expected: Expected) -> None:
    """Check the first bytes of a file.

    Raises:
        SourceFailed: If they are those of a web page, or not of the kind expected.
    """
    kinds = KINDS[expected.magic]
    if first.startswith(kinds) and not (b"" in kinds and _is_page(first)):
        return
    if _is_page(first):
        raise SourceFailed("a web page came in place of the file")
    raise SourceFailed(f"what came is no {expected.magic} file: it begins with {first[:4]!r}")


def _is_page(first: bytes) -> bool:
    return first.lstrip().lower().startswith(_PAGES)


def check_file(path: Path, expected: Expected, progress: bool = False) -> str:
    """Check a whole file.

    Returns:
        What was checked, in words, e.g. ``"size and sha256"``.

    Raises:
        SourceFailed: Naming what is wrong.
    """
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        raise SourceFailed(f"it has {size:,} bytes, expected {expected.size:,}")
    with path.open("rb") as file:
        check_beginning(file.read(64), expected)
    for name, value in expected.hashes.items():
        found = hash_of(path, name, progress)
        if found != value:
            raise SourceFailed(f"its {name} is {found}, expected {value}")
    checked = ["size"] * (expected.size is not None) + list(expected.hashes)
    return " and ".join(checked) or "first bytes only: no size or hash is published"


def hash_of(path: Path, name: str, progress: bool = False) -> str:
    """Return the hash of a file in hexadecimal digits."""
    digest = hashlib.new(name)
    bar = tqdm(
        total=path.stat().st_size,
        desc=f"checking {path.name}",
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None if progress else True,
    )
    with path.open("rb") as file, bar:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
