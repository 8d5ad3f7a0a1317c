"""False versions of captions: what each change makes of a claim, and that what it says is not so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from datamodules.captioned_shapes import _batch, in_a_mirror
from datamodules.shapes import falsehoods
from datamodules.shapes.meaning import Expression, Noun, Relation
from datamodules.shapes.pairs import family
from datamodules.shapes.speakers import Caption, in_words, subject_caption
from datamodules.shapes.world import ShapeScene, Thing

STAR, SQUARE, CIRCLE = Noun("star", "red"), Noun("square", "blue"), Noun("circle", size="small")


def related(noun: Noun, *relations: tuple[str, Noun]) -> Expression:
    return Expression(noun, relations=tuple(Relation(kind, anchor) for kind, anchor in relations))


CHANGES: list[tuple[Callable, tuple[Expression, ...], list[tuple[Expression, ...]]]] = [
    (
        falsehoods.relations_turned,
        (related(STAR, ("above", SQUARE), ("right of", CIRCLE), ("next to", CIRCLE)),),
        [
            (related(STAR, ("below", SQUARE), ("right of", CIRCLE), ("next to", CIRCLE)),),
            (related(STAR, ("above", SQUARE), ("left of", CIRCLE), ("next to", CIRCLE)),),
        ],
    ),
    (
        falsehoods.places_turned,
        (Expression(STAR, place="top left"), Expression(SQUARE, place="middle"), Expression(CIRCLE)),
        [(Expression(STAR, place="bottom right"), Expression(SQUARE, place="middle"), Expression(CIRCLE))],
    ),
    (
        falsehoods.roles_exchanged,
        (related(STAR, ("above", SQUARE)),),
        [(related(SQUARE, ("above", STAR)),)],
    ),
    (falsehoods.roles_exchanged, (related(STAR, ("above", SQUARE), ("below", CIRCLE)),), []),
    (
        falsehoods.attributes_exchanged,
        (related(STAR, ("above", SQUARE)), Expression(CIRCLE)),
        [
            (related(Noun("square", "red"), ("above", Noun("star", "blue"))), Expression(CIRCLE)),
            (related(Noun("star", "blue"), ("above", Noun("square", "red"))), Expression(CIRCLE)),
            (
                related(Noun("circle", "red"), ("above", SQUARE)),
                Expression(Noun("star", size="small")),
            ),
            (
                related(STAR, ("above", Noun("circle", "blue"))),
                Expression(Noun("square", size="small")),
            ),
        ],
    ),
    (falsehoods.attributes_exchanged, (Expression(STAR),), []),
]


@pytest.mark.parametrize(("change", "claim", "expected"), CHANGES)
def test_each_change_makes_these_claims(
    change: Callable, claim: tuple[Expression, ...], expected: list[tuple[Expression, ...]]
) -> None:
    assert list(change(claim, Random(0))) == expected


def test_one_word_is_replaced_at_a_time() -> None:
    claim = (related(STAR, ("above", CIRCLE)),)
    for (said,) in falsehoods.words_replaced(claim, Random(0)):
        nouns = [(said.noun, STAR), (said.relations[0].anchor, CIRCLE)]
        differing = [
            name for now, before in nouns for name in vars(now) if vars(now)[name] != vars(before)[name]
        ]
        assert len(differing) == 1
        assert said.relations[0].kind == "above"


def test_a_change_that_stays_true_is_not_made() -> None:
    # nothing but the turned relation is false: who may hold every other claim is asked about each
    claim = (related(STAR, ("above", SQUARE)),)
    turned = (related(STAR, ("below", SQUARE)),)
    name, changed = falsehoods.false_version(Random(0), claim, lambda other: other != turned) or ("", ())
    assert (name, changed) == ("relations_turned", turned)
    assert falsehoods.false_version(Random(0), claim, lambda _: True) is None


def thing(category: str, color: str, x: float) -> Thing:
    return Thing(category, color, "solid", "medium", x, 90.0, 30.0, 0.0)


SCENE = ShapeScene(240, 192, (thing("star", "red", 60.0), thing("circle", "blue", 170.0)), background=1)


def test_the_false_version_differs_where_its_meaning_does() -> None:
    """Where left and right are turned round, the other words stay."""
    seen: Counter[str] = Counter()
    for seed in range(300):
        text, false, change = subject_caption(Random(seed), SCENE, 0)
        assert false != text
        seen[change] += 1
        if change == "relations_turned":
            assert text != false
            assert text.replace("left", "right") == false.replace("left", "right")
    assert set(seen) == {kind.__name__ for kind in falsehoods.FALSEHOODS} - {"places_turned"}


def test_of_a_thing_alone_in_the_picture_nothing_false_is_said_of_its_neighbours() -> None:
    for seed in range(200):
        caption = subject_caption(Random(seed), SCENE, 0, alone=True)
        assert caption.change != "relations_turned"


def test_several_objects_are_listed() -> None:
    words = in_words(Random(0), (Expression(STAR), Expression(SQUARE), Expression(CIRCLE)))
    assert words in (
        f"a red star, a blue square{joint}a {size} circle"
        for joint in (" and ", ", ")
        for size in ("small", "little", "tiny")
    )


def test_equal_seeds_give_equal_families_and_most_captions_have_a_false_version() -> None:
    said = [caption for captions in family("a seed", 16, 8)[1] for caption in captions]
    assert said == [caption for captions in family("a seed", 16, 8)[1] for caption in captions]
    assert sum(bool(caption.false) for caption in said) > 24


MIRRORED = [
    ("left star", "right star"),
    ("star to the right of a circle", "star to the left of a circle"),
    ("star right next to a circle on the left", "star right next to a circle on the right"),
    ("star in the upper left", "star in the upper right"),
    ("bright leftover", "bright leftover"),
]


@pytest.mark.parametrize(("text", "expected"), MIRRORED)
def test_left_is_right_in_a_mirror(text: str, expected: str) -> None:
    assert in_a_mirror(Caption(text, expected, "x")) == (expected, text, "x")


def test_mirrored_pictures_have_mirrored_captions() -> None:
    pictures = np.zeros((3, 4, 8, 8, 3), np.uint8)
    pictures[:, :, :, 4:] = 255
    caption = Caption("light on the right", "light on the left", "places_turned")
    batches = [_batch(pictures, [[[caption] * 5] * 4] * 3, 2, [2, 0]) for _ in range(20)]
    seen = set()
    for images, visits in batches:
        assert images.shape == (8, 8, 8, 3)
        assert [len(visit) for visit in visits] == [8, 8]
        for image, *said in zip(images, *visits, strict=True):
            side, other = ("right", "left") if image[:, 4:].sum() else ("left", "right")
            assert said == [(f"light on the {side}", f"light on the {other}", "places_turned")] * 2
            seen.add(side)
    assert seen == {"left", "right"}
    # what is held out is seen as it is, with all that is said of it
    images, visits = _batch(pictures, [[[caption] * 5] * 4] * 3, None, [0, 1, 2])
    assert bool((images[:, :, 4:] == 255).all())
    assert visits == [[caption] * 12] * 5
