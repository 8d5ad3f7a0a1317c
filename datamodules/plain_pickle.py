"""Pickles that hold plain values, read so that they can neither run anything nor take all memory."""

from __future__ import annotations

import functools
import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from datamodules.files import ANEW, no_collection, require_file
from gl_ris.errors import UserError

MAX_PICKLE = 1 << 30
"""Files of more bytes are not opened; the largest refs have less than a tenth of it."""

_BEGINNINGS = b"\x80(]}c"  # a protocol, a mark, a list, a dict, or a global, which is refused by its name

_PLAIN_OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK DUP PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET NONE NEWTRUE
    NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_LIST LIST APPEND
    APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS GLOBAL INST STACK_GLOBAL
""".split()  # noqa: SIM905  a list would take fifty lines


def _refuse(unpickler: Any, name: str) -> NoReturn:
    raise UserError(f"it asks for the operation {name}, and a file of annotations has no need of it")


class _Content(io.BytesIO):
    """The bytes of a pickle; a file would make room for as many as the pickle says that follow."""

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        if size is not None and len(found) < size:
            raise EOFError("it breaks off")
        return found


class _PlainUnpickler(pickle._Unpickler):
    """Builds numbers, strings, lists and dicts, and nothing that a pickle could name or call.

    This is the unpickler in Python: the one in C makes room for as many values as a memo's index says, which
    lets a pickle of twelve bytes take all memory.
    """

    dispatch: ClassVar[Any] = {
        ord(code.code): pickle._Unpickler.dispatch[ord(code.code)]
        if code.name in _PLAIN_OPCODES
        else functools.partial(_refuse, name=code.name)
        for code in pickletools.opcodes
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise UserError(
            f"it asks for '{module_name:.60}.{global_name:.60}', and a file of annotations has no need of "
            "any code"
        )


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds plain values only, Python 2 era files included.

    No global is admitted at all, and no operation that calls or changes an object, so that no pickle can run
    anything. Python 2 byte strings are read as UTF-8; those that are not UTF-8 keep their bytes as surrogate
    escapes, which `clean_text` reads as Latin-1.

    Raises:
        UserError: If the file is missing, larger than any refs, damaged, truncated, or asks for any global or
            any other operation that plain values do not need.
    """
    size = require_file(path, "annotation file").stat().st_size
    if size > MAX_PICKLE:
        raise UserError(f"'{path}' is a file of {size:,} bytes, more than refs can have. {ANEW}")
    try:
        content = _Content(path.read_bytes())
        if (first := content.getvalue()[:4])[:1] not in _BEGINNINGS:
            raise ValueError(f"it begins with {first!r}")
        with no_collection():
            return _PlainUnpickler(content, encoding="utf-8", errors="surrogateescape").load()
    except UserError as error:
        raise UserError(
            f"'{path}' was refused: {_printable(error)}. Fetch the file from a source you trust."
        ) from error
    except Exception as error:  # the unpickler answers to damage with nearly every exception there is
        raise UserError(f"'{path}' is not a readable pickle ({_printable(error)}). {ANEW}") from error


def _printable(error: Exception) -> str:
    """Return what an error says, in a line; it may quote the file, lone surrogates and all."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return text.encode("utf-8", "backslashreplace").decode()
