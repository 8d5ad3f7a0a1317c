"""HybridGL's relation stage against a loop over pairs, and the words that it reads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gl_ris.rerank import Regions
from gl_ris.rerank.hybridgl import (
    FLAGS,
    Flagged,
    HybridGLRelation,
    HybridGLRelationFixed,
    read_flag,
    relation,
)
from gl_ris.text import load_parser

GENERATOR = torch.Generator().manual_seed(5)
LOW = torch.rand(8, 2, generator=GENERATOR, dtype=torch.float64) * 60
BOXES = torch.cat([LOW, LOW + 5 + 40 * torch.rand(8, 2, generator=GENERATOR, dtype=torch.float64)], dim=1)
P, Q = (torch.rand(8, generator=GENERATOR, dtype=torch.float64).softmax(dim=0) for _ in range(2))


def holds(flag: str, a: list[float], b: list[float]) -> float:
    """The published predicates of two boxes, written for boxes as x, y, width, height."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = ([x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in (a, b))
    wide = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    high = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    return {
        "left": float(ax + aw / 2 < bx + bw / 2),
        "right": float(ax + aw / 2 > bx + bw / 2),
        "up": float(ay + ah / 2 < by + bh / 2),
        "down": float(ay + ah / 2 > by + bh / 2),
        "big": float(aw * ah > bw * bh),
        "small": float(aw * ah < bw * bh),
        "within": wide * high / (aw * ah),
    }[flag]


def by_loop(p: Tensor, q: Tensor | None, flag: str, k: int) -> dict[int, float]:
    best = sorted(range(len(p)), key=lambda i: -float(p[i]))[:k]
    others = best if q is None else sorted(range(len(p)), key=lambda i: -float(q[i]))[:6]
    weights = p if q is None else q
    found = {}
    for a in best:
        found[a] = sum(
            float(p[a])
            if flag == "none"
            else float(p[a] * weights[j]) * holds(flag, BOXES[a].tolist(), BOXES[j].tolist())
            for j in others
        )
    total = sum(map(math.exp, found.values()))
    return {a: math.exp(value) / total for a, value in found.items()}


@pytest.mark.parametrize("flag", ["none", *FLAGS])
@pytest.mark.parametrize("anchors", [None, Q])
@pytest.mark.parametrize("k", [3, 20])
def test_weights_are_those_of_a_loop(flag: str, anchors: Tensor | None, k: int) -> None:
    found, weights = relation(P, anchors, BOXES, flag, k)
    expected = by_loop(P, anchors, flag, k)
    assert found.tolist() == list(expected)
    assert weights.tolist() == pytest.approx(list(expected.values()))


@pytest.mark.parametrize(
    ("text", "anchors", "published", "fixed"),
    [
        ("the star left of the blue circle", ["the blue circle"], "left", "left"),
        ("the star to the right of the circle", ["the circle"], "none", "right"),
        # the head of "left" comes first
        ("the left star under the circle", ["the circle"], "left", "left"),
        ("the star on the left side of the picture", ["the left side", "the picture"], "none", "none"),
        ("a red star", [], "none", "none"),
        ("the smallest star", [], "small", "small"),
        ("the star left of the photo", ["the photo"], "none", "none"),
        ("the star inside the circle", ["the circle"], "within", "within"),
        ("", [], "none", "none"),
    ],
)
def test_what_is_read(text: str, anchors: list[str], published: str, fixed: str) -> None:
    doc = load_parser()(text)
    assert read_flag(doc) == Flagged(anchors, published)
    assert read_flag(doc, fixed=True) == Flagged(anchors, fixed)


def test_only_the_fixed_one_goes_right() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [40, 0, 50, 10], [80, 0, 90, 10]], dtype=torch.float64)
    p, anchor = torch.tensor([0.4, 0.25, 0.35]).double(), torch.tensor([[0.0, 1.0, 0.0]]).double()
    chosen = []
    for kind in (HybridGLRelation, HybridGLRelationFixed):
        (parsed,) = kind().read(["the star to the right of the circle"])
        chosen.append(int(kind().rerank(p, anchor, parsed, Regions(boxes)).argmax()))
    assert chosen == [0, 2]
    assert (HybridGLRelation().top, HybridGLRelation(top=5).top) == (3, 5)
