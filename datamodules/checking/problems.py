"""What a check finds, by kind: which kinds there are, and which of them make it fail."""

from dataclasses import dataclass, field
from pathlib import Path

from gl_ris.files import read_table

# kinds with what they mean: those that make a check fail, and those that do so only if it is strict
ERRORS: dict[str, str]
NOTES: dict[str, str]
ERRORS, NOTES = read_table(Path(__file__).with_name("problems.yaml")).values()
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
