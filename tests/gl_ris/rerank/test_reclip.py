"""ReCLIP's trees, and their evaluation worked out by hand."""

from __future__ import annotations

import pytest
import torch

from gl_ris.rerank import Regions
from gl_ris.rerank.reclip import Entity, ReCLIP, read_tree
from gl_ris.text import load_parser

# from left to right: 0, 1, 2
REGIONS = Regions(torch.tensor([[0.0, 0, 10, 10], [40, 0, 50, 10], [80, 0, 90, 10]], dtype=torch.float64))
SENTENCE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a red star", None),
        ("", None),
        ("the star below the blue circle", Entity("the star", (("below", Entity("the blue circle")),))),
        ("the left star", Entity("the left star", (), ("left",))),
        ("biggest star", Entity("biggest star", (), ("bigger",))),
        ("the goat on the left", Entity("the goat", (), ("left",))),
        # "with" is no keyword: what belongs to the star, as the parser sees it, is scored with it
        (
            "the star above the circle with the dots",
            Entity("the star with the dots", (("above", Entity("the circle")),)),
        ),
    ],
)
def test_trees(text: str, tree: Entity | None) -> None:
    assert read_tree(load_parser()(text)) == tree


def test_a_relation_by_hand() -> None:
    # of the head's masks, 0 has both others to its right: 0.6 and 0.3 of the anchor; 1 has 0.3; 2 none
    head, anchor = [0.2, 0.5, 0.3], [0.1, 0.6, 0.3]
    product = [0.2 * 0.9, 0.5 * 0.3, 0.0]
    expected = [s * p / sum(product) for s, p in zip(SENTENCE.tolist(), product, strict=True)]
    tree = Entity("a", (("left", Entity("b")),))
    found = ReCLIP().rerank(SENTENCE, torch.tensor([head, anchor]).double(), tree, REGIONS)
    # the final product is not normalised
    assert found.tolist() == pytest.approx(expected, abs=1e-7)


def test_an_anchor_of_an_anchor_by_hand() -> None:
    # b is right of c: 1 has 0.5 of c to its left, 2 has 0.5 + 0.25
    b, c = [0.4, 0.4, 0.2], [0.5, 0.25, 0.25]
    own = [0.0, 0.4 * 0.5, 0.2 * 0.75]
    own = [value / sum(own) for value in own]
    product = [0.2 * (own[1] + own[2]), 0.5 * own[2], 0.0]
    expected = [s * p / sum(product) for s, p in zip(SENTENCE.tolist(), product, strict=True)]
    tree = Entity("a", (("left", Entity("b", (("right", Entity("c")),))),))
    found = ReCLIP().rerank(SENTENCE, torch.tensor([[0.2, 0.5, 0.3], b, c]).double(), tree, REGIONS)
    assert found.tolist() == pytest.approx(expected, abs=1e-7)


def test_a_superlative_by_hand() -> None:
    p = [0.2, 0.5, 0.3]
    product = [0.2 * 0.8, 0.5 * 0.3, 0.0]
    expected = [s * v / sum(product) for s, v in zip(SENTENCE.tolist(), product, strict=True)]
    found = ReCLIP().rerank(SENTENCE, torch.tensor([p]).double(), Entity("a", (), ("left",)), REGIONS)
    assert found.tolist() == pytest.approx(expected, abs=1e-7)


def test_without_a_tree_and_where_nothing_is_true_the_order_is_that_of_the_sentence() -> None:
    nothing = torch.zeros(0, 3, dtype=torch.float64)
    assert ReCLIP().rerank(SENTENCE, nothing, None, REGIONS) is SENTENCE
    assert ReCLIP().phrases(None) == []
    same = Regions(REGIONS.boxes[[0, 0, 0]])
    even = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    found = ReCLIP().rerank(SENTENCE, even, Entity("a", (), ("left",)), same)
    torch.testing.assert_close(found, SENTENCE / 3)
