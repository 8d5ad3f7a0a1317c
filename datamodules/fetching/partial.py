"""The part of a file that has come so far, and the note of what it is a part of."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gl_ris.files import write_json

if TYPE_CHECKING:
    from datamodules.fetching.response import Answer


class Partial:
    """``<target>.part`` and ``<target>.part.json``.

    Args:
        target: Where the whole file is to be.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.note_path = target.with_name(f"{target.name}.part.json")

    @property
    def bytes(self) -> int:
        """How many bytes are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def note(self) -> dict[str, Any]:
        """Where the part is from: ``url``, ``validator`` and ``total``; empty if unknown or unreadable."""
        try:
            note = json.loads(self.note_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def resumable_from(self, url: str, safe: bool) -> int:
        """Return the byte to go on from, 0 for a new start.

        Args:
            url: Where the rest would come from.
            safe: Whether a hash will tell if the pieces do not belong together. Otherwise the server must
                have given a validator, by which it knows the file again.
        """
        note = self.note
        if note.get("url") != url or not (safe or note.get("validator")):
            return 0
        return self.bytes

    def conditions(self, offset: int) -> dict[str, str]:
        """Return the headers that ask for the rest, provided that the file is still the same."""
        if not offset:
            return {}
        validator = self.note.get("validator")
        return {"Range": f"bytes={offset}-", **({"If-Range": validator} if validator else {})}

    def begin(self, url: str, answer: Answer) -> None:
        """Note what the bytes to come are a part of; the note is there before the first of them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if answer.start == 0:
            self.discard()
            write_json(self.note_path, {"url": url, "validator": answer.validator, "total": answer.total})

    def open(self, start: int) -> BinaryIO:
        """Open the part to write from byte ``start`` on."""
        file = self.path.open("r+b" if start else "wb")
        file.truncate(start)
        file.seek(start)
        return file

    def discard(self) -> None:
        """Forget what has come."""
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Make the part the whole file."""
        os.replace(self.path, self.target)
        self.note_path.unlink(missing_ok=True)
