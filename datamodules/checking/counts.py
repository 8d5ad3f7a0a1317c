"""Published counts per split, read from ``counts.yaml``, and found ones beside them."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from gl_ris.files import read_table

COUNTS = Path(__file__).with_name("counts.yaml")


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is published of one partition."""

    source: str = ""
    splits: dict[str, dict[str, int]] = {}  # by split and what is counted
    by: Literal["image", "object"] | None = None  # image: none stands in two splits; object: one may
    not_verified: tuple[str, ...] = ()  # "SPLIT KIND" of counts that were recalled: shown, never asserted
    within: dict[str, str] = {}  # splits that are a part of another one, e.g. {"miniv": "val"}


class Count(NamedTuple):
    """One count as it is in the files, beside the published one."""

    found: int
    expected: int | None
    verified: bool  # whether the published one is to be asserted

    def __str__(self) -> str:
        """Write the count with what is known of it."""
        if self.expected is None:
            return f"{self.found:,}"
        if not self.verified:
            return f"{self.found:,} (not verified: {self.expected:,})"
        words = "ok" if self.found == self.expected else f"EXPECTED {self.expected:,}"
        return f"{self.found:,} {words}"


Counts = dict[str, dict[str, Count]]  # by split and what is counted


@cache
def read_counts() -> dict[str, dict[str, Published]]:
    """Read what is published, by data set and partition."""
    return msgspec.convert(read_table(COUNTS), dict[str, dict[str, Published]])


def compared(found: Mapping[str, Mapping[str, int]], known: Published | None) -> Counts:
    """Put published counts beside found ones, by split and what is counted."""
    known = known or Published()

    def count(split: str, kind: str, number: int) -> Count:
        expected = known.splits.get(split, {}).get(kind)
        return Count(number, expected, expected is not None and f"{split} {kind}" not in known.not_verified)

    return {
        split: {kind: count(split, kind, number) for kind, number in counts.items()}
        for split, counts in found.items()
    }


def differences(counts: Counts, partition: str, known: Published) -> Iterator[str]:
    """Name every count that is not as published, and every split that is not published; one sentence each."""
    for split, by_kind in counts.items():
        for kind, count in by_kind.items():
            if count.verified and count.found != count.expected:
                yield f"{kind} of {split}: {count.found:,}, expected {count.expected:,} ({partition})"
        if split not in known.splits:
            yield f"split {split}: not one of {', '.join(known.splits)} ({partition})"
