"""Why something could not be fetched."""

from __future__ import annotations


class SourceFailed(RuntimeError):
    """One source does not give what it should; the message is the reason, and the next source is tried."""


class TryAgain(SourceFailed):
    """A source failed in a way that may pass.

    Attributes:
        after: Seconds that the server asked to wait, or None.
        weight: How many of the attempts it uses up; a host that is not there is soon given up.
    """

    def __init__(self, reason: str, after: float | None = None, weight: int = 1) -> None:
        super().__init__(reason)
        self.after = after
        self.weight = weight


class FetchFailed(RuntimeError):
    """No source gave an item; the message says why, and what to put where by hand."""
