"""A scorer whose best masks are ranked anew."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.clip.image import ImageContext
from gl_ris.masks import tight_boxes
from gl_ris.rerank.base import NONE, Reranker, load_reranker
from gl_ris.rerank.regions import Regions
from gl_ris.scorers.base import Scorer, Texts


def reranked(scorer: Scorer, rerank: str, top: int | None) -> Scorer:
    """Let a re-ranker by name follow a scorer; ``"none"`` returns the scorer itself. Raises as `Reranker` does."""
    return scorer if rerank == NONE else Reranked(scorer, load_reranker(rerank)(scorer.parser, top))


class Reranked(Scorer):
    """Scores masks as another scorer does, then ranks the best of them anew by what the expression says.

    It keeps the name and the title of the other, which scores expressions and their phrases in one call.
    What it gives is on the scale of the re-ranker (the logarithm of a weight by default); masks that did not
    take part follow behind, in their order.

    Args:
        inner: Any scorer.
        reranker: What ranks anew.
    """

    def __init__(self, inner: Scorer, reranker: Reranker) -> None:
        settings = inner.alpha, inner.beta, inner.masked_blocks, inner.recipe, inner.parser
        super().__init__(inner.clip, *settings)
        # in a tuple, not as a module: both hold the same model, which is registered once
        self._inner, self.reranker = (inner,), reranker
        self.name, self.title, self.settings_at_once = inner.name, inner.title, inner.settings_at_once
        self._known: dict[str, tuple[Any, list[str]]] = {}

    def prepare(self, context: ImageContext) -> None:
        """Compute ahead what the scorer does."""
        self._inner[0].prepare(context)

    def texts(self, expressions: Texts, noun_phrases: Texts | None = None) -> list[str]:
        """Everything that will be encoded, phrases of the expressions included."""
        return self._inner[0].texts(*self._with_phrases(expressions, noun_phrases))

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Score expressions and phrases, and rank anew the masks that have pixels."""
        (scorer,), texts = self._inner, self._with_phrases(expressions, noun_phrases)
        scores = scorer.score(context, *texts)
        scorer._check_scores(scores, len(texts[0]), len(context.masks))
        usable = context.occupied.nonzero().flatten()
        ranked = scores.new_full((self.settings_at_once * len(expressions), len(scores[0])), -torch.inf).double()
        if len(usable):
            regions = _regions(context, usable)
            settings = scores[:, usable].unflatten(0, (self.settings_at_once, -1))
            # phrases stand behind the expressions
            place = {text: row for row, text in enumerate(texts[0]) if row >= len(expressions)}
            rows = [
                self._anew(own[row], own[[place[phrase] for phrase in self._known[text][1]]], text, regions)
                for own in settings
                for row, text in enumerate(expressions)
            ]
            ranked[:, usable] = torch.stack(rows)
        return ranked

    def _anew(self, sentence: Tensor, phrases: Tensor, text: str, regions: Regions) -> Tensor:
        """Rank the masks anew for one expression, ``(N,)``; those outside the best come behind."""
        (scorer,), (parsed, _) = self._inner, self._known[text]
        shares = scorer.probabilities(sentence), scorer.probabilities(phrases)
        found = self.reranker.rerank(*shares, parsed, regions)
        if found.shape != sentence.shape:
            name, shape = type(self.reranker).__name__, tuple(found.shape)
            raise ValueError(f"{name}.rerank gave {shape}, expected is a score for each of {len(sentence)} masks.")
        found = found.double()
        behind = sentence.argsort(descending=True, stable=True)[self.reranker.top or len(sentence) :]
        if len(behind):
            inside = torch.ones_like(sentence, dtype=torch.bool).index_fill(0, behind, False)
            found[behind] = found[inside].min() - 1 - (sentence[behind[0]] - sentence[behind]).double()
        return found

    def _with_phrases(
        self, expressions: Texts, noun_phrases: Texts | None
    ) -> tuple[list[str], list[str] | None]:
        """Return expressions with their phrases behind them, each once, and the noun phrases of all."""
        new = [text for text in dict.fromkeys(expressions) if text not in self._known]
        for text, parsed in zip(new, self.reranker.read(new) if new else [], strict=True):
            self._known[text] = parsed, self.reranker.phrases(parsed)
        phrases = list(dict.fromkeys(phrase for text in expressions for phrase in self._known[text][1]))
        if noun_phrases is None and self._inner[0].text_weight() < 1:
            noun_phrases = self._inner[0]._phrases(expressions, None)
        return [*expressions, *phrases], None if noun_phrases is None else [*noun_phrases, *phrases]


def _regions(context: ImageContext, usable: Tensor) -> Regions:
    every = len(usable) == len(context.masks)
    bits = context.bits if every else Bits(context.masks[usable])
    height, width = context.image.shape[1:]
    return Regions(tight_boxes(bits).double(), (height, width), bits)
