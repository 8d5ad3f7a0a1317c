"""A scorer whose best masks are ranked anew."""

from typing import Any

import torch
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.clip.image import ImageContext
from gl_ris.masks import tight_boxes
from gl_ris.rerank.base import NONE, Reranker, load_reranker
from gl_ris.rerank.geometry import Regions
from gl_ris.scorers.base import Scorer, Texts


def reranked(scorer: Scorer, rerank: str, top: int | None) -> Scorer:
    """Let a re-ranker by name follow a scorer, which stays as it is for ``"none"``; see `load_reranker`."""
    return scorer if rerank == NONE else Reranked(scorer, load_reranker(rerank)(scorer.parser, top))


class Reranked(Scorer):
    """Scores masks as ``inner`` does, any scorer, then ranks the best of them anew by ``reranker``.

    It keeps name and title of the scorer, which scores expressions and their phrases in one call. Scores are
    on the scale of the re-ranker; masks that did not take part follow behind, in their order.
    """

    def __init__(self, inner: Scorer, reranker: Reranker) -> None:
        settings = inner.alpha, inner.beta, inner.masked_blocks, inner.recipe, inner.parser
        super().__init__(inner.clip, *settings)
        # in a tuple, not as a module: both hold the same model, which is registered once
        self._inner, self.reranker = (inner,), reranker
        self.name, self.title, self.settings_at_once = inner.name, inner.title, inner.settings_at_once
        self.missing, self.in_order = inner.missing, inner.in_order
        if hasattr(inner, "maps"):
            self.maps = inner.maps  # as those tell who ask whether there are any
        self._known: dict[str, tuple[Any, list[str]]] = {}

    def prepare(self, context: ImageContext) -> None:
        """Compute ahead what the scorer does."""
        self._inner[0].prepare(context)

    def texts(self, expressions: Texts, noun_phrases: Texts | None = None) -> list[str]:
        """Everything that will be encoded, phrases of the expressions included."""
        return self._inner[0].texts(*self._with_phrases(expressions, noun_phrases))

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Score expressions and phrases, and rank anew the masks that have pixels."""
        texts, phrases = self._with_phrases(expressions, noun_phrases)
        scores = self._inner[0].score(context, texts, phrases)
        self._check_scores(scores, len(texts), len(context.masks))
        usable, count = context.occupied.nonzero().flatten(), len(expressions)
        ranked = scores.new_zeros(self.settings_at_once * count, len(context.masks), dtype=torch.float64)
        if len(usable):
            regions, row_of = _regions(context, usable), {text: row for row, text in enumerate(texts[count:])}
            ranked[:, usable] = torch.stack(
                [
                    self._anew(
                        own[row], own[[count + row_of[one] for one in self._known[text][1]]], text, regions
                    )
                    for own in scores[:, usable].unflatten(0, (self.settings_at_once, -1))
                    for row, text in enumerate(expressions)
                ]
            )
        return ranked

    def _anew(self, sentence: Tensor, phrases: Tensor, text: str, regions: Regions) -> Tensor:
        """Rank all masks anew for one expression, ``(N,)``, but let those outside the best follow behind."""
        p, others = (self._inner[0].probabilities(scores) for scores in (sentence, phrases))
        found = self.reranker.rerank(p, others, self._known[text][0], regions)
        if not isinstance(found, Tensor) or found.shape != sentence.shape:
            name, got = type(self.reranker).__name__, tuple(getattr(found, "shape", ()))
            raise ValueError(
                f"{name}.rerank gave {got}, expected is a score for each of {len(sentence)} masks."
            )
        order = sentence.argsort(descending=True, stable=True)
        inside, behind = order.tensor_split([self.reranker.top or len(order)])
        rest = sentence[behind].double() - sentence.max() - 1 + found[inside].min()
        # what the scorer leaves out is never chosen
        return found.double().index_copy(0, behind, rest).masked_fill(sentence.isneginf(), -torch.inf)

    def _with_phrases(self, expressions: Texts, noun_phrases: Texts | None) -> tuple[list[str], Texts | None]:
        """Return expressions with their phrases behind them, each once, and the noun phrases of all."""
        new = [text for text in dict.fromkeys(expressions) if text not in self._known]
        for text, parsed in zip(new, self.reranker.read(new) if new else [], strict=True):
            self._known[text] = parsed, self.reranker.phrases(parsed)
        phrases = list(dict.fromkeys(phrase for text in expressions for phrase in self._known[text][1]))
        if noun_phrases is None and self._inner[0].text_weight() < 1:
            noun_phrases = self._inner[0]._phrases(expressions, None)
        return [*expressions, *phrases], noun_phrases and [*noun_phrases, *phrases]


def _regions(context: ImageContext, usable: Tensor) -> Regions:
    bits = context.bits if len(usable) == len(context.masks) else Bits(context.masks[usable])
    height, width = context.image.shape[1:]
    return Regions(tight_boxes(bits).double(), (height, width), bits)
