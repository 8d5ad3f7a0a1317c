"""Reading annotation files that are not to be trusted, writing their like, and folders of made data."""

import ctypes
import gc
import glob
import json
import mmap
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from gl_ris.drafts import draft_of, sweep
from gl_ris.errors import UserError, in_short
from gl_ris.files import MAX_PIXELS, Mapped, atomic_file, decode_mapped

T = TypeVar("T")

FETCH_AGAIN = "Fetch the file anew."

MAX_PICKLE = 1 << 30  # bytes; larger files are not opened: the largest refs have less than a tenth of it

# images wider or higher than this (the limit of JPEG) are taken for damage in the annotations
MAX_SIDE = 65_535
_TEXT_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|-?\b(?:NaN|Infinity)\b', re.DOTALL)
# what the id of a record may be; True is none
Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[str, Meta(max_length=1_000)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]


class Sized(msgspec.Struct):
    """A record that gives the size of an image in pixels; one that no image has is a fault of the record."""

    height: Side
    width: Side

    def __post_init__(self) -> None:
        """Refuse a size that Pillow would not open."""
        if self.height * self.width > MAX_PIXELS:
            raise ValueError(f"it is said to be {self.width} x {self.height} pixels")


def read_annotations(path: Path, kind: type[T]) -> T:
    """Read a JSON file of annotations as a value of a given type; see `gl_ris.files.decode_mapped`.

    A bare NaN or Infinity, which Python writes and JSON does not know, is a null: the fault of its record.
    """
    return read_mapped(path, kind)[0]


def read_mapped(path: Path, kind: type[T]) -> tuple[T, Mapped]:
    """Read such a file, and also return what `msgspec.Raw` values in ``kind`` are views of."""
    return decode_mapped(path, kind, "annotation file", FETCH_AGAIN, _without_nan)


def _without_nan(content: mmap.mmap) -> bytes | None:
    # a look first: what is damaged in another way, and may have gigabytes, is not copied
    if content[:1] not in b"[{" or all(content.find(word) < 0 for word in (b"NaN", b"Infinity")):
        return None
    # texts are matched, too, and stay as they are
    return _TEXT_OR_NAN.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", content)


def convert(value: Any, kind: type[T], where: str) -> T:
    """Turn plain values that came from a file into a given type; fields that it lacks are not looked at.

    `UserError`, beginning with ``where``, if something in it is missing or of another type.

    Example:
        >>> convert({"height": 3, "width": 4, "url": None}, Sized, "'a.json': image 0").width
        4
    """
    try:
        return msgspec.convert(value, kind)
    except ValueError as error:
        raise UserError(f"{where} is damaged: {clean_text(in_short(error))}. {FETCH_AGAIN}") from error


def clean_text(text: str) -> str:
    r"""Return ``text`` with every character encodable.

    Example:
        >>> clean_text(b"caf\xe9".decode("utf-8", "surrogateescape"))
        'café'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        pass
    else:
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:  # a lone surrogate that no byte string can have left behind
        return text.encode("utf-8", "replace").decode()


def compact_json(value: Any, kind: type, where: str) -> bytes:
    """Write a value as strict, compact JSON in UTF-8; `UserError` if ``kind`` could not be read from it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    try:
        msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise UserError(f"{where} would be damaged: {in_short(error)}.") from error
    return text


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def uncollected() -> Iterator[None]:
    """Make many values that all stay: to look for cycles among them, time and again, takes twice as long."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        with suppress(AttributeError, OSError, TypeError):  # what did not stay, by glibc alone
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give an empty folder that becomes ``folder`` when the block ends without an error, else is removed.

    If another process finishes it first, that one's work stands. `UserError` if nothing can be written there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent, f".{glob.escape(folder.name)}-????????")
        draft = draft_of(folder)
        draft.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(
            f"The cache folder '{folder.parent}' cannot be written to ({error.strerror}); "
            "set GL_RIS_CACHE to one that can."
        ) from error
    try:
        yield draft
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
