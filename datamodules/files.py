"""Reading annotation files that are not to be trusted, and writing their like."""

from __future__ import annotations

import gc
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from gl_ris.errors import UserError
from gl_ris.files import atomic_file

_CLOSING = {"{": "}", "[": "]"}
_WHITE = b" \t\r\n"


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

    The first and the last character are looked at before anything else is read, so that an archive, a web
    page or half a download is refused at once however large it is.

    Args:
        path: The file, UTF-8.
        opening: ``"{"`` for an object, ``"["`` for a list.

    Raises:
        UserError: If the file is missing, is something else, breaks off or is damaged.
    """
    require_file(path, "annotation file")
    kind = "object" if opening == "{" else "list"
    ends = _outermost(path)
    if ends[:1] != opening.encode():
        raise UserError(f"'{path}' is not a JSON {kind}: it begins with {ends[:1]!r}. Fetch the file anew.")
    if ends[1:] != _CLOSING[opening].encode():
        raise UserError(f"'{path}' breaks off: its last character is {ends[1:]!r}. Fetch the file anew.")
    try:
        with _no_collection():
            return json.loads(path.read_bytes())
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"'{path}' is damaged JSON ({error}). Fetch the file anew.") from error


def _outermost(path: Path) -> bytes:
    """Return the first and the last byte of a file that are not white space, 4 KiB in at most."""
    with path.open("rb") as file:
        first = file.read(4096).lstrip(_WHITE)[:1]
        file.seek(max(0, path.stat().st_size - 4096))
        return first + file.read().rstrip(_WHITE)[-1:]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from walking, time and again, through millions of values that all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _PlainUnpickler(pickle.Unpickler):
    """Builds numbers, strings, lists and dicts, and nothing that a pickle could name."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise UserError(
            f"it asks for '{module_name}.{global_name}', and a file of annotations has no need of any code"
        )


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds plain values only, Python 2 era files included.

    No global is admitted at all, so that no pickle can run anything. Python 2 byte strings are read as UTF-8;
    those that are not UTF-8 keep their bytes as surrogate escapes, which `clean_text` reads as Latin-1.

    Raises:
        UserError: If the file is missing, damaged, truncated or asks for any global.
    """
    require_file(path, "annotation file")
    try:
        with path.open("rb") as file, _no_collection():
            return _PlainUnpickler(file, encoding="utf-8", errors="surrogateescape").load()
    except UserError as error:
        raise UserError(f"'{path}' was refused: {error}. Fetch the file from a source you trust.") from error
    except Exception as error:  # the unpickler answers to damage with nearly every exception there is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"'{path}' is not a readable pickle ({reason}). Fetch the file anew.") from error


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
