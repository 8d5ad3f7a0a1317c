"""Reading annotation files that are not to be trusted, and writing their like."""

from __future__ import annotations

import codecs
import gc
import json
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from gl_ris.errors import UserError
from gl_ris.files import atomic_file

_CLOSING = {"{": "}", "[": "]"}
_WHITE = b" \t\r\n"
_FOREIGN = re.compile(rb"[^ -\xff\t\r\n]")
_SAMPLE, _SAMPLES = 4096, 64
ANEW = "Fetch the file anew."

MAX_JSON = 4 << 30
"""Files of more bytes are not opened; COCO's largest annotations have half a GB."""


def require_file(path: Path, what: str) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        UserError: If it is not; the sentence says ``what`` the file should have been.
    """
    if not path.is_file():
        raise UserError(f"No {what} at '{path}'.")
    return path


def read_json(path: Path, opening: Literal["{", "["]) -> Any:
    """Read a JSON file whose outermost value is an object or a list.

    Args:
        path: The file, UTF-8.
        opening: ``"{"`` for an object, ``"["`` for a list.

    Raises:
        UserError: If the file is missing, is something else, breaks off or is damaged.
    """
    check_json(path, opening)
    try:
        with no_collection():
            return json.loads(decoded(path))
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"'{path}' is damaged JSON ({error}). Fetch the file anew.") from error


def check_json(path: Path, opening: Literal["{", "["]) -> None:
    """Check that a file may be JSON, by a few samples of it.

    An archive, a web page, half a download or a file with holes is refused at once however large it is.

    Raises:
        UserError: If the file is missing, does not begin and end with the right brackets, is larger than any
            annotations, or holds bytes that no JSON has.
    """
    size = require_file(path, "annotation file").stat().st_size
    kind = "object" if opening == "{" else "list"
    if size > MAX_JSON:
        raise UserError(f"'{path}' is a file of {size:,} bytes, more than annotations can have. {ANEW}")
    with path.open("rb") as file:
        samples = [_sample(file, round((size - _SAMPLE) * k / _SAMPLES)) for k in range(_SAMPLES + 1)]
    first, last = samples[0].lstrip(_WHITE)[:1], samples[-1].rstrip(_WHITE)[-1:]
    if first != opening.encode():
        raise UserError(f"'{path}' is not a JSON {kind}: it begins with {first!r}. {ANEW}")
    if last != _CLOSING[opening].encode():
        raise UserError(f"'{path}' breaks off: its last character is {last!r}. {ANEW}")
    if foreign := _FOREIGN.search(b"".join(samples)):
        raise UserError(f"'{path}' is damaged JSON: it holds {foreign[0]!r}. {ANEW}")


def _sample(file: BinaryIO, start: int) -> bytes:
    file.seek(max(0, start))
    return file.read(_SAMPLE)


def decoded(path: Path) -> str:
    """Return the text of a file in UTF-8, without holding its bytes as well."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return codecs.decode(content, "utf-8")


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector from walking, time and again, through millions of values that all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as strict, compact JSON (UTF-8), atomically."""
    with atomic_file(path) as file:
        file.write(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
