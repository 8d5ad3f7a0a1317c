"""Files in memory that processes share, and that outlive being replaced."""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from gl_ris.errors import EvaluationError

Mend = Callable[[mmap.mmap], bytes | None]  # makes what can be read of content that cannot; None: it cannot


class Mapped:
    """The bytes of a file: those that it had when they were first asked for, even if another takes its name.

    Pickled it is a path; whoever opens it again under that name finds the same file or an `EvaluationError`.
    """

    def __init__(self, path: Path, mend: Mend | None = None, mark: tuple[int, ...] | None = None) -> None:
        self.path, self.mend, self.mark = path, mend, mark

    @functools.cached_property
    def content(self) -> mmap.mmap | bytes:
        """The bytes; OSError or ValueError if the file cannot be mapped, as an empty one cannot."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            if self.mark is None:
                raise
            raise self._changed() from error
        with file:
            found = os.fstat(file.fileno())
            mark = found.st_ino, found.st_size, found.st_mtime_ns
            if self.mark not in (None, mark):
                raise self._changed()
            self.mark = mark
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return (self.mend and self.mend(mapped)) or mapped

    def part(self, start: int, end: int) -> bytes:
        """Return some of the bytes; `EvaluationError` if the file was cut short in its place."""
        if isinstance(self.content, mmap.mmap) and self.content.size() < end:
            raise self._changed()  # to read it would end the process
        return self.content[start:end]

    def _changed(self) -> EvaluationError:
        return EvaluationError(f"'{self.path}' was changed while it was being used; start again.")

    def __reduce__(self) -> tuple[Callable[..., Mapped], tuple[object, ...]]:
        return Mapped, (self.path.absolute(), self.mend, self.mark)
