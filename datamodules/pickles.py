"""Pickles as data: plain values and numpy's numbers, by an unpickler that can make nothing else."""

import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from datamodules.files import FETCH_AGAIN, MAX_PICKLE, clean_text, uncollected
from datamodules.pickle_memo import require_small_memo
from gl_ris.errors import UserError, in_short

# kinds and widths of numbers (and texts, of any width) that numpy may have left in annotations
_NUMBERS = {"b1", "f2", "f4", "f8", *(f"{kind}{width}" for kind in "iu" for width in (1, 2, 4, 8))}


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds plain values only, Python 2 era files included.

    No global is admitted but those that numpy writes for its own numbers, texts and arrays, and these names
    stand for functions of this module that make plain values of bytes: no pickle can run anything. An array
    becomes a list. Python 2 byte strings are read as UTF-8; those that are not UTF-8 keep their bytes as
    surrogate escapes, which `clean_text` reads as Latin-1. `UserError` if the file is missing, larger than
    any refs, damaged, truncated, or asks for any other global.
    """
    if not path.is_file():
        raise UserError(f"No annotation file at '{path}'.")
    if (size := path.stat().st_size) > MAX_PICKLE:
        raise UserError(f"'{path}' is a file of {size:,} bytes, more than refs can have. {FETCH_AGAIN}")
    try:
        content = path.read_bytes()
        require_small_memo(content)
        with uncollected():
            return _PlainUnpickler(content).values()
    except UserError as error:
        reason = clean_text(in_short(error))
        raise UserError(f"'{path}' was refused: {reason}. Fetch the file from a source you trust.") from error
    except Exception as error:  # the unpickler answers to damage with nearly every exception there is
        reason = clean_text(in_short(error))
        raise UserError(f"'{path}' is not a readable pickle ({reason}). {FETCH_AGAIN}") from error


class _PlainUnpickler(pickle.Unpickler):
    # what a pickle calls it has to name first: what it can name is in `known` alone

    def __init__(self, content: bytes) -> None:
        # the buffer lets it look ahead, rather than read a byte at a time
        super().__init__(io.BufferedReader(io.BytesIO(content)), encoding="utf-8", errors="surrogateescape")
        # each byte makes one number at most, and protocol 2 spells bytes as a text first; more is a bomb
        self._left = 4 * len(content)
        makers = {
            "scalar": _Maker(lambda kind, data: _values(kind, self._spend(data), ())),
            "_reconstruct": _Maker(lambda *_: _Array(self._spend)),
            "_frombuffer": _Maker(lambda data, kind, *form: _values(kind, self._spend(data), *form)),
            "encode": _Maker(lambda text, codec: self._spend(text.encode({"latin1": "latin1"}[codec]))),
            "dtype": _Maker(lambda name, *_: _Kind(name)),
            "ndarray": _Maker(_refuse),
            "bytes": _Maker(lambda: b""),
        }
        homes = {
            "numpy": "dtype ndarray",
            "numpy.core.multiarray": "scalar _reconstruct",
            "numpy._core.multiarray": "scalar _reconstruct",
            "numpy.core.numeric": "_frombuffer",
            "numpy._core.numeric": "_frombuffer",
            "_codecs": "encode",
            "__builtin__": "bytes",
            "builtins": "bytes",
        }
        self._known = {(home, name): makers[name] for home, names in homes.items() for name in names.split()}

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in self._known:
            return self._known[module_name, global_name]
        what = f"it asks for '{module_name:.60}.{global_name:.60}', and annotations need no code"
        if module_name.split(".")[0] == "pandas":
            what += "; save a data frame as frame.to_dict('records')"
        raise UserError(what)

    def values(self) -> Any:
        """Load, and let go of what was read: known names lead back to this object, in a circle."""
        try:
            return self.load()
        finally:
            self._known.clear()

    def _spend(self, data: Any) -> Any:
        self._left -= len(data)
        if self._left < 0:
            raise UserError("it makes more numbers than fit into the file")
        return data


class _Maker:
    """What stands for a function that a pickle names; a pickle can call it and cannot change it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        _refuse()


class _Kind:
    """What stands for a dtype: one of numbers or texts, or "O", whose values are plain themselves."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any) -> None:
        text = isinstance(name, str) and name.isascii() and name[:1] == "U" and name[1:].isdigit()
        if not (text or name in (*_NUMBERS, "O8")):
            raise UserError(f"it holds numpy values of type {name!r:.60}; make them plain numbers and texts")
        self.name, self.order = name, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = {"<": "<", ">": ">", "|": "|"}[state[1]]


class _Array(list[Any]):
    """What stands for an array: the list of its values."""

    def __init__(self, spend: Callable[[Any], Any]) -> None:
        self._spend = spend

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, data = state
        if kind.name == "O8":
            if len(shape) != 1 or not isinstance(data, list):
                raise ValueError("an array of objects has one axis")
            self[:] = self._spend(data)
        else:
            self[:] = _values(kind, self._spend(data), shape, "F" if by_columns else "C")
        del self._spend

    def __reduce__(self) -> Any:
        return list, (list(self),)


def _values(kind: _Kind, data: Any, shape: tuple[int, ...], order: str = "C") -> Any:
    """Make a number (of shape ``()``), or lists of numbers, of the bytes that hold them."""
    if kind.name == "O8" or math.prod(shape) < 0:
        raise ValueError("values of an array that no array has")
    if isinstance(data, str):  # bytes of Python 2, read as a text
        data = data.encode("utf-8", "surrogateescape")
    array = np.frombuffer(data, np.dtype(f"{kind.order}{kind.name}"))
    if array.size != math.prod(shape):
        raise ValueError("an array of another size than it says")
    if order == "F":
        return array.reshape(shape[::-1]).T.tolist()
    return array.reshape(shape).tolist()


def _refuse(*_: Any) -> NoReturn:
    raise ValueError("it changes what makes its values")
