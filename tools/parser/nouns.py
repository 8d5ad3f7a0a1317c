"""Nouns with what stands before them: the half of the grammar that needs no other half."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tools.parser.nodes import Node

WORDS: dict[str, list[str]] = json.loads(
    (Path(__file__).parents[2] / "configs" / "parser" / "words.json").read_text(encoding="utf-8")
)


class NounGrammar:
    """Draws nouns with their left modifiers; every method returns new nodes.

    Args:
        rng: The source of all choices.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def maybe(self, chance: float) -> bool:
        """True with the given chance."""
        return self.rng.random() < chance

    def word(self, words: list[str], tag: str, dep: str) -> Node:
        """One word of a list as a leaf."""
        return Node(self.rng.choice(words), tag, dep)

    def noun(self, dep: str, *, article: float = 0.5, rich: float = 0.5, position: float = 0.0) -> Node:
        """A noun with its left modifiers, and nothing on its right.

        Args:
            dep: Its label.
            article: Chance of an article or possessive.
            rich: Chance of each kind of adjective.
            position: Chance of a position word ("far left", "2nd from right").
        """
        head = self._bare_noun(dep)
        left: list[Node] = []
        plural = head.tag == "NNS"
        if self.maybe(article):
            left.append(self._determiner(plural))
        if self.maybe(position):
            left.extend(self._position())
        if self.maybe(rich * 0.35):
            left.append(self.word(WORDS["sizes"], "JJ", "amod"))
        if self.maybe(rich * 0.25):
            superlative = self.maybe(0.6)
            degree = (WORDS["superlatives"], "JJS") if superlative else (WORDS["comparatives"], "JJR")
            left.append(self.word(*degree, "amod"))
        if self.maybe(rich * 0.35):
            left.append(self.word(WORDS["looks"], "JJ", "amod"))
        if self.maybe(rich * 0.7):
            left.append(self._colour())
        head.left = left + head.left
        return head

    def _bare_noun(self, dep: str) -> Node:
        draw = self.rng.random()
        if draw < 0.15:
            first, last = self.rng.choice(WORDS["compounds"]).split()
            return Node(last, "NN", dep, left=[Node(first, "NN", "compound")])
        if draw < 0.22:
            return self.word(WORDS["plurals"], "NNS", dep)
        if draw < 0.23:
            numbered = Node(str(self.rng.randrange(100)), "CD", "nummod")
            return Node("number", "NN", dep).add(numbered)
        if draw < 0.26:
            clothing = self.noun("compound", article=0, rich=0.6)
            clothing.tag = "NN"
            return Node(self.rng.choice(WORDS["people"]), "NN", dep, left=[clothing])
        return self.word(WORDS["people"] if draw < 0.5 else WORDS["things"], "NN", dep)

    def _determiner(self, plural: bool) -> Node:
        draw = self.rng.random()
        if draw < 0.04:
            owner = Node(self.rng.choice(WORDS["people"]), "NN", "poss", right=[Node("'s", "POS", "case")])
            owner.left = [Node(self.rng.choice(["the", "a"]), "DT", "det")] if self.maybe(0.6) else []
            return owner
        if draw < 0.1:
            return Node(self.rng.choice(["his", "her", "its", "their"]), "PRP$", "poss")
        if plural and draw < 0.5:
            return self.word(["two", "three", "four", "2", "3"], "CD", "nummod")
        return Node("the" if plural or self.maybe(0.6) else "a", "DT", "det")

    def _colour(self) -> Node:
        colour = self.word(WORDS["colours"], "JJ", "amod")
        draw = self.rng.random()
        if draw < 0.12:
            colour.add(Node("and", "CC", "cc"), self.word(WORDS["colours"], "JJ", "conj"))
        elif draw < 0.2:
            colour.left = [self.word(["light", "dark", "bright", "pale"], "JJ", "amod")]
        elif draw < 0.25:
            colour.left = [self.word(["mostly", "very", "partially", "completely", "barely"], "RB", "advmod")]
        return colour

    def _position(self) -> list[Node]:
        draw = self.rng.random()
        if draw < 0.25:
            ordinal = self.word(WORDS["ordinals"], "JJ", "amod")
            if self.maybe(0.5):
                article = [Node("the", "DT", "det")] if self.maybe(0.3) else []
                ordinal.add(
                    Node("from", "IN", "prep").add(
                        Node(self.rng.choice(WORDS["sides"]), "NN", "pobj", left=article)
                    )
                )
            return [ordinal]
        side = self.word(WORDS["sides"], "JJ", "amod")
        if draw < 0.35:
            side.left = [Node("far", "RB", "advmod")]
        elif draw < 0.42:
            side.add(Node("most", "RBS", "advmod"))
        elif draw < 0.6:
            corner = [self.word(["top", "bottom", "upper", "lower", "back", "front"], "JJ", "amod")]
            return [*corner, self.word(["left", "right", "middle"], "JJ", "amod")]
        return [side]
