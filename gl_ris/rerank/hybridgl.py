"""HybridGL's relation stage: the best three masks compared with the best for the anchors, by one word.

Published: Liu et al., "Hybrid Global-Local Representation with Augmented Spatial Guidance" (CVPR 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from gl_ris.rerank.base import Reranker
from gl_ris.rerank.regions import Regions
from gl_ris.rerank.rules import Boxes, preset

if TYPE_CHECKING:
    from spacy.tokens import Doc

# how many of the best masks take part, and of those for the anchors
CANDIDATES, ANCHORS = 3, 6
# The predicate of `preset` for each flag, and the words that raise it.
FLAGS: dict[str, tuple[str, frozenset[str]]] = {
    "left": ("left", frozenset({"left", "west"})),
    "right": ("right", frozenset({"right", "east"})),
    "up": ("above", frozenset({"above", "north", "top", "back", "behind"})),
    "down": ("below", frozenset({"below", "south", "under", "front"})),
    "big": ("bigger", frozenset({"bigger", "larger", "closer"})),
    "small": ("smaller", frozenset({"smaller", "tinier", "further", "smallest"})),
    "within": ("inside", frozenset({"inside", "within", "contained"})),
}
# chunks of these are no anchors ...
_NO_ANCHORS = frozenset({"who", "what", "which", "middle"}).union(*(words for _, words in FLAGS.values())) - {
    "smallest"
}
# ... and with an anchor of these, no word is a relation: "the part on the left side of the picture".
_NOWHERE = frozenset({"part", "image", "side", "picture", "half", "region", "section", "photo"})


def relation(
    p: Tensor, anchors: Tensor | None, boxes: Boxes, flag: str, k: int = CANDIDATES, k_anchors: int = ANCHORS
) -> tuple[Tensor, Tensor]:
    """Weigh the best masks by how they stand to the best masks for the anchors.

    ``r_a = sum over j of p_a q_j R_aj``, j over the ``k_anchors`` best masks of q; without anchors over the ``k`` best of
    p, with p for q, a among them. Without a flag every term is p_a.

    Args:
        p: ``(N,)`` probabilities of the masks.
        anchors: ``(N,)``, q, the same for the anchors; None where there are none.
        boxes: float ``(N, 4)`` XYXY, or `Regions`.
        flag: ``"none"`` or a key of `FLAGS`.
        k: Candidates; with fewer masks, all.
        k_anchors: Masks for the anchors, likewise.

    Returns:
        The candidates, int64 ``(k,)``, the best first, and their weights ``(k,)``: the softmax of r.
    """
    found, q = _best(p, k), p if anchors is None else anchors
    others = found if anchors is None else _best(q, k_anchors)
    if flag == "none":
        return found, (len(others) * p[found]).softmax(dim=0)
    holds = preset("hybridgl")[FLAGS[flag][0]](boxes).to(p.dtype)[found][:, others]
    return found, (p[found] * (holds @ q[others])).softmax(dim=0)


def _best(p: Tensor, k: int) -> Tensor:
    return p.argsort(descending=True, stable=True)[:k]


@dataclass(frozen=True)
class Flagged:
    """What HybridGL reads of an expression."""

    # noun chunks other than that of the target
    anchors: tuple[str, ...]
    # "none" or a key of `FLAGS`
    flag: str


def read_flag(doc: Doc, fixed: bool = False) -> Flagged:
    """Read anchors and flag of an expression in lower case, parsed by spaCy.

    The flag is that of the word whose syntactic head comes first in the text. The published code compares "right" with a
    set of words, so that it never raises a flag; ``fixed`` lets it.
    """
    from gl_ris.text import noun_phrase

    target = noun_phrase(doc, published=True)
    others = [chunk for chunk in doc.noun_chunks if chunk.text != target and chunk.root.text not in _NO_ANCHORS]
    raised = [
        (token.head.i, token.i, flag)
        for token in doc
        for flag, (_, words) in FLAGS.items()
        if token.text in words and (fixed or flag != "right")
    ]
    nowhere = not raised or any(chunk.root.text in _NOWHERE for chunk in others)
    return Flagged(tuple(chunk.text for chunk in others), "none" if nowhere else min(raised)[2])


class HybridGLRelation(Reranker):
    """The relation stage as published, after any scorer; the probabilities of several anchors are averaged.

    (HybridGL averages features of "a photo of {anchor}", which it alone has, and goes on with coherence: see
    `gl_ris.scorers`.)
    """

    best = CANDIDATES
    fixed: ClassVar[bool] = False

    def read(self, texts: Sequence[str]) -> list[Flagged]:
        """Read anchors and flags, of lower-case text whose tokens are joined by blanks."""
        from gl_ris.text import load_parser, published_texts

        pipeline = load_parser(self.parser)
        return [read_flag(doc, self.fixed) for doc in pipeline.pipe(published_texts(texts, self.parser))]

    def phrases(self, parsed: Flagged) -> list[str]:
        """Name the anchors."""
        return list(parsed.anchors)

    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Flagged, regions: Regions) -> Tensor:
        """Weigh the candidates by `relation`; what does not take part weighs nothing."""
        anchors = phrases.mean(dim=0) if len(phrases) else None
        found, weights = relation(sentence, anchors, regions, parsed.flag, self.top or len(sentence))
        return torch.zeros_like(sentence).index_copy(0, found, weights)


class HybridGLRelationFixed(HybridGLRelation):
    """The same, where "right" is a relation, too."""

    fixed = True
