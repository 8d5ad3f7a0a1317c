"""The register of generalised expressions: about one object, about two, or about nothing that is there.

What is said is strictly true of all that is meant, and not even loosely of anything else. An expression
without a target is true of nothing in the scene, read loosely, but nearly so of some object: it is drafted of
a scene in which that object has another colour, category, fill, size or place.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from random import Random
from typing import Any

from datamodules.shapes.language import kind, plural, sentence, telegram
from datamodules.shapes.meaning import Expression, denotes, holds
from datamodules.shapes.speakers import REGISTERS, Utterance, refer, some_noun
from datamodules.shapes.world import COLORS, SEEN_CATEGORIES, SEEN_FILLS, ShapeScene, Thing

Meant = tuple[int, ...]  # the objects that are meant, in order; none if nothing is
Said = dict[Meant, list[Utterance]]

_TRIES = 60
_ASPECTS = {
    "color": tuple(COLORS),
    "category": SEEN_CATEGORIES,
    "fill": SEEN_FILLS,
    "size": ("small", "large"),
}


def generalised(rng: Random, scene: ShapeScene, targets: Sequence[int]) -> Said:
    """Say of some of the ``targets`` what means one, a pair by one noun, a pair by two nouns, and none.

    The utterances' meanings are expressions that hold of what is meant, or of nothing; of two nouns, the
    first one's. What cannot be said of a scene is left out.
    """
    drafts: list[tuple[Meant, Utterance | None]] = [
        ((index,), refer(rng, scene, index, rng.choice(tuple(REGISTERS))))
        for index in rng.sample(targets, min(2, len(targets)))
    ]
    pairs = list(combinations(sorted(targets), 2))
    rng.shuffle(pairs)
    drafts += [_first(draft, rng, scene, pairs) for draft in (_as_a_pair, _one_and_other)]
    if targets:
        drafts.append(((), _nearly(rng, scene, targets)))
    said: Said = {}
    for meant, utterance in drafts:
        if utterance is not None:
            said.setdefault(meant, []).append(utterance)
    return said


def _first(
    draft: Any, rng: Random, scene: ShapeScene, pairs: Sequence[tuple[int, int]]
) -> tuple[Meant, Utterance | None]:
    found = ((pair, draft(rng, scene, pair)) for pair in pairs)
    return next(((pair, said) for pair, said in found if said is not None), ((), None))


def _as_a_pair(rng: Random, scene: ShapeScene, pair: tuple[int, int]) -> Utterance | None:
    """Name two objects by what they share, e.g. "the two red stars", or "both stars on the left"."""
    one, other = (scene.things[index] for index in pair)
    shared = {name: value for name, value in vars(one).items() if value == getattr(other, name)}
    if one.category != other.category:
        return None
    for _ in range(_TRIES):
        noun = some_noun(rng, one, category=1, color=0.5, fill=0.3, size=0.3)
        meaning = Expression(noun, place=rng.choice((None, None, None, "left", "right", "top", "bottom")))
        words = kind(rng, noun)
        named = {name for name, value in vars(noun).items() if value}
        if not named <= shared.keys() or not words.endswith(one.category) or not _means(meaning, scene, pair):
            continue
        place = f" {rng.choice(('on', 'at'))} the {meaning.place}" if meaning.place else ""
        many = rng.choice(("the two", "the two", "both", "two"))
        return Utterance(f"{many} {plural(words)}{place}", meaning)
    return None


def _one_and_other(rng: Random, scene: ShapeScene, pair: tuple[int, int]) -> Utterance | None:
    """Name two objects one after the other, e.g. "the red star and the blue moon"."""
    order = rng.sample(pair, 2)
    nouns = [_alone(rng, scene, index) for index in order]
    if None in nouns:
        return None
    word = rng.choice((telegram, sentence))
    first, second = (word(rng, meaning) for meaning in nouns if meaning is not None)
    return Utterance(f"{first} and {second}", nouns[0]) if nouns[0] else None


def _alone(rng: Random, scene: ShapeScene, index: int) -> Expression | None:
    for _ in range(_TRIES):
        noun = some_noun(rng, scene.things[index], category=1, color=0.7, fill=0.3, size=0.3)
        if denotes(Expression(noun), scene, index):
            return Expression(noun)
    return None


def _nearly(rng: Random, scene: ShapeScene, targets: Sequence[int]) -> Utterance | None:
    """Say what is true of nothing, but would be of an object that were a little different."""
    for _ in range(_TRIES):
        index = rng.choice(targets)
        things = list(scene.things)
        things[index] = _changed(rng, scene, things[index])
        said = refer(rng, replace(scene, things=tuple(things)), index, rng.choice(tuple(REGISTERS)), tries=4)
        # an ordinal among objects in a heap is false by rule, and yet somebody might count them
        if said and said.meaning.rank is None and _means(said.meaning, scene, ()):
            return said
    return None


def _changed(rng: Random, scene: ShapeScene, thing: Thing) -> Thing:
    aspect = rng.choice((*_ASPECTS, "place"))
    if aspect == "place":
        beside, below = replace(thing, x=scene.width - thing.x), replace(thing, y=scene.height - thing.y)
        return rng.choice((beside, below))
    there = [getattr(other, aspect) for other in scene.things]
    # what the scene shows elsewhere is the harder miss
    return replace(thing, **{aspect: rng.choice((*there, *there, *_ASPECTS[aspect]))})


def _means(meaning: Expression, scene: ShapeScene, wanted: Sequence[int]) -> bool:
    """Tell whether an expression is strictly true of all that are wanted and not even loosely of others."""
    every = range(len(scene.things))
    return all(holds(meaning, scene, index, strict=index in wanted) == (index in wanted) for index in every)
