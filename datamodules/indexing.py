"""Reading large annotation files once: what is needed of them is kept as rows in the cache folder."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from datamodules.cache import cache_folder
from datamodules.rows import Rows, write_rows
from gl_ris.files import atomic_file

FORMAT = 2
"""Raised whenever rows mean something else than before."""

SMALL = 4 << 20
"""Files of fewer bytes are read anew every time: that takes no longer than to look them up."""

Content = tuple[Iterable[bytes], dict[str, Any]]
"""Rows and head, see `datamodules.rows.write_rows`."""

log = logging.getLogger(__name__)


def indexed(files: Sequence[Path], kind: str, read: Callable[[], Content]) -> Rows:
    """Return the rows made of ``files``: from the cache if they are of these very files, else made now.

    An index is known to be of the very files by their sizes and the times of their last changes. One that is
    damaged, of other files or of another version is made anew; it appears whole or not at all, so that
    processes may do this side by side. Where the cache folder cannot be written, the rows stay in memory.

    Args:
        files: The annotation files.
        kind: What the rows are, part of the name in the cache.
        read: Reads the files. It is not called if the rows are there.

    Raises:
        UserError: A file is missing or damaged.
    """
    identity = {"format": FORMAT, "files": [_identity(file) for file in files]}
    if sum(file.stat().st_size for file in files) < SMALL:
        return _in_memory(read(), identity)
    path = index_path(files, kind)
    if (rows := _found(path, identity)) is not None:
        return rows
    names = " and ".join(f"'{file}'" for file in files)
    log.warning("Reading %s; the next time it takes the index in '%s'.", names, path.parent)
    lines, head = read()
    try:
        with atomic_file(path) as file:
            write_rows(file, lines, {**head, "identity": identity})
        return Rows(path)
    except OSError as error:
        log.warning(
            "The index of %s cannot be kept in '%s' (%s), so every process reads the annotations and holds "
            "them in memory. Let GL_RIS_CACHE name a folder that can be written.",
            names,
            path.parent,
            error.strerror or error,
        )
    return _in_memory(read(), identity)


def index_path(files: Sequence[Path], kind: str) -> Path:
    """Return where the index of ``files`` is kept: a place of their own, so that a new one replaces it."""
    names = "\0".join(str(file.resolve()) for file in files)
    name = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return cache_folder() / "annotations" / f"{kind}-{name}.rows"


def _identity(file: Path) -> list[Any]:
    """Return what tells a file from itself before a change; unlike mtime, ctime cannot be set back."""
    status = file.stat()
    return [str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _found(path: Path, identity: dict[str, Any]) -> Rows | None:
    try:
        rows = Rows(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("The index '%s' is damaged (%s) and is made anew.", path, error)
        return None
    return rows if rows.head.get("identity") == identity else None


def _in_memory(content: Content, identity: dict[str, Any]) -> Rows:
    buffer = io.BytesIO()
    lines, head = content
    write_rows(buffer, lines, {**head, "identity": identity})
    return Rows(buffer.getvalue())
