"""Dependency trees that are built by hanging words on words."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

from tools.parser.convert import Tree

TAG_MAP: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parents[2] / "configs" / "parser" / "tag_map.json").read_text(encoding="utf-8")
)


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
    order: list[Node] = []
    parents: dict[int, Node] = {}

    def visit(node: Node) -> None:
        for child in node.left:
            parents[id(child)] = node
            visit(child)
        order.append(node)
        for child in node.right:
            parents[id(child)] = node
            visit(child)

    visit(root)
    index = {id(node): i for i, node in enumerate(order)}
    for node, after in itertools.pairwise(order):
        if node.word == "a" and after.word[0] in "aeiou":
            node.word = "an"
    glued = [node.tag in {",", ".", "POS"} for node in order]
    return {
        "words": [node.word for node in order],
        "spaces": [*(not after for after in glued[1:]), False],
        "heads": [index[id(parents.get(id(node), node))] for node in order],
        "deps": [node.dep for node in order],
        "tags": [node.tag for node in order],
        "pos": [TAG_MAP[node.tag]["POS"] for node in order],
    }
