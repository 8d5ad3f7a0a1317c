"""ReCLIP's relations: a tree of entities, soft in the anchors and hard in the geometry.

Published: Subramanian et al., "ReCLIP: A Strong Zero-Shot Baseline for Referring Expression Comprehension"
(ACL 2022), with the settings of its code: no "between", and what belongs to an entity is scored with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from gl_ris.rerank.base import Reranker
from gl_ris.rerank.geometry import Regions
from gl_ris.rerank.rules import Rule, preset

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span, Token

    _Chains = tuple[list[tuple[list[Token], Token]], list[list[Token]]]

# predicates by their words, in the order in which they are looked for
RELATIONS = {
    "left": {"left", "west"},
    "right": {"right", "east"},
    "above": {"above", "north", "top", "back", "behind"},
    "below": {"below", "south", "under", "front"},
    "bigger": {"bigger", "larger", "closer"},
    "smaller": {"smaller", "tinier", "further"},
    "inside": {"inside", "within", "contained"},
}
SUPERLATIVES = {
    "left": {"left", "west", "leftmost", "western"},
    "right": {"right", "rightmost", "east", "eastern"},
    "above": {"above", "north", "top"},
    "below": {"below", "south", "underneath", "front"},
    "bigger": {"bigger", "biggest", "larger", "largest", "closer", "closest"},
    "smaller": {"smaller", "smallest", "tinier", "tiniest", "further", "furthest"},
}
# what no relation leads to: "the man in the left part of the picture"
_NOWHERE = {"part", "image", "side", "picture", "half", "region", "section"}
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
        return sentence * _evaluated(parsed, shares, preset("reclip"), regions)


def _evaluated(
    entity: Entity, shares: Mapping[str, Tensor], rules: Mapping[str, Rule], regions: Regions
) -> Tensor:
    p = shares[entity.text]
    for kind, anchor in entity.relations:
        p = _times(p, rules[kind](regions).to(p.dtype) @ _evaluated(anchor, shares, rules, regions))
    for kind in entity.superlatives:
        p = _times(p, rules[kind](regions).to(p.dtype) @ p)
    return p


def _times(p: Tensor, truth: Tensor) -> Tensor:
    product = p * truth
    return product / product.sum() if product.sum() > 0 else p


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
    span, relations, joined = chunks[head.i], [], None
    related, extremes = _chains(head, head, [], chunks)
    for words, token in related:
        entity, kind = _entity(token, chunks), _first(words, RELATIONS)
        if kind is None:
            joined = chunks[token.i]
        elif entity is not None:
            relations.append((kind, entity))
    superlatives = [_first(words, SUPERLATIVES) for words in extremes]
    text = span.text if joined is None else _joined(span, joined)
    return Entity(text, tuple(relations), tuple(kind for kind in superlatives if kind))


def _first(words: Iterable[Token], keywords: Mapping[str, set[str]]) -> str | None:
    said = {word.text for word in words}
    return next((kind for kind, own in keywords.items() if said & own), None)


def _chains(token: Token, head: Token, words: list[Token], chunks: Mapping[int, Span]) -> _Chains:
    """Follow the words that depend on a head to other entities, and to the ends where superlatives are.

    Returns the words on the way to each other entity with it, and the words of each superlative.
    """
    inside, keyword = token.i in chunks, token.text in _RELATING | _NOWHERE
    if inside and chunks[token.i] is not chunks[head.i] and not keyword:
        return [(words, token)], []
    children = list(token.children)
    if not children:
        return [], _extreme([*words, token])
    relations, extremes = [], []
    ahead = [*words, token] if not inside or keyword or token.text in _EXTREME else words
    for child in children:
        if inside and chunks.get(child.i) is chunks[token.i] and child.text not in _EXTREME:
            # "the goat on the left"
            extremes += _extreme([*words, token]) if len(children) == 1 else []
            continue
        more, most = _chains(child, head, ahead, chunks)
        relations += more
        extremes += most
    return relations, extremes


def _extreme(words: list[Token]) -> list[list[Token]]:
    return [words] if _first(words, SUPERLATIVES) else []


def _joined(span: Span, other: Span) -> str:
    """Return the words of a noun chunk with all on the way to another one, and all that depends on that."""
    found = set(span)
    reached = {token for word in span for token in word.subtree}
    for token in reached.intersection(other):
        found |= {*token.ancestors, *token.subtree}
    return " ".join(token.text for token in sorted(found, key=lambda token: token.i))
