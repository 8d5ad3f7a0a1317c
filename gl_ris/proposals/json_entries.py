"""Reading a huge JSON list entry by entry: where each begins and ends, without ever holding the whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from gl_ris.errors import UserError

LARGEST_ENTRY = 1 << 26
"""An entry of more bytes is refused, which bounds the memory that a damaged or hostile file takes."""
_PART = 1 << 22
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class EntryReader:
    """Walks through a file that holds a JSON list of objects.

    Text is searched byte by byte (as Latin-1), so that positions count bytes; entries are read as UTF-8.

    Args:
        path: The file.
        progress: Called with the bytes of each part that is read.

    Attributes:
        count: Entries so far.
    """

    def __init__(self, path: Path, progress: Callable[[int], Any] = lambda _: None) -> None:
        self.path = path
        self.count = 0
        self._progress = progress
        self._digest = hashlib.sha256()
        self._text, self._start, self._place, self._ended = "", 0, 0, False

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has been read."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield the position and length of each entry in bytes, and the entry.

        Raises:
            UserError: The file is no JSON list of objects, damaged, or cut off.
        """
        with self.path.open("rb") as file:
            if self._next(file) == "\xef" and self._text.startswith("\xef\xbb\xbf"):
                self._place += 3  # the byte-order mark of some editors
            self._expect(file, "[")
            more = self._next(file) != "]"
            while more:
                yield self._entry(file)
                self.count += 1
                more = self._next(file) == ","
                self._place += more
            self._expect(file, "]")
            if self._next(file):
                self._fail("goes on after its end")

    def _fill(self, file: BinaryIO) -> None:
        part = file.read(_PART)
        self._digest.update(part)
        self._progress(len(part))
        self._ended = not part
        self._text = self._text[self._place :] + part.decode("latin-1")
        self._start += self._place
        self._place = 0

    def _next(self, file: BinaryIO) -> str:
        """Return the next character that is no white space; none at the end of the file."""
        while True:
            matched = _SPACE.match(self._text, self._place)
            assert matched is not None
            self._place = matched.end()
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._fill(file)

    def _expect(self, file: BinaryIO, character: str) -> None:
        found = self._next(file)
        if found == "{" and not self.count:
            self._fail("holds one JSON object, but a list of results is needed (no annotation file)")
        if found != character:
            self._fail("is not a JSON list of results" if found else "is cut off")
        self._place += 1

    def _entry(self, file: BinaryIO) -> tuple[int, int, dict[str, Any]]:
        found = self._next(file)
        if found != "{":
            self._fail(
                f"has {self._text[self._place :][:20]!r} in place of an entry" if found else "is cut off"
            )
        while True:
            try:
                entry, end = _DECODER.raw_decode(self._text, self._place)
                break
            except (ValueError, RecursionError) as error:
                # where the part that was read ends within the entry, the rest may mend it
                if self._ended and _runs_out(error):
                    self._fail("is cut off")
                if self._ended or len(self._text) - self._place > LARGEST_ENTRY:
                    self._fail(f"is damaged ({type(error).__name__}: {error!s:.60})")
                self._fill(file)
        length = end - self._place
        if length > LARGEST_ENTRY:
            self._fail(f"has an entry of {length:,} bytes; at most {LARGEST_ENTRY:,} are read")
        raw = self._text[self._place : end]
        if not raw.isascii():
            try:
                entry = parse_entry(raw.encode("latin-1"))
            except ValueError as error:
                self._fail(f"is damaged ({type(error).__name__}: {error!s:.60})")
        position = self._start + self._place
        self._place = end
        return position, length, entry

    def _fail(self, what: str) -> NoReturn:
        place = self._start + self._place
        raise UserError(f"{self.path} {what}, at byte {place:,} after {self.count:,} complete entries.")


def _runs_out(error: Exception) -> bool:
    """Say whether JSON was found wrong just where its text ends."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.pos >= len(error.doc) - 1 or error.msg.startswith("Unterminated string")


def parse_entry(data: bytes) -> Any:
    """Parse the bytes of one entry.

    Raises:
        ValueError: They are no JSON.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
