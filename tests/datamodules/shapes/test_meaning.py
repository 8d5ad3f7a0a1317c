from __future__ import annotations

import pytest

from datamodules.shapes.meaning import Expression, Noun, Relation, denotes, holds
from datamodules.shapes.world import ShapeScene, Thing


def thing(category: str, color: str, x: float, y: float, size: str = "medium", fill: str = "solid") -> Thing:
    return Thing(category, color, fill, size, x, y, 20.0, 0.0)  # type: ignore[arg-type]


#     x: 30        100        170
# y 30:  red star  blue moon  red star (small, striped)
# y 150: red cross
SCENE = ShapeScene(
    200,
    200,
    (
        thing("star", "red", 30, 30),
        thing("moon", "blue", 100, 30),
        thing("star", "red", 170, 30, "small", "striped"),
        thing("cross", "red", 30, 150),
    ),
    background=0,
)
MOON, STAR = Noun("moon"), Noun("star")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param(Expression(MOON), [1], id="category"),
        pytest.param(Expression(STAR), [0, 2], id="two alike"),
        pytest.param(Expression(Noun("star", fill="striped")), [2], id="fill"),
        pytest.param(Expression(Noun(color="red", size="small")), [2], id="size without category"),
        pytest.param(Expression(STAR, place="left"), [0], id="left"),
        pytest.param(Expression(Noun(color="red"), place="bottom left"), [3], id="corner"),
        pytest.param(Expression(Noun(), place="top"), [0, 1, 2], id="top"),
        pytest.param(Expression(MOON, place="bottom"), [], id="false place"),
        pytest.param(Expression(STAR, rank=("left", 2)), [2], id="second from left"),
        pytest.param(Expression(STAR, rank=("right", 1)), [2], id="rightmost"),
        pytest.param(Expression(MOON, rank=("left", 1)), [], id="one of a kind is not counted"),
        pytest.param(Expression(STAR, rank=("top", 1)), [], id="level ones have no order"),
        pytest.param(Expression(STAR, relations=(Relation("left of", MOON),)), [0], id="left of"),
        pytest.param(Expression(STAR, relations=(Relation("right of", MOON),)), [2], id="right of"),
        pytest.param(Expression(Noun(), relations=(Relation("below", STAR),)), [3], id="below"),
        pytest.param(Expression(STAR, relations=(Relation("above", Noun("cross")),)), [0], id="above"),
        pytest.param(
            Expression(STAR, relations=(Relation("right of", MOON, Relation("right of", STAR)),)),
            [2],
            id="nested",
        ),
        pytest.param(
            Expression(STAR, relations=(Relation("left of", MOON), Relation("right of", MOON))),
            [],
            id="both clauses",
        ),
        pytest.param(
            Expression(STAR, relations=(Relation("left of", Noun("heart")),)), [], id="no such anchor"
        ),
    ],
)
def test_strict_truth(expression: Expression, expected: list[int]) -> None:
    assert [i for i in range(4) if holds(expression, SCENE, i, strict=True)] == expected


def test_what_might_be_meant_of_another_does_not_denote() -> None:
    # the second star is diagonal to the cross: nobody would call it "above", but a generous listener might
    scene = ShapeScene(
        200,
        200,
        (thing("cross", "red", 60, 150), thing("star", "red", 60, 60), thing("star", "red", 150, 60)),
        0,
    )
    expression = Expression(STAR, relations=(Relation("above", Noun("cross")),))
    assert [holds(expression, scene, i, strict=True) for i in range(3)] == [False, True, False]
    assert holds(expression, scene, 2, strict=False)
    assert not denotes(expression, scene, 1)


def test_next_to_is_about_the_gap() -> None:
    near = ShapeScene(
        200,
        200,
        (thing("moon", "blue", 50, 50), thing("star", "red", 100, 50), thing("star", "red", 180, 180)),
        0,
    )
    assert denotes(Expression(STAR, relations=(Relation("next to", MOON),)), near, 1)
