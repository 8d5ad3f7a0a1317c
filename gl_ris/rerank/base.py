"""What a re-ranker is, and how one is found by name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from gl_ris.errors import UserError, unknown_name
from gl_ris.rerank.geometry import Regions
from gl_ris.scorers.base import class_by_path

NONE = "none"
_NAMED = {
    "full": "gl_ris.rerank.full.Full",
    "hybridgl": "gl_ris.rerank.hybridgl.HybridGLRelation",
    "hybridgl_fixed": "gl_ris.rerank.hybridgl.HybridGLRelationFixed",
    "reclip": "gl_ris.rerank.reclip.ReCLIP",
}
CHOICES = (NONE, *_NAMED)


class Reranker(ABC):
    """Ranks masks anew by what an expression says of where they are; a subclass has `rerank`.

    What is read of an expression is its `gl_ris.parsing.Parsed`, unless `read` and `phrases` say otherwise.

    Args:
        parser: What parses expressions: see `gl_ris.text.load_parser`.
        top: How many of the best masks take part; None for ``best`` of the class, where None are all.

    Raises:
        UserError: ``top`` is less than 1.
    """

    best: ClassVar[int | None] = None

    def __init__(self, parser: Any = None, top: int | None = None) -> None:
        check_top(top)
        self.parser, self.top = parser, top or self.best

    @abstractmethod
    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Any, regions: Regions) -> Tensor:
        """Score the masks of an image anew, for one expression.

        Args:
            sentence: float64 ``(N,)``, the masks' probabilities by their scores for the whole expression: all
                masks that have pixels, whatever ``top`` is.
            phrases: float64 ``(P, N)``, the same for each of `phrases`.
            parsed: What `read` returns of the expression.
            regions: The masks.

        Returns:
            ``(N,)``, higher is better; of masks that are not among the best ``top`` it has no influence.
        """

    def read(self, texts: Sequence[str]) -> list[Any]:
        """Take expressions apart."""
        from gl_ris.parsing import kept_parses

        return list(kept_parses(texts, self.parser))

    def phrases(self, parsed: Any) -> list[str]:
        """Name what is scored beside the whole expression: the head, or all of it if it has none; anchors."""
        return [parsed.head or parsed.text, *parsed.anchors]


def check_top(top: int | None) -> None:
    """Raise a `UserError` for a number of masks that is less than 1."""
    if top is not None and top < 1:
        raise UserError(f"top={top} must be 1 or more, the number of masks that are ranked anew, or null.")


def load_reranker(name: str) -> type[Reranker]:
    """Find a re-ranker: ``full``, ``hybridgl``, ``hybridgl_fixed``, ``reclip``, or the path of a class.

    Raises:
        UserError: There is none of that name, or the path does not lead to a `Reranker`.
    """
    if "." not in name and name not in _NAMED:
        raise unknown_name("rerank", name, [*CHOICES, "the path of a class"])
    found: type[Reranker] = class_by_path(_NAMED.get(name, name), "Re-ranker", Reranker)
    return found


def check_reranking(rerank: str, top: int | None) -> None:
    """Raise what is wrong with the settings before anything is loaded: a `UserError`."""
    check_top(top)
    if rerank != NONE:
        load_reranker(rerank)(None, top)
    elif top is not None:
        raise UserError(
            f"top={top} says how many of the best masks are ranked anew, but rerank=none ranks none: leave "
            "top out, or give rerank=full."
        )
