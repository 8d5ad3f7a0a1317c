"""ReCLIP's relations: a tree of entities, soft in the anchors and hard in the geometry.

Published: Subramanian et al., "ReCLIP: A Strong Zero-Shot Baseline for Referring Expression Comprehension"
(ACL 2022), with the settings of its code: no "between", and what belongs to an entity is scored with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from gl_ris.files import read_table
from gl_ris.rerank.base import Reranker
from gl_ris.rerank.geometry import Regions
from gl_ris.rerank.rules import preset

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span, Token

    _Chain = tuple[list[Token], Token | None]

KEYWORDS = read_table(Path(__file__).parents[1] / "assets" / "published_words.yaml")
RELATIONS, SUPERLATIVES, NOWHERE = (KEYWORDS[name] for name in ("relations", "superlatives", "nowhere"))
_RELATING, _EXTREME = set().union(*RELATIONS.values()), set().union(*SUPERLATIVES.values())


@dataclass(frozen=True)
class Entity:
    """Something that an expression speaks of: the text that is scored, and predicates."""

    text: str
    relations: tuple[tuple[str, Entity], ...] = ()
    superlatives: tuple[str, ...] = ()

    def phrases(self) -> list[str]:
        """Return its text and those of all below."""
        return [self.text, *(phrase for _, entity in self.relations for phrase in entity.phrases())]


class ReCLIP(Reranker):
    """The published evaluation, after any scorer.

    P of an entity is the softmax for its text; a relation multiplies P_i by the sum over j of Q_j R_ij, Q
    that of the anchor's own tree, a superlative by the sum of P_j R_ij; then the sum of P is 1 again. The
    result is the product with the softmax for the sentence; without keyword or entity, that softmax alone. A
    predicate that is true of no mask, where the published code divides 0 by 0, is left out.
    """

    def read(self, texts: Sequence[str]) -> list[Entity | None]:
        """Read the trees of expressions in lower case; None where there is no keyword or no entity."""
        from gl_ris.text import load_parser

        return [read_tree(doc) for doc in load_parser(self.parser).pipe([text.lower() for text in texts])]

    def phrases(self, parsed: Entity | None) -> list[str]:
        """Name the entities of the tree."""
        return [] if parsed is None else parsed.phrases()

    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Entity | None, regions: Regions) -> Tensor:
        """Multiply the probabilities for the sentence by those of the tree."""
        if parsed is None or len(sentence) == 1:
            return sentence
        shares = dict(zip(parsed.phrases(), phrases, strict=True))
        return sentence * _evaluated(parsed, shares, regions)


def _evaluated(entity: Entity, shares: Mapping[str, Tensor], regions: Regions) -> Tensor:
    p, rules = shares[entity.text], preset("reclip")
    for kind, anchor in (*entity.relations, *((kind, None) for kind in entity.superlatives)):
        q = p if anchor is None else _evaluated(anchor, shares, regions)
        product = p * (rules[kind](regions).to(p.dtype) @ q)
        p = product / product.sum() if product.sum() > 0 else p
    return p


def read_tree(doc: Doc) -> Entity | None:
    """Read the tree of an expression that spaCy has parsed."""
    chunks = {token.i: chunk for chunk in doc.noun_chunks for token in chunk}
    if not chunks or not any(token.text in _RELATING | _EXTREME for token in doc):
        return None
    root = next(token for token in doc if token.head.i == token.i)
    # without a noun at the root, the word on which the first noun depends
    return _entity(root, chunks) or _entity(next(doc.noun_chunks).root.head, chunks)


def _entity(head: Token, chunks: Mapping[int, Span]) -> Entity | None:
    if head.i not in chunks:
        head = next(iter(head.children), head)
    if head.i not in chunks:
        return None
    text, relations, superlatives = chunks[head.i].text, [], []
    for words, token in _chains(head, head, [], chunks):
        kind = _first(words, SUPERLATIVES if token is None else RELATIONS)
        if token is None:
            superlatives += [kind] if kind else []
        elif kind is None:
            text = _joined(chunks[head.i], chunks[token.i])
        elif entity := _entity(token, chunks):
            relations.append((kind, entity))
    return Entity(text, tuple(relations), tuple(superlatives))


def _first(words: Iterable[Token], keywords: Mapping[str, list[str]]) -> str | None:
    said = {word.text for word in words}
    return next((kind for kind, own in keywords.items() if not said.isdisjoint(own)), None)


def _chains(token: Token, head: Token, words: list[Token], chunks: Mapping[int, Span]) -> Iterator[_Chain]:
    """Yield the words that depend on a head, on the way to each other entity, with it, and to ends: None."""
    inside, keyword = token.i in chunks, token.text in _RELATING.union(NOWHERE)
    if inside and chunks[token.i] is not chunks[head.i] and not keyword:
        yield words, token
        return
    way, children = [*words, token], list(token.children)
    if not children:
        yield way, None
    ahead = way if not inside or keyword or token.text in _EXTREME else words
    for child in children:
        if not inside or chunks.get(child.i) is not chunks[token.i] or child.text in _EXTREME:
            yield from _chains(child, head, ahead, chunks)
        elif len(children) == 1:
            # "the goat on the left"
            yield way, None


def _joined(span: Span, other: Span) -> str:
    """Return the words of a noun chunk with all on the way to another one, and all that depends on that."""
    found = set(span)
    reached = {token for word in span for token in word.subtree}
    for token in reached.intersection(other):
        found |= {*token.ancestors, *token.subtree}
    return " ".join(token.text for token in sorted(found, key=lambda token: token.i))
