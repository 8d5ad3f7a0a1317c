"""Drafts: what is written under a name of its own beside the real one, and goes if its writer dies."""

import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path

from gl_ris.processes import is_alive

_NAME = re.compile(r"\..+\.(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.tmp", re.DOTALL)
_DAY = 24 * 3600


def draft_of(path: Path) -> Path:
    """Name a draft of ``path`` beside it: hidden, unique, and with the process that writes it."""
    return path.with_name(f".{path.name}.{_place()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def sweep(folder: Path, *older: str) -> None:
    """Remove the drafts in a folder whose processes are gone; those of other machines when a day old.

    The folder need not exist. Drafts of ``older`` patterns, which name no process, count as these.
    """
    drafts = [path for path in folder.glob(".*.tmp") if _is_abandoned(path)]
    drafts += [path for pattern in older for path in folder.glob(pattern) if _is_old(path)]
    for path in drafts:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _is_abandoned(path: Path) -> bool:
    found = _NAME.fullmatch(path.name)
    if found is None:
        return False
    return not is_alive(int(found["pid"])) if found["place"] == _place() else _is_old(path)


def _is_old(path: Path) -> bool:
    # a folder that is written into may change in a folder inside only
    with suppress(OSError):
        inside = list(path.iterdir()) if path.is_dir() else []
        return max(item.lstat().st_mtime for item in (path, *inside)) < time.time() - _DAY
    return False


@functools.cache
def _place() -> str:
    """Name where process numbers are known: this host since it started, and the container on it."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("|".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]
