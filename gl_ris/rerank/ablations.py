"""`full` with something taken away, to measure what is left: ``rerank=gl_ris.rerank.ablations.Places``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

from gl_ris.parsing import Parsed
from gl_ris.rerank.full import Full


class _Only(Full):
    """`full`, but of what an expression says some fields alone are read, head and anchors apart."""

    fields: ClassVar[tuple[str, ...]]

    def read(self, texts: Sequence[str]) -> list[Any]:
        """Take expressions apart, and leave the other fields empty."""
        found: list[Parsed] = super().read(texts)
        bare = [Parsed(one.text, one.head, one.anchors) for one in found]
        kept = [{name: getattr(one, name) for name in self.fields} for one in found]
        return [replace(one, **own) for one, own in zip(bare, kept, strict=True)]


class Relations(_Only):
    """The relations alone."""

    fields = ("relations",)


class Places(_Only):
    """The places in the picture alone."""

    fields = ("places",)


class Ordinals(_Only):
    """Ordinals and superlatives alone."""

    fields = ("ordinal", "superlatives")


class Sizes(_Only):
    """The sizes alone."""

    fields = ("size",)


class Shuffled(Full):
    """The control: `full` reads the words of an expression in another order, while the scorer sees it whole.

    The order depends on the expression alone. What this still gains comes of words, not of understanding.
    """

    def read(self, texts: Sequence[str]) -> list[Any]:
        """Take apart what the shuffled words say."""
        words = [text.split() for text in texts]
        mixed = [Random(text).sample(own, len(own)) for text, own in zip(texts, words, strict=True)]
        return super().read([" ".join(own) for own in mixed])
