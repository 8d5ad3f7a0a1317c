"""A small grammar of referring expressions that draws phrases together with their dependency trees.

The trees follow spaCy's English labels and the attachment habits of its released models: positions
before a noun are its modifiers, words and phrases after the noun hang on that noun.  The phrases aim
at structure, not at sense ("a cake petting the left hydrant").
"""

from __future__ import annotations

from collections.abc import Callable

from tools.parser.nodes import Node
from tools.parser.nouns import WORDS, NounGrammar


class Grammar(NounGrammar):
    """Draws whole expressions: nouns with phrases and clauses behind them; every method returns new nodes."""

    def postmodified(self, dep: str, depth: int = 0, *, position: float = 0.0, article: float = 0.5) -> Node:
        """A noun with up to two phrases on its right."""
        head = self.noun(dep, article=article, rich=0.6 if depth else 0.8, position=position)
        for _ in range(self.rng.choice([0, 1, 1, 1, 2]) if depth < 2 else 0):
            head.add(*self.rng.choice(self._tails())(depth))
        return head

    def _tails(self) -> list[Callable[[int], list[Node]]]:
        return [
            *[self._prepositional] * 4,
            self._in_colour,
            self._with,
            self._side,
            self._bare_side,
            *[self._doing] * 2,
            self._done,
            *[self._relative] * 2,
            self._object_relative,
            self._whose,
            self._of,
            self._next_to,
            self._nearest,
            self._not_doing,
            self._apposed,
        ]

    def _object(self, dep: str, depth: int) -> Node:
        if self.maybe(0.04):
            return Node(self.rng.choice(["us", "it", "them", "him", "her"]), "PRP", dep)
        thing = self.postmodified(dep, depth + 1) if self.maybe(0.3) else self.noun(dep, article=0.7)
        if self.maybe(0.06):
            thing.add(Node("and", "CC", "cc"), self.noun("conj", article=0.4))
        return thing

    def _prepositional(self, depth: int) -> list[Node]:
        return [self.word(WORDS["prepositions"], "IN", "prep").add(self._object("pobj", depth))]

    def _in_colour(self, depth: int) -> list[Node]:
        return [Node("in", "IN", "prep").add(self.word(WORDS["colours"], "NN", "pobj"))]

    def _with(self, depth: int) -> list[Node]:
        held = self._object("pobj", depth)
        if self.maybe(0.15):
            held = self.noun("pobj", article=0, rich=0.2)
            held.left.insert(0, Node("no", "DT", "det"))
        elif self.maybe(0.25):
            side = Node("to", "IN", "prep").add(Node("us", "PRP", "pobj"))
            held.add(
                self.rng.choice(
                    [
                        Node("down", "RB", "advmod"),
                        Node("up", "RB", "advmod"),
                        Node("on", "RB", "advmod"),
                        side,
                    ]
                )
            )
        return [Node("with", "IN", "prep").add(held)]

    def _side(self, depth: int) -> list[Node]:
        place = self.word([*WORDS["sides"], "corner", "background", "foreground", "edge"], "NN", "pobj")
        if self.maybe(0.25):
            place.left = [
                self.word(["far", "top", "bottom", "upper", "lower", "very", "left", "right"], "JJ", "amod")
            ]
        if self.maybe(0.6):
            place.left.insert(0, Node("the", "DT", "det"))
        if self.maybe(0.3):
            place.add(Node("of", "IN", "prep").add(self._object("pobj", depth)))
        return [self.word(["on", "in", "at", "to", "from"], "IN", "prep").add(place)]

    def _bare_side(self, depth: int) -> list[Node]:
        side = self.word(
            ["left", "right", "center", "front", "back", "top", "bottom", "middle"], "RB", "advmod"
        )
        if self.maybe(0.5):
            side.left = [
                self.word(["far", "top", "bottom", "upper", "lower", "front", "back"], "RB", "advmod")
            ]
        if self.maybe(0.3):
            side.add(Node("of", "IN", "prep").add(self._object("pobj", depth)))
        return [side]

    def _activity(self, dep: str, depth: int) -> Node:
        """A verb in -ing with its object or place."""
        if self.maybe(0.5):
            return self.word(WORDS["actions"], "VBG", dep).add(self._object("dobj", depth))
        verb = self.word(WORDS["states"], "VBG", dep)
        if self.maybe(0.15):
            verb.add(self.word(["up", "down", "over", "back"], "RP", "prt"))
        if self.maybe(0.65):
            verb.add(
                *self.rng.choice([self._prepositional, self._prepositional, self._next_to, self._side])(depth)
            )
        elif self.maybe(0.3):
            purpose = Node(
                self.rng.choice(["eat", "catch", "hit", "swing", "throw", "drink", "get"]), "VB", "advcl"
            )
            purpose.left = [Node("to", "TO", "aux")]
            verb.add(purpose.add(self._object("dobj", depth)))
        if self.maybe(0.15):
            verb.add(self.word(WORDS["actions"], "VBG", "advcl").add(self._object("dobj", depth)))
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
        verb = self.word(WORDS["participles"], "VBN", "acl")
        if self.maybe(0.4):
            verb.left = [Node("being", "VBG", "auxpass")]
            return (
                [verb.add(Node("by", "IN", "agent").add(self._object("pobj", depth)))]
                if self.maybe(0.7)
                else [verb]
            )
        return [verb.add(*self._prepositional(depth))]

    def _predicate(self, dep: str, depth: int) -> Node:
        """A verb phrase with a finite verb: "is riding a bike", "has a hat", "is half full"."""
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
                look.left = [self.word(["half", "very", "not", "mostly"], "RB", "advmod")]
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
        owned = self.word(
            ["face", "hair", "head", "back", "shirt", "hat", "door", "tail", "mouth"], "NN", "nsubj"
        )
        owned.left = [Node("whose", "WP$", "poss")]
        verb = self._predicate("relcl", depth)
        verb.left.insert(0, owned)
        return [verb]

    def _of(self, depth: int) -> list[Node]:
        return [Node("of", "IN", "prep").add(self._object("pobj", depth))]

    def _next_to(self, depth: int) -> list[Node]:
        draw = self.rng.random()
        if draw < 0.5:
            return [
                Node("next", "RB", "advmod").add(Node("to", "IN", "prep").add(self._object("pobj", depth)))
            ]
        start, noun = self.rng.choice([("in", "front"), ("on", "top"), ("to", "left"), ("to", "right")])
        place = Node(noun, "NN", "pobj", left=[Node("the", "DT", "det")] if start == "to" else [])
        return [
            Node(start, "IN", "prep").add(
                place.add(Node("of", "IN", "prep").add(self._object("pobj", depth)))
            )
        ]

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
