"""The other floor: the largest proposal."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gl_ris.clip.context import ImageContext
from gl_ris.scorers.base import Scorer


class LargestProposal(Scorer):
    """The area of a mask, whatever the expression says.

    The model and all settings have no influence.
    """

    name = "largest"
    title = "Largest"

    def texts(self, expressions: Sequence[str], noun_phrases: Sequence[str] | None = None) -> list[str]:
        """Nothing is encoded."""
        return []

    def score(
        self, context: ImageContext, expressions: Sequence[str], noun_phrases: Sequence[str] | None
    ) -> Tensor:
        """Score by the number of pixels."""
        return context.masks.flatten(1).sum(dim=1).expand(len(expressions), -1)
