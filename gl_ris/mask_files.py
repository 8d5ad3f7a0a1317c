"""Masks that any program predicted, one for an expression, as they are found in a file or a folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from torch import Tensor

from gl_ris.errors import UserError, in_short, unknown_name
from gl_ris.expression_ids import ExpressionIds, Key, Unknown
from gl_ris.files import decode
from gl_ris.pictures import opened, read_mask
from gl_ris.proposals import given
from gl_ris.proposals.coco_results import said_size

_LARGEST, _LONGEST = 4 << 30, 64 << 20  # bytes of a file, and of a line; larger ones are not opened
_SHOWN = 3  # so many of what is wrong are named
_FIX = "It must be a JSON list of objects with image_id, sent_id or ref_id, and segmentation."
_NONE = b"null"
_TWICE, _UNKNOWN = "for an expression that has one already", "of no expression of the split"
_NOT_CLEAR = "for which the expression is not clear"
_MENDED = {
    _TWICE: "leave one for each expression",
    _UNKNOWN: "take them out, or name their data by data= and split=",
    _NOT_CLEAR: "give their ids as the data set has them",
}

Size = tuple[int, int]


class _Line(msgspec.Struct, gc=False):
    """A line or an entry; what else it has is left alone."""

    image_id: int | str | float
    segmentation: msgspec.Raw
    sent_id: int | str | None = None
    ref_id: int | str | None = None
    method: Any = None
    failure: Any = None


class Found(NamedTuple):
    """A mask in a file, not yet decoded."""

    where: str  # the line, entry or file, for messages
    ids: dict[str, Any] | str  # of the expression, or its name
    mask: msgspec.Raw | Path | None  # None where the file says that there is none
    method: str | None = None  # who made it, where the file says so
    failure: str | None = None  # why there is none, where the file says so

    def size(self) -> Size | None:
        """Return the ``(H, W)`` that it says, before it is decoded; None of polygons."""
        if isinstance(self.mask, Path):
            with self._told(), opened(self.mask, "mask") as image:
                return image.height, image.width
        return None if self.mask is None else said_size(self.mask)

    def read(self, size: Size) -> Tensor:
        """Return the mask, bool ``(H, W)``; a `UserError` if it is damaged or of another size."""
        assert self.mask is not None
        with self._told():
            if isinstance(self.mask, Path):
                return read_mask(self.mask, *size)
            return given.read_mask(msgspec.json.decode(self.mask), *size)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(f"{self.where}: the mask is damaged ({in_short(error).rstrip('.')}).") from error


def read_found(path: Path, format: str | None = None) -> list[Found]:
    """Read what masks there are; nothing is decoded.

    ``format`` is jsonl (also the predictions.jsonl of a run of ours), coco (a JSON list of COCO results) or
    png (a folder); None recognises it. A `UserError` if there is no such file, or it is damaged.
    """
    if format not in (None, *READERS):
        raise unknown_name("format", format, READERS)
    if not (path.is_dir() or path.is_file()):
        raise UserError(f"There are no predictions at '{path}': no file or folder of that name.")
    if path.is_file() and path.stat().st_size > _LARGEST:
        raise UserError(f"'{path}' is a file of {path.stat().st_size:,} bytes, more than is read.")
    kind = format or _recognised(path)
    if path.is_dir() != (kind == "png"):
        raise UserError(f"'{path}' cannot be of format {kind}, of which only png is a folder.")
    found = list(READERS[kind](path))
    if not found:
        raise UserError(f"'{path}' holds no prediction (format {kind}).")
    return found


def _recognised(path: Path) -> str:
    if path.is_dir():
        return "png"
    with path.open("rb") as file:
        start = file.read(4096).lstrip()
    return "coco" if start[:1] == b"[" else "jsonl"


def _lines(path: Path) -> Iterator[Found]:
    read = msgspec.json.Decoder(_Line).decode
    with path.open("rb") as file:
        for number in itertools.count(1):
            if not (line := file.readline(_LONGEST)):
                return
            where = f"'{path}', line {number:,}"
            try:
                if len(line) == _LONGEST:
                    raise ValueError(f"it has more than {_LONGEST >> 20} MB")
                if line.strip():
                    yield _found(where, read(line))
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{where} is damaged ({in_short(error)}); a line is an object with image_id, sent_id or "
                    "ref_id, and segmentation (a mask, or null for none)."
                ) from error


def _entries(path: Path) -> Iterator[Found]:
    for number, entry in enumerate(decode(path, list[_Line], "list of COCO results", _FIX), start=1):
        yield _found(f"'{path}', entry {number:,}", entry)


def _found(where: str, line: _Line) -> Found:
    image = line.image_id
    image = int(image) if isinstance(image, float) and image.is_integer() else image
    ids = {"image_id": image, "sent_id": line.sent_id, "ref_id": line.ref_id}
    method, failure = (text if isinstance(text, str) else None for text in (line.method, line.failure))
    return Found(
        where, ids, None if bytes(line.segmentation) == _NONE else line.segmentation, method, failure
    )


def _pictures(folder: Path) -> Iterator[Found]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == ".png" and not path.name.startswith("."):
            yield Found(f"'{path}'", path.stem, path)


READERS: dict[str, Callable[[Path], Iterable[Found]]] = {
    "jsonl": _lines,
    "coco": _entries,
    "png": _pictures,
}


def by_expression(found: Iterable[Found], ids: ExpressionIds) -> dict[Key, Found]:
    """Find out what each mask is about; a `UserError` names those of no expression, and doubled ones."""
    known: dict[Key, Found] = {}
    wrong: dict[str, list[str]] = {}
    for one in found:
        try:
            key = ids.named(one.ids) if isinstance(one.ids, str) else ids.find(one.ids)
            if known.setdefault(key, one) is not one:
                wrong.setdefault(_TWICE, []).append(f"{one.where} (the first: {known[key].where})")
        except ValueError as error:
            what = _UNKNOWN if isinstance(error, Unknown) else _NOT_CLEAR
            wrong.setdefault(what, []).append(f"{one.where} ({error})")
    for what, places in wrong.items():
        more = f", and {len(places) - _SHOWN:,} more" if len(places) > _SHOWN else ""
        some = "; ".join(places[:_SHOWN])
        raise UserError(f"There are predictions {what} ({len(places):,}): {some}{more}; {_MENDED[what]}.")
    return known


def check_sizes(found: Iterable[tuple[Found, Size]]) -> None:
    """Raise a `UserError` if a mask says another size than that of its image, ``(H, W)``."""
    said = ((one, one.size(), size) for one, size in found)
    wrong = [(one, own, size) for one, own, size in said if own not in (None, size)]
    if wrong:
        one, own, size = wrong[0]
        more = f", and so it is for {len(wrong):,} masks" if len(wrong) > 1 else ""
        assert own is not None
        raise UserError(
            f"{one.where}: the mask is of {own[0]} x {own[1]} pixels (height x width), its image is of "
            f"{size[0]} x {size[1]}{more}. Masks must be of the size of the original "
            "image; make or resize them anew."
        )
