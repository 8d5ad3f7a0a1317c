"""Reading a large JSON object item by item, so that the items need not all be there at once."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datamodules.files import check_json, decoded
from gl_ris.errors import UserError

_WHITE = re.compile(r"[ \t\r\n]*")
_LARGE = 32 << 20
_STRIDE = 1 << 20


def stream_lists(path: Path, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Read the lists of a JSON file whose outermost value is an object, one item at a time.

    Beside the text of the file, no more than an item is held. Large files show a progress bar.

    Args:
        path: The file, UTF-8.
        names: The lists that are wanted; whatever else the object holds is skipped.

    Yields:
        Name of the list, and an item, in the order of the file.

    Raises:
        UserError: If the file is missing, is something else, breaks off or is damaged; if a list is missing,
            is none, or is there twice.
    """
    check_json(path, "{")
    try:
        yield from _Reader(path, decoded(path)).lists(names)
    except UserError:
        raise
    except (ValueError, RecursionError, MemoryError, StopIteration) as error:
        raise UserError(f"'{path}' is damaged JSON ({error}). Fetch the file anew.") from error


class _Reader:
    """A place in a text, and what can be read from there."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text, self.at = path, text, 0
        self.scan = json.JSONDecoder().raw_decode

    def lists(self, names: Collection[str]) -> Iterator[tuple[str, Any]]:
        found: set[str] = set()
        with tqdm(
            total=len(self.text),
            unit="B",
            unit_scale=True,
            desc=f"Reading {self.path.name}",
            disable=len(self.text) < _LARGE,
            leave=False,
        ) as bar:
            for name in self._members():
                if name not in names:
                    self._value()
                    continue
                if name in found or self._peek() != "[":
                    what = "is there twice" if name in found else f"should be list, not {self._kind()}"
                    raise UserError(f"'{self.path}': '{name}' {what}.")
                found.add(name)
                for item in self._items():
                    yield name, item
                    if self.at - bar.n > _STRIDE:
                        bar.update(self.at - bar.n)
        if missing := [name for name in names if name not in found]:
            raise UserError(f"'{self.path}' has no '{missing[0]}'.")
        if self._peek():
            raise json.JSONDecodeError("Extra data", self.text, self.at)

    def _members(self) -> Iterator[str]:
        """Yield each key of an object, the place being that of its value, which must be read meanwhile."""
        for _ in self._sequence("{", "}"):
            if self._peek() != '"':
                raise json.JSONDecodeError("Expecting a key in double quotes", self.text, self.at)
            key = self._value()
            self._expect(":")
            yield key

    def _items(self) -> Iterator[Any]:
        for _ in self._sequence("[", "]"):
            yield self._value()

    def _sequence(self, opening: str, closing: str) -> Iterator[None]:
        """Yield before each element between two brackets; the element must be read meanwhile."""
        self._expect(opening)
        if self._peek() != closing:
            yield
            while self._peek() != closing:
                self._expect(",")
                yield
        self._expect(closing)

    def _kind(self) -> str:
        return type(self._value()).__name__

    def _peek(self) -> str:
        match = _WHITE.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.text[self.at : self.at + 1]

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise json.JSONDecodeError(f"Expecting '{character}'", self.text, self.at)
        self.at += 1

    def _value(self) -> Any:
        self._peek()
        value, self.at = self.scan(self.text, self.at)
        return value
