"""A small grammar of referring expressions that draws phrases together with their dependency trees.

The trees follow spaCy's English labels and the attachment habits of its released models: positions
before a noun are its modifiers, words and phrases after the noun hang on that noun.  The phrases aim
at structure, not at sense ("a cake petting the left hydrant").
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.parser.convert import Tree


def _config(name: str) -> Any:
    path = Path(__file__).parents[2] / "configs" / "parser" / name
    return json.loads(path.read_text(encoding="utf-8"))


WORDS: dict[str, list[str]] = _config("words.json")
TAG_MAP: dict[str, dict[str, str]] = _config("tag_map.json")


@dataclass
class Node:
    """A word with what hangs on it: left children in reading order, right children in reading order."""

    word: str
    tag: str
    dep: str
    left: list[Node] = field(default_factory=list)
    right: list[Node] = field(default_factory=list)

    def add(self, *children: Node) -> Node:
        """Hang children on the right and return this node."""
        self.right.extend(children)
        return self


def to_tree(root: Node) -> Tree:
    """Read the words off in order and number their heads."""

    def visit(node: Node, head: Node) -> Iterator[tuple[Node, Node]]:
        for child in node.left:
            yield from visit(child, node)
        yield node, head
        for child in node.right:
            yield from visit(child, node)

    order, heads = zip(*visit(root, root), strict=True)
    index = {id(node): i for i, node in enumerate(order)}
    for node, after in itertools.pairwise(order):
        if node.word == "a" and after.word[0] in "aeiou":
            node.word = "an"
    glued = [node.tag in {",", ".", "POS"} for node in order]
    return {
        "words": [node.word for node in order],
        "spaces": [*(not after for after in glued[1:]), False],
        "heads": [index[id(head)] for head in heads],
        "deps": [node.dep for node in order],
        "tags": [node.tag for node in order],
        "pos": [TAG_MAP[node.tag]["POS"] for node in order],
    }


class Grammar:
    """Draws whole expressions: nouns with phrases and clauses around them; every method returns new nodes."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def maybe(self, chance: float) -> bool:
        """True with the given chance."""
        return self.rng.random() < chance

    def word(self, kind: str | list[str], tag: str, dep: str) -> Node:
        """One word as a leaf, of a list or of the list in `WORDS`."""
        return Node(self.rng.choice(WORDS[kind] if isinstance(kind, str) else kind), tag, dep)

    def noun(self, dep: str, *, article: float = 0.5, rich: float = 0.5, position: float = 0.0) -> Node:
        """A noun with left modifiers: chances of an article, of each kind of adjective, of a position."""
        head = self._bare_noun(dep)
        left: list[Node] = []
        plural = head.tag == "NNS"
        if self.maybe(article):
            left.append(self._determiner(plural))
        if self.maybe(position):
            left.extend(self._position())
        if self.maybe(rich * 0.35):
            left.append(self.word("sizes", "JJ", "amod"))
        if self.maybe(rich * 0.25):
            degree = ("superlatives", "JJS") if self.maybe(0.6) else ("comparatives", "JJR")
            left.append(self.word(*degree, "amod"))
        if self.maybe(rich * 0.35):
            left.append(self.word("looks", "JJ", "amod"))
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
            return self.word("plurals", "NNS", dep)
        if draw < 0.23:
            numbered = Node(str(self.rng.randrange(100)), "CD", "nummod")
            return Node("number", "NN", dep).add(numbered)
        if draw < 0.26:
            clothing = self.noun("compound", article=0, rich=0.6)
            clothing.tag = "NN"
            return Node(self.rng.choice(WORDS["people"]), "NN", dep, left=[clothing])
        return self.word("people" if draw < 0.5 else "things", "NN", dep)

    def _determiner(self, plural: bool) -> Node:
        draw = self.rng.random()
        if draw < 0.04:
            owner = self.word("people", "NN", "poss").add(Node("'s", "POS", "case"))
            owner.left = [Node(self.rng.choice(["the", "a"]), "DT", "det")] if self.maybe(0.6) else []
            return owner
        if draw < 0.1:
            return self.word("owners", "PRP$", "poss")
        if plural and draw < 0.5:
            return self.word("numbers", "CD", "nummod")
        return Node("the" if plural or self.maybe(0.6) else "a", "DT", "det")

    def _colour(self) -> Node:
        colour = self.word("colours", "JJ", "amod")
        draw = self.rng.random()
        if draw < 0.12:
            colour.add(Node("and", "CC", "cc"), self.word("colours", "JJ", "conj"))
        elif draw < 0.2:
            colour.left = [self.word("shades", "JJ", "amod")]
        elif draw < 0.25:
            colour.left = [self.word("degrees", "RB", "advmod")]
        return colour

    def _position(self) -> list[Node]:
        draw = self.rng.random()
        if draw < 0.25:
            ordinal = self.word("ordinals", "JJ", "amod")
            if self.maybe(0.5):
                article = [Node("the", "DT", "det")] if self.maybe(0.3) else []
                side = Node(self.rng.choice(WORDS["sides"]), "NN", "pobj", left=article)
                ordinal.add(Node("from", "IN", "prep").add(side))
            return [ordinal]
        side = self.word("sides", "JJ", "amod")
        if draw < 0.35:
            side.left = [Node("far", "RB", "advmod")]
        elif draw < 0.42:
            side.add(Node("most", "RBS", "advmod"))
        elif draw < 0.6:
            return [self.word("edges", "JJ", "amod"), self.word("columns", "JJ", "amod")]
        return [side]

    def postmodified(self, dep: str, depth: int = 0, *, position: float = 0.0, article: float = 0.5) -> Node:
        """A noun with up to two phrases on its right."""
        head = self.noun(dep, article=article, rich=0.6 if depth else 0.8, position=position)
        for _ in range(self.rng.choice([0, 1, 1, 1, 2]) if depth < 2 else 0):
            # the more often a kind of phrase is listed, the more often it is drawn
            head.add(*getattr(self, f"_{self.rng.choice(WORDS['phrases'])}")(depth))
        return head

    def _object(self, dep: str, depth: int) -> Node:
        if self.maybe(0.04):
            return self.word("pronouns", "PRP", dep)
        thing = self.postmodified(dep, depth + 1) if self.maybe(0.3) else self.noun(dep, article=0.7)
        if self.maybe(0.06):
            thing.add(Node("and", "CC", "cc"), self.noun("conj", article=0.4))
        return thing

    def _prepositional(self, depth: int) -> list[Node]:
        return [self.word("prepositions", "IN", "prep").add(self._object("pobj", depth))]

    def _in_colour(self, depth: int) -> list[Node]:
        return [Node("in", "IN", "prep").add(self.word("colours", "NN", "pobj"))]

    def _with(self, depth: int) -> list[Node]:
        held = self._object("pobj", depth)
        if self.maybe(0.15):
            held = self.noun("pobj", article=0, rich=0.2)
            held.left.insert(0, Node("no", "DT", "det"))
        elif self.maybe(0.25):
            ends = [Node(word, "RB", "advmod") for word in ("down", "up", "on")]
            side = Node("to", "IN", "prep").add(Node("us", "PRP", "pobj"))
            held.add(self.rng.choice([*ends, side]))
        return [Node("with", "IN", "prep").add(held)]

    def _side(self, depth: int) -> list[Node]:
        place = self.word([*WORDS["sides"], "corner", "background", "foreground", "edge"], "NN", "pobj")
        if self.maybe(0.25):
            place.left = [self.word("side_degrees", "JJ", "amod")]
        if self.maybe(0.6):
            place.left.insert(0, Node("the", "DT", "det"))
        if self.maybe(0.3):
            place.add(*self._of(depth))
        return [self.word(["on", "in", "at", "to", "from"], "IN", "prep").add(place)]

    def _bare_side(self, depth: int) -> list[Node]:
        side = self.word("bare_sides", "RB", "advmod")
        if self.maybe(0.5):
            side.left = [self.word("bare_side_degrees", "RB", "advmod")]
        if self.maybe(0.3):
            side.add(*self._of(depth))
        return [side]

    def _activity(self, dep: str, depth: int) -> Node:
        # a verb in -ing with its object or place
        if self.maybe(0.5):
            return self.word("actions", "VBG", dep).add(self._object("dobj", depth))
        verb = self.word("states", "VBG", dep)
        if self.maybe(0.15):
            verb.add(self.word("particles", "RP", "prt"))
        if self.maybe(0.65):
            places = [self._prepositional, self._prepositional, self._next_to, self._side]
            verb.add(*self.rng.choice(places)(depth))
        elif self.maybe(0.3):
            purpose = self.word("purposes", "VB", "advcl")
            purpose.left = [Node("to", "TO", "aux")]
            verb.add(purpose.add(self._object("dobj", depth)))
        if self.maybe(0.15):
            verb.add(self.word("actions", "VBG", "advcl").add(self._object("dobj", depth)))
        return verb

    def _doing(self, depth: int) -> list[Node]:
        verb = self._activity("acl", depth)
        if self.maybe(0.1):
            verb.add(Node("and", "CC", "cc"), self._activity("conj", depth))
        return [Node(",", ",", "punct"), verb] if self.maybe(0.1) else [verb]

    def _not_doing(self, depth: int) -> list[Node]:
        verb = self._activity("acl", depth)
        verb.left = [Node("not", "RB", "neg")]
        return [verb]

    def _done(self, depth: int) -> list[Node]:
        verb = self.word("participles", "VBN", "acl")
        if self.maybe(0.4):
            verb.left = [Node("being", "VBG", "auxpass")]
            if self.maybe(0.7):
                verb.add(Node("by", "IN", "agent").add(self._object("pobj", depth)))
            return [verb]
        return [verb.add(*self._prepositional(depth))]

    def _predicate(self, dep: str, depth: int) -> Node:
        # a verb phrase with a finite verb: "is riding a bike", "has a hat", "is half full"
        draw = self.rng.random()
        if draw < 0.45:
            verb = self._activity(dep, depth)
            verb.left = [Node("is", "VBZ", "aux")]
        elif draw < 0.55:
            verb = self._done(depth)[0]
            verb.dep = dep
            verb.left = [Node("is", "VBZ", "auxpass"), *(node for node in verb.left if node.word == "being")]
        elif draw < 0.7:
            verb = Node("is", "VBZ", dep).add(*self._prepositional(depth))
        elif draw < 0.82:
            look = self.word(WORDS["looks"] + WORDS["sizes"], "JJ", "acomp")
            verb = Node("is", "VBZ", dep).add(look)
            if self.maybe(0.2):
                look.left = [self.word("look_degrees", "RB", "advmod")]
        elif draw < 0.9:
            verb = Node("is", "VBZ", dep).add(*self._nearest(depth))
            verb.right[0].dep = "acomp"
        else:
            verb = self.word(["has", *WORDS["finite"]], "VBZ", dep).add(self._object("dobj", depth))
        return verb

    def _relative(self, depth: int) -> list[Node]:
        verb = self._predicate("relcl", depth)
        pronoun, tag = self.rng.choice([("that", "WDT"), ("that", "WDT"), ("which", "WDT"), ("who", "WP")])
        verb.left.insert(0, Node(pronoun, tag, "nsubjpass" if verb.tag == "VBN" else "nsubj"))
        return [verb]

    def _object_relative(self, depth: int) -> list[Node]:
        verb = self.word(WORDS["actions"] + WORDS["states"], "VBG", "relcl")
        verb.left = [self.noun("nsubj", article=0.9, rich=0.3), Node("is", "VBZ", "aux")]
        if self.maybe(0.8):
            verb.left.insert(0, self.word(["that", "which"], "WDT", "dobj"))
        return [verb.add(self.word(["on", "in", "at", "with"], "IN", "prep"))] if self.maybe(0.5) else [verb]

    def _whose(self, depth: int) -> list[Node]:
        owned = self.word("owned", "NN", "nsubj")
        owned.left = [Node("whose", "WP$", "poss")]
        verb = self._predicate("relcl", depth)
        verb.left.insert(0, owned)
        return [verb]

    def _of(self, depth: int) -> list[Node]:
        return [Node("of", "IN", "prep").add(self._object("pobj", depth))]

    def _next_to(self, depth: int) -> list[Node]:
        if self.maybe(0.5):
            to = Node("to", "IN", "prep").add(self._object("pobj", depth))
            return [Node("next", "RB", "advmod").add(to)]
        start, noun = self.rng.choice([("in", "front"), ("on", "top"), ("to", "left"), ("to", "right")])
        place = Node(noun, "NN", "pobj", left=[Node("the", "DT", "det")] if start == "to" else [])
        return [Node(start, "IN", "prep").add(place.add(*self._of(depth)))]

    def _nearest(self, depth: int) -> list[Node]:
        degree = self.word(["closest", "nearest", "farthest"], "JJS", "amod")
        target = Node("us", "PRP", "pobj") if self.maybe(0.3) else self._object("pobj", depth)
        return [degree.add(self.word(["to", "from"], "IN", "prep").add(target))]

    def _apposed(self, depth: int) -> list[Node]:
        return [Node(",", ",", "punct"), self.noun("appos", article=0.1, rich=0.8)]

    def expression(self) -> Node:
        """One whole expression: a noun phrase (mostly), a clause about it, or "there is ..."."""
        draw = self.rng.random()
        if draw < 0.45:
            root = self.postmodified("ROOT", position=0.35, article=0.2)
        elif draw < 0.8:
            root = self.postmodified("ROOT", article=0.95)
        elif draw < 0.97:
            root = self._predicate("ROOT", 0)
            subject = self.postmodified("nsubj", 1, article=0.9, position=0.05)
            root.left.insert(0, subject)
        else:
            root = Node("is", "VBZ", "ROOT", left=[Node("there", "EX", "expl")])
            root.add(self.postmodified("attr", 1, article=0.9))
        if draw > 0.45 and self.maybe(0.15):
            root.add(Node(".", ".", "punct"))
        return root
