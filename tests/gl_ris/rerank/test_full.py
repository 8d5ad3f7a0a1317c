"""Parsed expressions over boxes where everybody sees what is meant."""

from __future__ import annotations

import pytest
import torch

from gl_ris.parsing import Parsed, Relation, parse
from gl_ris.rerank import Regions
from gl_ris.rerank.full import Full

# two rows of four squares of 10 pixels; the last of each row is larger, and a star, like the first
BOXES = torch.tensor(
    [[x, y, x + side, y + side] for y in (0.0, 60) for x, side in ((0.0, 10), (30, 10), (60, 10), (90, 20))]
).double()
REGIONS = Regions(BOXES, (100, 120))
KINDS = {"one": [4], "One": [4], "star": [0, 3, 4, 7], "circle": [1, 6], "square": [2, 5], "thing": range(8)}


def chosen(head: str, *anchors: str, sure: float = 8.0, **said: object) -> int:
    parsed = Parsed(text="", head=head, anchors=anchors, **said)  # type: ignore[arg-type]
    logits = torch.zeros(1 + len(anchors), 8, dtype=torch.float64)
    for row, name in enumerate([head, *anchors]):
        logits[row, list(KINDS[name])] = sure
    # the sentence leans to the first mask
    sentence = torch.tensor([0.5, *[0] * 7]).double().softmax(dim=0)
    return int(Full().rerank(sentence, logits.softmax(dim=1), parsed, REGIONS).argmax())


TURNING = (Relation("right", 1, of=0), Relation("left", 0, of=1))
CASES = [
    ("star", (), {}, 0),
    ("star", (), {"places": ("right",), "superlatives": ("topmost",)}, 3),
    ("star", (), {"places": ("left", "bottom")}, 4),
    ("square", (), {"ordinal": ("left", 1)}, 5),
    ("square", (), {"ordinal": ("left", 2)}, 2),
    ("star", (), {"ordinal": ("biggest", 2), "places": ("bottom",)}, 7),
    ("star", (), {"ordinal": ("right", 1), "places": ("bottom",)}, 7),
    ("star", (), {"size": "big", "places": ("bottom",)}, 7),
    ("star", (), {"size": "small", "places": ("bottom",)}, 4),
    ("circle", ("square",), {"relations": (Relation("left", 0),)}, 1),
    ("circle", ("square",), {"relations": (Relation("right", 0),)}, 6),
    # below the left star; not near a square: the circles are near one, each
    ("star", ("star",), {"relations": (Relation("below", 0),), "places": ("left",)}, 4),
    ("star", ("circle",), {"relations": (Relation("near", 0, negated=True),), "places": ("bottom",)}, 4),
    # denied: a thing that is no star, a size, a place
    ("thing", ("star",), {"relations": (Relation("with", 0, negated=True),), "places": ("not left",)}, 2),
    ("star", (), {"size": "not small", "places": ("not top",)}, 7),
    ("star", (), {"superlatives": ("not biggest",), "places": ("bottom",)}, 4),
    # the square that is right of the circle that is above a square
    ("square", ("circle", "square"), {"relations": (Relation("right", 0), Relation("above", 1, of=0))}, 2),
    ("circle", ("star", "square"), {"relations": (Relation("between", 0), Relation("between", 1))}, 1),
    ("thing", ("star",), {"relations": (Relation("between", 0),), "places": ("right", "bottom")}, 6),
    # "one" is any, whatever CLIP takes the word for
    ("one", (), {"superlatives": ("rightmost",), "places": ("bottom",)}, 7),
    ("One", (), {"superlatives": ("rightmost",), "places": ("bottom",)}, 7),
    # relations that turn in a circle end
    ("circle", ("square", "star"), {"relations": (Relation("left", 0), *TURNING)}, 1),
]


@pytest.mark.parametrize(("head", "anchors", "said", "expected"), CASES)
def test_what_is_meant_is_chosen(
    head: str, anchors: tuple[str, ...], said: dict[str, object], expected: int
) -> None:
    assert chosen(head, *anchors, **said) == expected


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (("middle",), 4),
        (("top", "middle"), 1),
        (("middle", "left"), 3),
        (("middle", "right"), 5),
        (("middle", "bottom"), 7),
        (("front", "middle"), 7),
        (("top", "right"), 2),
    ],
)
def test_the_middle_of_a_side_is_not_that_of_the_image(places: tuple[str, ...], expected: int) -> None:
    # row by row, as in "middle donut top row"
    centres = torch.tensor([[x, y] for y in (15.0, 50, 85) for x in (15.0, 50, 85)]).double()
    even = torch.full((9,), 1 / 9).double()
    regions = Regions(torch.cat([centres - 5, centres + 5], dim=1), (100, 100))
    found = Full().rerank(even, even[None], Parsed("", "star", places=places), regions)
    assert int(found.argmax()) == expected
    # and all of it is true
    assert found.max() > even.log().max() - 0.1


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("the red star without dots", ["red star", "red star with dots"]),
        ("star that isn't green", ["star", "green star"]),
        ("star next to a heart that has no stripes", ["star", "heart", "heart with stripes"]),
        ("without a hat", ["without a hat", "hat"]),
        ("", [""]),
    ],
)
def test_what_is_lacked_is_scored_with_its_owner(text: str, phrases: list[str]) -> None:
    assert Full().phrases(parse([text])[0]) == phrases


@pytest.mark.parametrize(("size", "truth"), [("big", 0.5), ("small", 0.5), ("medium", 1.0)])
def test_what_is_alone_of_its_kind_is_neither_big_nor_small(size: str, truth: float) -> None:
    alone = torch.tensor([0.0, 1, 0]).double()
    for boxes, kind in ((BOXES[[0, 3, 1]], alone), (BOXES[:1], alone[1:2])):
        (found,) = Full().alone(Parsed("", "star", size=size), kind, Regions(boxes))
        assert float(found[kind == 1]) == pytest.approx(truth)


def test_without_rules_the_sentence_alone_counts() -> None:
    sentence, head = torch.tensor([[0.6, 0.4], [0.1, 0.9]]).double()
    regions = Regions(BOXES[:2])
    found = Full().rerank(sentence, head[None], Parsed("", "star", ("dots",)), regions)
    torch.testing.assert_close(found, sentence.log())


def test_one_mask_and_equal_masks_are_no_failure() -> None:
    parsed = Parsed("", "star", ("circle",), (Relation("left", 0), Relation("between", 0)), ("left",))
    parsed = Parsed(
        **{**vars(parsed), "superlatives": ("biggest",), "ordinal": ("left", 3), "size": "medium"}
    )
    for boxes in (BOXES[:1], BOXES[[0, 0]]):
        even = torch.full((3, len(boxes)), 1 / len(boxes), dtype=torch.float64)
        found = Full().rerank(even[0], even[1:], parsed, Regions(boxes))
        assert torch.isfinite(found).all()
        assert (found == found[0]).all()
