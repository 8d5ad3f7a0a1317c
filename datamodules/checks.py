"""Checks on records that came from a file."""

from __future__ import annotations

from typing import Any

from gl_ris.errors import UserError

MAX_SIDE = 65_535
"""Images wider or higher than this (the limit of JPEG) are taken for damage in the annotations."""

KEY = (int, str)
"""Types that an id may have."""


def require_fields(record: Any, where: str, **kinds: tuple[type, ...]) -> None:
    """Check that ``record`` is a dict that has the given fields, each of one of the given types exactly.

    Exactly, because True is an int to ``isinstance``, but never to an annotator.

    Raises:
        UserError: Naming ``where`` and the first field at fault.

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


def require_size(record: dict[str, Any], where: str) -> None:
    """Check that the ``height`` and ``width`` of a record are those of an image.

    Raises:
        UserError: If one is missing, no whole number, below 1 or above `MAX_SIDE`.
    """
    require_fields(record, where, height=(int,), width=(int,))
    if not (1 <= record["height"] <= MAX_SIDE and 1 <= record["width"] <= MAX_SIDE):
        raise UserError(f"{where} is said to be {record['width']} x {record['height']} pixels.")
