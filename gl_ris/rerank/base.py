"""What a re-ranker is, and how one is found by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from gl_ris.errors import UserError, unknown_name
from gl_ris.rerank.regions import Regions
from gl_ris.scorers.base import class_by_path

NONE = "none"
_NAMED = {
    "full": "gl_ris.rerank.full.Full",
    "hybridgl": "gl_ris.rerank.hybridgl.HybridGLRelation",
    "hybridgl_fixed": "gl_ris.rerank.hybridgl.HybridGLRelationFixed",
    "reclip": "gl_ris.rerank.reclip.ReCLIP",
}


class Reranker(ABC):
    """Changes the scores of the masks by what an expression says of where they are; see `Reranked`.

    A re-ranker is a subclass with `rerank`. What is read of an expression is `gl_ris.parsing.Parsed`, unless
    `read` says otherwise; then `phrases` says what is scored beside the sentence.

    Attributes:
        best: How many of the best masks take part by default; None for all.

    Args:
        parser: What parses expressions: see `gl_ris.text.load_parser`.
        top: How many of the best masks take part; None for `best`.

    Raises:
        UserError: ``top`` is less than 1.
    """

    best: ClassVar[int | None] = None

    def __init__(self, parser: Any = None, top: int | None = None) -> None:
        if top is not None and top < 1:
            raise UserError(f"top={top} must be 1 or more, the number of masks that are ranked anew, or null.")
        self.parser, self.top = parser, top or self.best

    @abstractmethod
    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Any, regions: Regions) -> Tensor:
        """Score the masks of an image anew, for one expression.

        Args:
            sentence: float64 ``(N,)``, probabilities of the masks by the scores of the whole expression. All ``N``
                masks have pixels, whatever ``top`` is.
            phrases: float64 ``(P, N)``, the same by the scores of each of `phrases`.
            parsed: What `read` returns of the expression.
            regions: The masks.

        Returns:
            ``(N,)``, higher is better. Of masks that are not among the best ``top`` the value has no influence.
        """

    def read(self, texts: Sequence[str]) -> list[Any]:
        """Take expressions apart: a `Parsed` for each."""
        from gl_ris.parsing import kept_parses

        return list(kept_parses(texts, self.parser))

    def phrases(self, parsed: Any) -> list[str]:
        """Name what is scored beside the whole expression: its head, or all of it if there is none, and anchors."""
        return [parsed.head or parsed.text, *parsed.anchors]


def load_reranker(name: str) -> type[Reranker]:
    """Find a re-ranker by a name (``full``, ``hybridgl``, ``hybridgl_fixed``, ``reclip``) or the path of a class.

    Raises:
        UserError: There is none of that name, or the path does not lead to a `Reranker`.
    """
    if "." not in name and name not in _NAMED:
        raise unknown_name("rerank", name, [NONE, *_NAMED, "the path of a class"])
    return class_by_path(_NAMED.get(name, name), "Re-ranker", Reranker)


def check_reranking(rerank: str, top: int | None) -> None:
    """Raise what `load_reranker` and `Reranker` raise, before anything is loaded."""
    if rerank != NONE:
        load_reranker(rerank)(None, top)
