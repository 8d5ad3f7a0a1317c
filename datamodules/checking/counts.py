"""Counts per split: published ones, read from ``counts.yaml``, and found ones beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

COUNTS = Path(__file__).with_name("counts.yaml")
KINDS = ("refs", "images", "sentences")


@dataclass(frozen=True)
class Expected:
    """A published count.

    Attributes:
        count: The number.
        verified: Whether it is to be asserted; a recalled one is only shown.
    """

    count: int
    verified: bool


@dataclass(frozen=True)
class Published:
    """What is published of one partition.

    Attributes:
        by: ``image`` if no image stands in two splits, ``object`` if one may, None if that is not known.
        source: Where the numbers are from.
        splits: Expected counts by split and kind.
        within: Splits that are a part of another one, e.g. ``{"miniv": "val"}``.
    """

    by: str | None = None
    source: str = ""
    splits: Mapping[str, Mapping[str, Expected]] = field(default_factory=dict)
    within: Mapping[str, str] = field(default_factory=dict)


@cache
def known_names() -> tuple[str, ...]:
    """Return the names of the data sets whose counts are known."""
    return tuple(_entries())


def published(name: str, partition: str) -> Published | None:
    """Return what is published of a partition, or None."""
    entry = _entries().get(name, {}).get(partition)
    if not isinstance(entry, dict):
        return None
    splits = {
        split: {kind: _expected(value) for kind, value in counts.items()}
        for split, counts in entry["splits"].items()
    }
    return Published(entry.get("by"), entry.get("source", ""), splits, entry.get("within", {}))


@cache
def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = yaml.safe_load(COUNTS.read_text(encoding="utf-8"))
    return entries


def _expected(value: int | str) -> Expected:
    return Expected(int(str(value).rstrip("?")), not str(value).endswith("?"))


@dataclass
class Found:
    """Counts of one split as they are in the files."""

    refs: int = 0
    images: int = 0
    sentences: int = 0


def differences(found: Mapping[str, Found], partition: str, known: Published) -> list[str]:
    """Name every count that is not as published.

    Args:
        found: Counts by split, of the splits that were read.
        partition: Name of the partition, for the message.
        known: What is published.

    Returns:
        One sentence per difference; counts that are not verified make none.
    """
    lines = []
    for split, counts in found.items():
        for kind, expected in known.splits.get(split, {}).items():
            count = getattr(counts, kind)
            if expected.verified and count != expected.count:
                lines.append(f"{kind} of {split}: {count:,}, expected {expected.count:,} ({partition})")
        if split not in known.splits:
            lines.append(f"split {split}: not one of {', '.join(known.splits)} ({partition})")
    return lines
