"""Writing files that appear complete or not at all, JSON that any parser reads, and the cache folder."""

import csv
import functools
import glob
import hashlib
import io
import json
import math
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

from gl_ris.drafts import draft_of, sweep
from gl_ris.errors import EvaluationError, UserError, in_short

_T = TypeVar("_T")
Mend = Callable[[mmap.mmap], bytes | None]  # makes what can be read of content that cannot; None: it cannot

MAX_PIXELS = 178_956_970  # images of more pixels are taken for damage, or for an attack: Pillow warns of them


def cache_folder() -> Path:
    """Give the cache folder: ``$GL_RIS_CACHE``, else ``gl-ris`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if named := os.environ.get("GL_RIS_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gl-ris"


@functools.cache
def read_table(path: Path) -> Any:
    """Return what a YAML file of this project holds, read once."""
    import yaml

    # every command waits for one: libyaml's reader takes a thirtieth of the time
    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def file_hash(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_file(path: Path | str) -> Iterator[BinaryIO]:
    """Open ``path`` for writing bytes so that it appears complete or not at all; missing folders are made.

    An error inside the block leaves an earlier file of that name as it was. When the block is left, the file
    is on the disk: a loss of power does not undo it. Drafts of processes that were killed are removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, f".{glob.escape(path.name)}.*.tmp")
    temporary = draft_of(path)
    try:
        with temporary.open("wb") as file:
            yield file
            sync(file)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(file: IO[Any]) -> None:
    """Let what was written to a file reach the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk, where the system can do that."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def to_json(value: Any, indent: int | None = None) -> bytes:
    """Write a value as strict JSON in UTF-8: readable text, no NaN; `plain` makes it of what is no JSON.

    Example:
        >>> to_json({"mIoU": float("nan"), "size": (2, 3)})
        b'{"mIoU": null, "size": [2, 3]}'
    """
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate has no UTF-8, but its escape is JSON


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` to ``path`` as indented, strict JSON, atomically; missing folders are made."""
    with atomic_file(path) as file:
        file.write(to_json(value, indent=2) + b"\n")


def write_text(path: Path | str, text: str) -> None:
    """Write a text, complete or not at all; missing folders are made."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_rows(path: Path | str, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows as CSV, complete or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


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
            raise (error if self.mark is None else self._changed()) from None
        with file:
            mark = (found := os.fstat(file.fileno())).st_ino, found.st_size, found.st_mtime_ns
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

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return Mapped, (self.path.absolute(), self.mend, self.mark)


def decode(path: Path | str, kind: type[_T], what: str = "file", fix: str = "Fetch the file anew.") -> _T:
    """Read a JSON file as a value of a given type; see `decode_mapped`."""
    return decode_mapped(path, kind, what, fix)[0]


def decode_mapped(
    path: Path | str, kind: type[_T], what: str, fix: str, mend: Mend | None = None
) -> tuple[_T, Mapped]:
    """Read a JSON file as a value of a given type; nothing that is not of that type comes through.

    A `UserError` that says where it is damaged, with ``fix``, a sentence. The file is mapped, not copied, and
    `msgspec.Raw` values in ``kind`` are views of what is returned beside the value. What is no JSON is read
    once more as ``mend`` makes it, unless that is None.
    """
    import msgspec

    try:
        file = Mapped(Path(path))
        try:
            return msgspec.json.decode(file.content, type=kind), file
        except msgspec.DecodeError:
            mended = Mapped(Path(path), mend, file.mark)
            if mend is None or isinstance(mended.content, mmap.mmap):
                raise
            return msgspec.json.decode(mended.content, type=kind), mended
    except FileNotFoundError as error:
        raise UserError(f"No {what} at '{path}'.") from error
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        # an empty file cannot be mapped, and msgspec's errors are ValueErrors
        raise UserError(f"'{path}' is no {what}, or damaged ({in_short(error)}). {fix}") from error


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold.

    NaN and infinities become None; numpy and torch scalars and arrays, numbers and lists; tuples and sets,
    lists; keys and everything unknown (paths, devices, dtypes), text.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
