"""Everything that a parsed expression says, weighed softly."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from gl_ris.parsing import Parsed
from gl_ris.rerank.base import Reranker
from gl_ris.rerank.geometry import Regions
from gl_ris.rerank.rules import ORDERS, PLACES, RULES, SUPERLATIVES, Rule, ordinal

# The power of probabilities that CLIP gives, which is surer than it should be.
_TRUST = 0.5
# the chance that what an expression says was taken wrongly, so that nothing excludes a mask
_SLIP = 0.01
# heads that are true of anything: what CLIP makes of such a word says nothing of a mask
_ANYTHING = frozenset(("one", "thing", "object", "shape", "item", "something"))
# what the middle is beside another place: "middle donut top row" is nowhere near the centre
_ACROSS = dict.fromkeys(("left", "right"), "middle row")
_ACROSS |= dict.fromkeys(("top", "bottom", "front", "back"), "middle column")


class Full(Reranker):
    """Weighs each mask by its head, the sentence, and each rule that the expression calls for.

    The weight is a product: of the geometric mean of the probabilities of sentence and head, and of how far
    each relation, place, superlative, ordinal and size is true of the mask. A relation is true as far as it
    is to the best mask for its anchor, whose own relations count likewise; ordinals, superlatives and sizes
    are among the masks of the head's kind. An expression that calls for no rule keeps the sentence's order.
    """

    rules: ClassVar[Mapping[str, Rule]] = RULES
    places: ClassVar[Mapping[str, Rule]] = PLACES

    def phrases(self, parsed: Parsed) -> list[str]:
        """Name head and anchors, of what is lacked with its owner: "star with dots" can be seen."""
        head, *anchors = super().phrases(parsed)
        for lacked in (one for one in parsed.relations if one.kind == "with"):
            owner = head if lacked.of is None else parsed.anchors[lacked.of]
            # "green star" says it by itself
            if owner.split()[-1:] != anchors[lacked.anchor].split()[-1:]:
                anchors[lacked.anchor] = f"{owner} with {anchors[lacked.anchor]}"
        return [head, *anchors]

    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Parsed, regions: Regions) -> Tensor:
        """Return the logarithms of the weights."""
        if parsed.head.lower() in _ANYTHING:
            phrases = torch.cat([torch.full_like(phrases[:1], 1 / len(sentence)), phrases[1:]])
        # how likely each is of the kind that a phrase names, whatever the others are
        kinds = (phrases / phrases.amax(dim=1, keepdim=True)) ** _TRUST
        truths = [*self.alone(parsed, kinds[0], regions), *self.related(parsed, kinds[1:], regions)]
        if not truths:
            return sentence.log()
        return _TRUST * (sentence.log() + phrases[0].log()) + sum(_surely(truth).log() for truth in truths)

    def alone(self, parsed: Parsed, kind: Tensor, regions: Regions) -> Iterator[Tensor]:
        """Yield how far each mask is at each place, superlative and ordinal, and of the size."""

        def place(name: str) -> Tensor:
            across = (_ACROSS[side] for side in parsed.places if name == "middle" and side in _ACROSS)
            return self.places[next(across, name)](regions)

        def rank(order: str, k: int = 1) -> Tensor:
            return ordinal(ORDERS[SUPERLATIVES.get(order, order)](regions), kind, k)

        def size(name: str) -> Tensor:
            # the share of the others of its kind that are smaller; alone of its kind it is neither
            others = kind * (1 - torch.eye(len(kind)).to(kind))
            share = ((ORDERS["big"](regions) * others).sum(dim=1) + 5e-10) / (others.sum(dim=1) + 1e-9)
            return {"big": share, "small": 1 - share, "medium": 1 - (2 * share - 1).abs()}[name]

        truths = dict.fromkeys(parsed.places, place)
        truths |= dict.fromkeys(parsed.superlatives, rank) | ({parsed.size: size} if parsed.size else {})
        for name, truth in truths.items():
            bare = name.removeprefix("not ")
            yield truth(bare) if bare == name else 1 - truth(bare)
        if parsed.ordinal:
            yield rank(*parsed.ordinal)

    def related(
        self, parsed: Parsed, kinds: Tensor, regions: Regions, path: tuple[int | None, ...] = (None,)
    ) -> Iterator[Tensor]:
        """Yield how far masks are in each relation of the end of ``path``: an anchor, or None, the head."""
        left = [relation for relation in parsed.relations if relation.of == path[-1]]
        while left:
            first = left.pop(0)
            truth = self.rules[first.kind](regions)
            # what is between has two anchors; with one, it is between two of a kind
            second = left.pop(0) if truth.ndim == 3 and left and left[0].kind == first.kind else first
            for number in [first.anchor, second.anchor][: truth.ndim - 1]:
                kind = kinds[number]
                # a circle of relations is followed once
                for own in () if number in path else self.related(parsed, kinds, regions, (*path, number)):
                    kind = kind * _surely(own)
                truth = (truth * (kind / kind.max()).view(-1, *[1] * (truth.ndim - 2))).amax(dim=1)
            yield 1 - truth if first.negated else truth


def _surely(truth: Tensor) -> Tensor:
    return _SLIP + (1 - _SLIP) * truth.clamp(0, 1)
