"""Cropping, the baseline that sees each proposal alone."""

from __future__ import annotations

from gl_ris.scorers.global_local import GlobalLocal


class Cropping(GlobalLocal):
    """Similarity of the masked crop (Eq. 4) and the whole sentence (Eq. 6).

    ``alpha``, ``beta`` and ``masked_blocks`` have no influence. (The paper's Cropping is the local-visual,
    global-text cell of its Table 3.)
    """

    name = "cropping"
    title = "Cropping"

    def visual_weight(self) -> float:
        """None of the global visual feature."""
        return 0.0

    def text_weight(self) -> float:
        """Nothing but the global text feature."""
        return 1.0
