"""What a check finds, by kind: which kinds there are, and which of them make it fail."""

from __future__ import annotations

from dataclasses import dataclass, field

# Kinds of problems that make a check fail; the value says what it means.
ERRORS = {
    "file": "a file cannot be read",
    "row": "a row of a CSV or JSONL file cannot be used",
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
# Kinds that are shown and counted; they make a check fail only if it is strict.
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
# kinds each of which is told: there are few, or each is to be mended in its own place
_ALL_TOLD = ("count", "row")


@dataclass
class Problems:
    """What a check finds: by kind, how often it occurs and the first few examples, in words."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count a problem; ``kind`` is a key of `KINDS`."""
        if kind not in KINDS:
            raise KeyError(kind)
        self.counts[kind] = self.counts.get(kind, 0) + count
        kept = self.examples.setdefault(kind, [])
        if len(kept) < _EXAMPLES or kind in _ALL_TOLD:
            kept.append(example)

    def failed(self, strict: bool = False) -> bool:
        """Return whether the check fails."""
        return any(kind in ERRORS or strict for kind in self.counts if kind != "not compared")

    def ordered(self) -> list[tuple[str, int]]:
        """Return the kinds that occur, with how often, the gravest first."""
        return [(kind, self.counts[kind]) for kind in KINDS if kind in self.counts]
