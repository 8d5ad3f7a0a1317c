"""Speakers: which of the things that could be said they choose to say.

They refer to one object, so that it can be told from the others, or caption a scene, as a web page's alt text
would: the text CLIP learns from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from datamodules.shapes.falsehoods import Claim, false_version
from datamodules.shapes.language import sentence, statement, telegram
from datamodules.shapes.meaning import PLACES, RELATIONS, Expression, Noun, Relation, denotes, holds
from datamodules.shapes.world import ShapeScene, Thing

Draft = Callable[[Random, ShapeScene, int], tuple[Expression, str]]


@dataclass(frozen=True)
class Utterance:
    """An expression as said: its words and what they mean."""

    text: str
    meaning: Expression


def refer(rng: Random, scene: ShapeScene, index: int, register: str, tries: int = 60) -> Utterance | None:
    """Refer to an object by an utterance that denotes it and nothing else; None where no draft did."""
    for _ in range(tries):
        meaning, text = REGISTERS[register](rng, scene, index)
        if denotes(meaning, scene, index):
            return Utterance(text, meaning)
    return None


def some_noun(rng: Random, thing: Thing, *, category: float, color: float, fill: float, size: float) -> Noun:
    """Describe an object by a random part of what is true of it; each number is a chance to be said."""
    return Noun(
        category=thing.category if rng.random() < category else None,
        color=thing.color if rng.random() < color else None,
        fill=thing.fill if rng.random() < (fill if thing.fill != "solid" else 0.3 * fill) else None,
        size=thing.size if thing.size != "medium" and rng.random() < size else None,
    )


def some_relation(rng: Random, scene: ShapeScene, index: int, depth: int = 0) -> Relation | None:
    """Pick a relation that strictly holds between an object and another one; None where there is none."""
    found = [
        (name, other)
        for other in range(len(scene.things))
        if other != index
        for name, test in RELATIONS.items()
        if test(scene.things[index], scene.things[other], True)
    ]
    if not found:
        return None
    name, other = rng.choice(found)
    anchor = some_noun(rng, scene.things[other], category=0.93, color=0.6, fill=0.25, size=0.25)
    then = some_relation(rng, scene, other) if depth else None
    return Relation(name, anchor, then)


def _short(rng: Random, scene: ShapeScene, index: int) -> tuple[Expression, str]:
    noun = some_noun(rng, scene.things[index], category=0.9, color=0.5, fill=0.2, size=0.15)
    manner = rng.random()
    if manner < 0.45:
        meaning = Expression(noun, place=rng.choice(tuple(PLACES)))
    elif manner < 0.60:
        axis = rng.choice(("left", "right", "top", "bottom"))
        meaning = Expression(noun, rank=(axis, rng.choice((1, 1, 2, 3))))
    else:
        meaning = Expression(noun)
    return meaning, telegram(rng, meaning)


def _short_without_place(rng: Random, scene: ShapeScene, index: int) -> tuple[Expression, str]:
    noun = some_noun(rng, scene.things[index], category=0.9, color=0.6, fill=0.45, size=0.5)
    relation = some_relation(rng, scene, index) if rng.random() < 0.2 else None
    meaning = Expression(noun, relations=(relation,) if relation else ())
    return meaning, telegram(rng, meaning)


def _long(rng: Random, scene: ShapeScene, index: int) -> tuple[Expression, str]:
    noun = some_noun(rng, scene.things[index], category=0.97, color=0.65, fill=0.5, size=0.6)
    manner = rng.random()
    first = some_relation(rng, scene, index, depth=1 if manner < 0.15 else 0)
    second = some_relation(rng, scene, index) if manner > 0.8 else None
    if first and second and first.anchor.category == second.anchor.category:
        second = None  # "next to the tiny star and beside a star" says a thing twice
    relations = tuple(relation for relation in (first, second) if relation)
    meaning = Expression(noun, relations=relations)
    if relations and rng.random() < 0.2:
        return meaning, statement(rng, meaning)
    return meaning, sentence(rng, meaning, rng.choice(("the", "the", "a")))


# how a register drafts an expression, which may fail to single the object out
REGISTERS: dict[str, Draft] = {
    "refshapes": _short,
    "refshapes+": _short_without_place,
    "refshapesg": _long,
}


class Caption(NamedTuple):
    """What is said of a picture, and a false version of it in words as like as can be."""

    text: str
    false: str = ""  # empty where no small change makes the caption false
    change: str = ""  # one of `datamodules.shapes.falsehoods.FALSEHOODS`, by name


def caption(rng: Random, scene: ShapeScene) -> Claim:
    """Claim something true of a scene, of one to three of its objects."""
    count = min(len(scene.things), rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 2, 3)))
    chosen = rng.sample(range(len(scene.things)), count)
    if count == 1:
        return _about_one(rng, scene, chosen[0])
    return tuple(_mention(rng, scene, index) for index in chosen)


def telling_caption(rng: Random, scene: ShapeScene, others: list[ShapeScene], tries: int = 4) -> Caption:
    """Caption a scene with something that, if it can be found, is false of some similar scenes."""
    for _ in range(tries):
        claim = caption(rng, scene)
        if not any(is_true(claim, other) for other in others):
            break
    return _captioned(rng, claim, lambda changed: is_true(changed, scene))


def subject_caption(rng: Random, scene: ShapeScene, index: int, alone: bool = False) -> Caption:
    """Caption a picture taken of one object: the sentence is about that object, whatever else it names.

    It may say more than the picture shows, as people do: how large the object is, what it stands beside. Of
    an object that is ``alone`` in the picture no false version is about its neighbours.
    """
    noun = some_noun(rng, scene.things[index], category=0.96, color=0.65, fill=0.5, size=0.3)
    relation = some_relation(rng, scene, index) if rng.random() < 0.75 else None
    claim = (Expression(noun, relations=(relation,) if relation else ()),)

    def may_hold(changed: Claim) -> bool:
        (said,) = changed
        return said.noun.fits(scene.things[index]) if alone else holds(said, scene, index, strict=False)

    return _captioned(rng, claim, may_hold)


def is_true(claim: Claim, scene: ShapeScene) -> bool:
    """Tell whether each expression of a claim is, generously read, true of some object of a scene."""
    return all(
        any(holds(part, scene, index, strict=False) for index in range(len(scene.things))) for part in claim
    )


def _mention(rng: Random, scene: ShapeScene, index: int) -> Expression:
    noun = some_noun(rng, scene.things[index], category=0.97, color=0.75, fill=0.35, size=0.3)
    return Expression(noun, place=_true_place(rng, scene, index) if rng.random() < 0.2 else None)


def _about_one(rng: Random, scene: ShapeScene, index: int) -> Claim:
    noun = some_noun(rng, scene.things[index], category=0.95, color=0.55, fill=0.4, size=0.5)
    said = Expression(noun)
    manner = rng.random()
    if manner < 0.2:
        said = replace(said, place=_true_place(rng, scene, index))
    elif manner > 0.25:
        first = some_relation(rng, scene, index, depth=1 if manner > 0.92 else 0)
        second = some_relation(rng, scene, index) if manner < 0.35 else None
        said = replace(said, relations=tuple(relation for relation in (first, second) if relation))
    return (said,)


def _captioned(rng: Random, claim: Claim, may_hold: Callable[[Claim], bool]) -> Caption:
    """Word a claim and a false version of it by the same draws: they differ where their meanings do."""
    change, seed = false_version(rng, claim, may_hold), rng.getrandbits(32)
    text = in_words(Random(seed), claim)
    return Caption(text, in_words(Random(seed), change[1]), change[0]) if change else Caption(text)


def in_words(rng: Random, claim: Claim) -> str:
    """Word a claim as captions are: one expression in any style, several as a list."""
    if len(claim) == 1:
        return _words(rng, *claim)
    joint = rng.choice((" and ", ", ")) if len(claim) > 2 else " and "
    parts = [sentence(rng, said, "a") for said in claim]
    return ", ".join(parts[:-1]) + joint + parts[-1]


def _words(rng: Random, said: Expression) -> str:
    if said.relations and rng.random() < 0.2:
        return statement(rng, said)
    if rng.random() < (0.25 if said.relations else 0.5):
        return telegram(rng, said)
    return sentence(rng, said, rng.choice(("a", "the")))


def _true_place(rng: Random, scene: ShapeScene, index: int) -> str | None:
    true = [place for place in PLACES if holds(Expression(Noun(), place=place), scene, index, strict=True)]
    return rng.choice(true) if true else None
