"""Captions for whole scenes, as a web page's alt texts would give them: the text CLIP learns from."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from datamodules.shapes.language import sentence, statement, telegram
from datamodules.shapes.meaning import PLACES, Expression, Noun, holds
from datamodules.shapes.speakers import some_noun, some_relation
from datamodules.shapes.world import ShapeScene

Claim = tuple[Expression, ...]
"""What a caption asserts: for each expression, that the scene holds an object it is true of."""


def caption(rng: Random, scene: ShapeScene) -> tuple[Claim, str]:
    """Say something true of a scene: of one to four of its objects.

    Args:
        rng: Chooses what is said and how.
        scene: The scene, of at least one object.

    Returns:
        What is claimed, and its words.
    """
    count = min(len(scene.things), rng.choice((1, 1, 1, 1, 1, 2, 2, 3, 4)))
    chosen = rng.sample(range(len(scene.things)), count)
    if count == 1:
        return _about_one(rng, scene, chosen[0])
    claims = tuple(_mention(rng, scene, index) for index in chosen)
    parts = [sentence(rng, claim, "a") for claim in claims]
    joint = rng.choice((" and ", ", ")) if count > 2 else " and "
    return claims, ", ".join(parts[:-1]) + joint + parts[-1]


def telling_caption(rng: Random, scene: ShapeScene, others: list[ShapeScene], tries: int = 4) -> str:
    """Caption a scene with something that, if it can be found, is false of some similar scenes."""
    claim, text = caption(rng, scene)
    for _ in range(tries - 1):
        if not any(is_true(claim, other) for other in others):
            break
        claim, text = caption(rng, scene)
    return text


def subject_caption(rng: Random, scene: ShapeScene, index: int) -> str:
    """Caption a picture taken of one object: the sentence is about that object, whatever else it names.

    It may say more than the picture shows, as people do: how large the object is, what it stands beside.
    """
    noun = some_noun(rng, scene.things[index], category=0.96, color=0.65, fill=0.5, size=0.3)
    relation = some_relation(rng, scene, index) if rng.random() < 0.65 else None
    return _words(rng, Expression(noun, relations=(relation,) if relation else ()))


def is_true(claim: Claim, scene: ShapeScene) -> bool:
    """Tell whether each expression of a claim is, generously read, true of some object of a scene."""
    return all(
        any(holds(part, scene, index, strict=False) for index in range(len(scene.things))) for part in claim
    )


def _mention(rng: Random, scene: ShapeScene, index: int) -> Expression:
    noun = some_noun(rng, scene.things[index], category=0.97, color=0.75, fill=0.35, size=0.3)
    return Expression(noun, place=_true_place(rng, scene, index) if rng.random() < 0.2 else None)


def _about_one(rng: Random, scene: ShapeScene, index: int) -> tuple[Claim, str]:
    noun = some_noun(rng, scene.things[index], category=0.95, color=0.55, fill=0.4, size=0.5)
    said = Expression(noun)
    manner = rng.random()
    if manner < 0.28:
        said = replace(said, place=_true_place(rng, scene, index))
    elif manner > 0.40:
        first = some_relation(rng, scene, index, depth=1 if manner > 0.92 else 0)
        second = some_relation(rng, scene, index) if manner < 0.52 else None
        said = replace(said, relations=tuple(relation for relation in (first, second) if relation))
    return (said,), _words(rng, said)


def _words(rng: Random, said: Expression) -> str:
    if said.relations and rng.random() < 0.2:
        return statement(rng, said)
    if rng.random() < (0.25 if said.relations else 0.5):
        return telegram(rng, said)
    return sentence(rng, said, rng.choice(("a", "the")))


def _true_place(rng: Random, scene: ShapeScene, index: int) -> str | None:
    true = [place for place in PLACES if holds(Expression(Noun(), place=place), scene, index, strict=True)]
    return rng.choice(true) if true else None
