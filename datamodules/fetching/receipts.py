"""What was fetched, noted beside it, so that a second call knows that nothing is left to do."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datamodules.fetching.catalogue import Item, Made
from gl_ris.files import write_json

DOWNLOADS = "downloads"
"""Folder below the root for archives, unfinished parts and receipts."""


def receipt_path(item: Item, root: Path) -> Path:
    """Return where the receipt of an item lies."""
    return root / DOWNLOADS / f"{item.name}.json"


def write_receipt(item: Item, root: Path, source: str, checked: str) -> None:
    """Note that an item is complete, and by what one knows it again: sizes of files, numbers of files."""
    made = {made.path: _measure(made, root) for made in item.makes}
    note = {"source": source, "checked": checked, "made": made, "when": datetime.now(UTC).isoformat()}
    write_json(receipt_path(item, root), note)


def read_receipt(item: Item, root: Path) -> dict[str, Any] | None:
    """Return the receipt of an item, if it has one and what it speaks of is there unchanged."""
    try:
        note = json.loads(receipt_path(item, root).read_bytes())
        unchanged = all(note["made"][made.path] == _measure(made, root) for made in item.makes)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if unchanged else None


def missing(item: Item, root: Path) -> list[Made]:
    """Return what an item should have made and is not there or not complete."""
    return [made for made in item.makes if made.found(root) is None]


def _measure(made: Made, root: Path) -> dict[str, int]:
    path = made.found(root)
    if path is None:
        raise FileNotFoundError(root / made.path)
    return {"files": made.number(root)} if made.files else {"bytes": path.stat().st_size}
