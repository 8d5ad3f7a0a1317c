"""HybridGL's relation stage: the best three masks compared with the best for the anchors, by one word.

Published: Liu and Li, "Hybrid Global-Local Representation with Augmented Spatial Guidance" (CVPR 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from gl_ris.rerank.base import Reranker
from gl_ris.rerank.geometry import Regions
from gl_ris.rerank.reclip import KEYWORDS, NOWHERE, RELATIONS
from gl_ris.rerank.rules import Boxes, preset

if TYPE_CHECKING:
    from spacy.tokens import Doc

# how many of the best masks take part, and of those for the anchors
CANDIDATES, ANCHORS = 3, 6
# the predicate of `preset` for each flag, and the words that raise it
FLAGS: dict[str, str] = KEYWORDS["flags"]
_RAISING = {flag: {*RELATIONS[kind], *KEYWORDS["more"].get(flag, ())} for flag, kind in FLAGS.items()}
# noun chunks of these are no anchors ...
_NO_ANCHORS = set(KEYWORDS["no_anchors"]).union(*RELATIONS.values())
# ... and beside an anchor of these no word is a relation: "the left part of the picture"
_NOWHERE = {*NOWHERE, *KEYWORDS["no_place"]}


def relation(
    p: Tensor,
    anchors_p: Tensor | None,
    boxes: Boxes,
    flag: str,
    k: int = CANDIDATES,
    k_anchors: int = ANCHORS,
) -> tuple[Tensor, Tensor]:
    """Weigh the best masks by how they stand to the best masks for the anchors.

    The weights are the softmax of ``r_a = sum over j of p_a q_j R_aj``: j over the ``k_anchors`` best of q,
    or, without anchors, over the ``k`` best of p, a among them, with p for q. Without a flag every
    term is p_a.

    Args:
        p: ``(N,)`` probabilities of the masks.
        anchors_p: ``(N,)``, q, the same for the anchors; None where there are none.
        boxes: float ``(N, 4)`` XYXY, or `Regions`.
        flag: ``"none"`` or a key of `FLAGS`.
        k: Candidates; with fewer masks, all.
        k_anchors: Masks for the anchors, likewise.

    Returns:
        The candidates, int64 ``(k,)``, the best first, and their weights, ``(k,)``.
    """
    q = p if anchors_p is None else anchors_p
    found = p.argsort(descending=True, stable=True)[:k]
    others = found if anchors_p is None else q.argsort(descending=True, stable=True)[:k_anchors]
    if flag == "none":
        return found, (len(others) * p[found]).softmax(dim=0)
    holds = preset("hybridgl")[FLAGS[flag]](boxes).to(p.dtype)[found][:, others]
    return found, (p[found] * (holds @ q[others])).softmax(dim=0)


class Flagged(NamedTuple):
    """What HybridGL reads of an expression: noun chunks beside its target's, and ``"none"`` or a flag."""

    anchors: list[str]
    flag: str


def read_flag(doc: Doc, fixed: bool = False) -> Flagged:
    """Read an expression in lower case, parsed by spaCy; the flag is of the word whose head comes first.

    The published code compares "right" with a set of words, so it never raises a flag; ``fixed`` lets it.
    """
    from gl_ris.text import noun_phrase

    target = noun_phrase(doc, published=True)
    others = [one for one in doc.noun_chunks if one.text != target and one.root.text not in _NO_ANCHORS]
    raised = [
        (token.head.i, token.i, flag)
        for token in doc
        for flag, words in _RAISING.items()
        if token.text in words and (fixed or flag != "right")
    ]
    nowhere = not raised or any(chunk.root.text in _NOWHERE for chunk in others)
    return Flagged([chunk.text for chunk in others], "none" if nowhere else min(raised)[2])


class HybridGLRelation(Reranker):
    """The relation stage as published, after any scorer: its three best masks, ordered by `relation`.

    HybridGL averages the features of its anchors; here it is their probabilities, which every scorer has.
    """

    best = CANDIDATES
    fixed: ClassVar[bool] = False

    def read(self, texts: Sequence[str]) -> list[Flagged]:
        """Read anchors and flags, of lower-case text whose tokens are joined by blanks."""
        from gl_ris.text import load_parser, published_texts

        docs = load_parser(self.parser).pipe(published_texts(texts, self.parser))
        return [read_flag(doc, self.fixed) for doc in docs]

    def phrases(self, parsed: Flagged) -> list[str]:
        """Name the anchors."""
        return parsed.anchors

    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Flagged, regions: Regions) -> Tensor:
        """Weigh the candidates; what does not take part weighs nothing."""
        anchors_p = phrases.mean(dim=0) if len(phrases) else None
        found, weights = relation(sentence, anchors_p, regions, parsed.flag, self.top or len(sentence))
        return torch.zeros_like(sentence).index_copy(0, found, weights)


class HybridGLRelationFixed(HybridGLRelation):
    """The same, where "right" is a relation, too."""

    fixed = True
