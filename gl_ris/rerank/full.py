"""Everything that a parsed expression says, weighed softly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from gl_ris.parsing import Parsed, Relation
from gl_ris.rerank.base import Reranker
from gl_ris.rerank.regions import Regions
from gl_ris.rerank.rules import ORDERS, PLACES, RULES, SUPERLATIVES, Rule, ordinal

# how much the whole sentence weighs beside its head, once rules tell what its other words mean
_SENTENCE = 0.5
# the chance that what an expression says was taken wrongly, so that nothing excludes a mask
_SLIP = 0.02


class Full(Reranker):
    """Weighs each mask by its head, the sentence, and each rule that the expression calls for.

    The weight is a product: of the probability of the head's phrase, that of the sentence to the power of one
    half, and of how far each relation, place, superlative, ordinal and size is true of the mask. A relation is
    true as far as it is to the best mask for its anchor, whose own relations count likewise; ordinals,
    superlatives and sizes are among the masks of the head's kind. An expression that calls for no rule leaves
    the scores of the sentence as they are. What `rerank` returns is the logarithm.
    """

    rules: ClassVar[Mapping[str, Rule]] = RULES
    places: ClassVar[Mapping[str, Rule]] = PLACES

    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Parsed, regions: Regions) -> Tensor:
        """Weigh the masks; see the class."""
        # how likely each is of the kind that a phrase names, whatever the others are
        kinds = phrases / phrases.amax(dim=1, keepdim=True)
        truths = [*self.places_of(parsed, kinds[0], regions), *self.related(None, parsed, kinds[1:], regions)]
        if not truths:
            return sentence.log()
        return _SENTENCE * sentence.log() + phrases[0].log() + sum(_surely(truth).log() for truth in truths)

    def places_of(self, parsed: Parsed, kind: Tensor, regions: Regions) -> Iterator[Tensor]:
        """Yield how far each mask is at each place, superlative, ordinal, and of the size."""
        yield from (self.places[place](regions) for place in parsed.places)
        ranks = [(SUPERLATIVES[name], 1) for name in parsed.superlatives]
        for order, k in [*ranks, *([parsed.ordinal] if parsed.ordinal else [])]:
            yield ordinal(ORDERS[order](regions), kind, k)
        if parsed.size:
            yield _sized(parsed.size, kind, regions)

    def related(
        self, of: int | None, parsed: Parsed, kinds: Tensor, regions: Regions, above: tuple[int, ...] = ()
    ) -> Iterator[Tensor]:
        """Yield how far each mask, as the head (``of`` None) or an anchor, is in each of its relations."""
        left = [relation for relation in parsed.relations if relation.of == of]
        while left:
            first = left.pop(0)
            matrix = self.rules[first.kind](regions)
            anchors = [first]
            # what is between has two anchors; with one it is between two of a kind
            if matrix.ndim == 3:
                anchors.append(left.pop(0) if left and left[0].kind == first.kind else first)
            for relation in anchors:
                matrix = self._anchored(matrix, relation, parsed, kinds, regions, above)
            yield 1 - matrix if first.negated else matrix

    def _anchored(
        self, matrix: Tensor, relation: Relation, parsed: Parsed, kinds: Tensor, regions: Regions, above: tuple[int, ...]
    ) -> Tensor:
        """Put the best mask for an anchor in the second place of ``(N, N, ...)``."""
        kind, number = kinds[relation.anchor], relation.anchor
        # an expression that turns in a circle is followed once
        if number not in above:
            for truth in self.related(number, parsed, kinds, regions, (*above, number)):
                kind = kind * _surely(truth)
        kind = kind / kind.max()
        return (matrix * kind.view(-1, *[1] * (matrix.ndim - 2))).amax(dim=1)


def _surely(truth: Tensor) -> Tensor:
    return _SLIP + (1 - _SLIP) * truth.clamp(0, 1)


def _sized(size: str, kind: Tensor, regions: Regions) -> Tensor:
    """Compare with the mean mask of the kind: the share of the others that are smaller, or larger."""
    others = kind * (1 - torch.eye(len(kind), dtype=kind.dtype, device=kind.device))
    total = others.sum(dim=1)
    larger = (ORDERS["big"](regions) * others).sum(dim=1)
    # alone of its kind it is neither
    share = torch.where(total > 1e-6, larger / total.clamp(min=1e-6), 0.5)
    return {"big": share, "small": 1 - share, "medium": 1 - (2 * share - 1).abs()}[size]
