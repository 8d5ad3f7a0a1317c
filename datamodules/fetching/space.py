"""How much disk there is, and how much it takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from datamodules.fetching.catalogue import Item
from datamodules.fetching.receipts import DOWNLOADS
from gl_ris.errors import UserError


def in_words(count: float) -> str:
    """Write a number of bytes for people.

    Example:
        >>> in_words(53_993_993), in_words(13_510_573_713)
        ('54.0 MB', '13.5 GB')
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"


def free_bytes(root: Path) -> int:
    """Return the free bytes of the disk that ``root`` is or would be on."""
    path = root.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def peak(items: Iterable[Item], root: Path) -> int:
    """Return about how many more bytes are taken at most while the items are fetched one after the other.

    Archives go once they are unpacked; what has come of them already is not counted again.
    """
    highest = settled = 0
    for item in items:
        for download in item.downloads:
            here = root / DOWNLOADS / download.file
            parts = [path for path in (here, here.with_name(f"{here.name}.part")) if path.is_file()]
            there = sum(path.stat().st_size for path in parts)
            highest = max(highest, settled + max(0, download.needed - there))
            settled += (download.unpacked or download.bytes) - (there if not download.unpacked else 0)
        settled += item.hub.about if item.hub else 0
        highest = max(highest, settled)
    return highest


def require_space(items: Iterable[Item], root: Path) -> None:
    """Check that the disk has room.

    Raises:
        UserError: With what is needed and what there is.
    """
    items = list(items)
    needed, free = peak(items, root), free_bytes(root)
    if needed > free:
        names = ", ".join(item.name for item in items)
        raise UserError(
            f"{names} take about {in_words(needed)} while they are fetched and unpacked, but the disk of "
            f"'{root}' has {in_words(free)} free. Make room, or give --root a folder on another disk."
        )
