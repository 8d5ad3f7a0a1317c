"""What a check finds, kind by kind: how grave it is, how often it occurs, and a few examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# Kinds of problems that make a check fail; the value says what it means.
ERRORS = {
    "file": "a file cannot be read",
    "count": "a count is not as published",
    "split missing": "a published split is not there",
    "duplicate id": "an id stands for two things",
    "shared image": "an image stands in two splits",
    "image missing": "an image file is not there",
    "image unreadable": "an image cannot be decoded, or has another size than annotated",
    "image name": "the name of an image leads out of its folder",
    "mask faulty": "the outline of a target is damaged, or of another size than its image",
    "mask empty": "the target has no pixel",
}
# Kinds that are told and counted; they make a check fail only if it is strict.
NOTES = {
    "mask full": "the target is the whole image",
    "mask tiny": "the target has very few pixels",
    "mask leaves image": "the outline of a target goes beyond its image",
    "sentence empty": "an expression is empty or blank",
    "ref without sentences": "a ref has no expression; it is not evaluated",
    "image in two splits": "an image stands in two splits; the partition is by object or unknown",
    "not compared": "counts are not compared",
}
KINDS = ERRORS | NOTES
_EXAMPLES = 5


@dataclass
class Problems:
    """Problems by kind.

    Attributes:
        counts: How often each kind occurs.
        examples: The first few of each, in words.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count a problem; ``kind`` is a key of `KINDS`."""
        if kind not in KINDS:
            raise KeyError(kind)
        self.counts[kind] = self.counts.get(kind, 0) + count
        kept = self.examples.setdefault(kind, [])
        if len(kept) < _EXAMPLES or kind == "count":
            kept.append(example)

    def extend(self, found: Iterable[tuple[str, str]]) -> None:
        """Count many: pairs of kind and example."""
        for kind, example in found:
            self.add(kind, example)

    def failed(self, strict: bool = False) -> bool:
        """Return whether the check fails."""
        return any(kind in ERRORS or strict for kind in self.counts if kind != "not compared")

    def ordered(self) -> list[str]:
        """Return the kinds that occur, the gravest first."""
        return [kind for kind in KINDS if kind in self.counts]
