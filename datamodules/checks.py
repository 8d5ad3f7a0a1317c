"""Checks on records that came from a file."""

from __future__ import annotations

from typing import Any

from gl_ris.errors import UserError

MAX_SIDE = 65_535
"""Images wider or higher than this (the limit of JPEG) are taken for damage in the annotations."""

MAX_PIXELS = 178_956_970
"""Images of more pixels are taken for damage, too: Pillow does not open them."""

KEY = (int, str)
"""Types that an id may have."""

MAX_KEY = 1_000
"""An id may have so many characters."""


def require_fields(record: Any, where: str, **kinds: tuple[type, ...]) -> None:
    """Check that ``record`` is a dict that has the given fields, each of one of the given types exactly.

    Exactly, because True is an int to ``isinstance``, but never to an annotator.

    Raises:
        UserError: Naming ``where`` and the first field at fault. An id may also be too large.

    Example:
        >>> require_fields({"id": 7}, "'a.json': image 0", id=KEY)
    """
    if not isinstance(record, dict):
        raise UserError(f"{where} is {type(record).__name__}, not a dict of fields.")
    for field, kind in kinds.items():
        if field not in record:
            raise UserError(f"{where} has no '{field}'.")
        if type(record[field]) not in kind:
            wanted = " or ".join(k.__name__ for k in kind)
            raise UserError(f"{where}: '{field}' should be {wanted}, not {type(record[field]).__name__}.")
        if kind == KEY:
            _require_short(record[field], f"{where}: '{field}'")


def _require_short(key: int | str, where: str) -> None:
    """Check that an id is of a size that ids have.

    Raises:
        UserError: If it is not.
    """
    if isinstance(key, int) and not -(2**63) <= key < 2**63:
        raise UserError(f"{where} is a number of more than 64 bits.")
    if isinstance(key, str) and len(key) > MAX_KEY:
        raise UserError(f"{where} has {len(key):,} characters.")


def require_size(record: dict[str, Any], where: str) -> None:
    """Check that the ``height`` and ``width`` of a record are those of an image.

    Raises:
        UserError: If one is missing, no whole number, below 1 or above `MAX_SIDE`, or both together make
            more than `MAX_PIXELS`.
    """
    require_fields(record, where, height=(int,), width=(int,))
    height, width = record["height"], record["width"]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise UserError(f"{where} is said to be {width!s:.20} x {height!s:.20} pixels.")
