"""Four more registers, each about one thing that rules on boxes find hard: ordinals, between, size, negation.

As for the other registers, every claim has a strict and a loose reading, and an expression is said of an
object only if it is strictly true of it and not even loosely of any other. Here it must also be needed: at
least two objects are of the kind that is named.
"""

from collections.abc import Callable
from itertools import pairwise, permutations
from math import hypot
from random import Random

from datamodules.shapes.draw import outline
from datamodules.shapes.language import clause, kind, plural
from datamodules.shapes.meaning import AXES, RELATIONS, Expression, Noun, Relation
from datamodules.shapes.speakers import Utterance, some_noun
from datamodules.shapes.world import ShapeScene, Thing

Claim = Callable[[int, bool], bool]  # whether a claim holds of an object of the scene, strictly or loosely
Draft = Callable[[Random, ShapeScene, int], tuple[Noun, Claim, str] | None]

_ORDINALS = {1: ("first", "1st"), 2: ("second", "2nd"), 3: ("third", "3rd"), 4: ("fourth", "4th")}
# word, superlatives, and the sign of the difference
_SIZES = ((("bigger", "larger"), ("biggest", "largest"), 1), (("smaller",), ("smallest", "tiniest"), -1))
_FILL_NOUNS = {"striped": "stripes", "dotted": "dots"}


def probe(rng: Random, scene: ShapeScene, index: int, register: str, tries: int = 40) -> Utterance | None:
    """Refer to an object in one of `PROBES`; None where no draft was needed, true and unambiguous.

    The utterance's meaning is the kind that is named; what is claimed beside was checked here.
    """
    for _ in range(tries):
        drafted = PROBES[register](rng, scene, index)
        if drafted is None:
            continue
        noun, claim, text = drafted
        others = [i for i, thing in enumerate(scene.things) if i != index and noun.fits(thing)]
        if others and claim(index, True) and not any(claim(other, False) for other in others):
            return Utterance(text if rng.random() < 0.4 else f"the {text}", Expression(noun))
    return None


def area(thing: Thing) -> float:
    """Area of an object in pixels, by the shoelace formula on its outline."""
    corners = outline(thing.category)
    turns = zip(corners, (*corners[1:], corners[0]), strict=True)
    return thing.radius**2 * abs(sum(x * v - u * y for (x, y), (u, v) in turns)) / 2


def is_between(thing: Thing, one: Thing, other: Thing, strict: bool) -> bool:
    """Tell whether an object lies between two others: beside the middle of the line from one to the other."""
    x, y = other.x - one.x, other.y - one.y
    length = hypot(x, y)
    along = ((thing.x - one.x) * x + (thing.y - one.y) * y) / length**2
    aside = abs((thing.x - one.x) * y - (thing.y - one.y) * x) / length**2
    return 0.2 < along < 0.8 and aside < 0.2 if strict else 0 < along < 1 and aside < 0.5


def outgrows(thing: Thing, other: Thing, sign: int, strict: bool) -> bool:
    """Tell whether an object is larger (``sign`` 1) or smaller (-1) than another: in extent and in area.

    Loosely, either of both will do.
    """
    ratios = [(thing.radius / other.radius) ** sign, (area(thing) / area(other)) ** sign]
    return min(ratios) > 1.2 if strict else max(ratios) > 1


def _ordinal(rng: Random, scene: ShapeScene, index: int) -> tuple[Noun, Claim, str] | None:
    noun = some_noun(rng, scene.things[index], category=0.55, color=0.35, fill=0, size=0.1)
    side, number = rng.choice(tuple(AXES)), rng.choice((1, 2, 2, 3, 3, 4, 4))
    alike = [i for i, thing in enumerate(scene.things) if noun.fits(thing)]

    def places(edge: float) -> dict[int, float]:
        # of objects' centres (0) or nearest points (1), counted from that side
        return {i: AXES[side](scene.things[i]) - edge * scene.things[i].radius for i in alike}

    def claim(i: int, strict: bool) -> bool:
        orders = [sorted(alike, key=places(edge).__getitem__) for edge in (0, 1)]
        held = [len(alike) >= number and order[number - 1] == i for order in orders]
        return all(held) if strict else any(held)

    if any(after - before < 14 for before, after in pairwise(sorted(places(0).values()))):
        return None  # nobody counts what stands in a heap
    word, name = rng.choice(_ORDINALS[number]), kind(rng, noun)
    forms = (f"{word} {name} from the {side}", f"{word} {name} from {side}", f"{name} {word} from the {side}")
    return noun, claim, rng.choice(forms[:2] if name.endswith("one") else forms)


def _between(rng: Random, scene: ShapeScene, index: int) -> tuple[Noun, Claim, str] | None:
    noun = some_noun(rng, scene.things[index], category=0.55, color=0.3, fill=0, size=0.1)
    me, rest = scene.things[index], [thing for i, thing in enumerate(scene.things) if i != index]
    pairs = [pair for pair in permutations(rest, 2) if is_between(me, *pair, strict=True)]
    if not pairs:
        return None
    one, other = rng.choice(pairs)

    def claim(i: int, strict: bool) -> bool:
        thing = scene.things[i]
        return thing not in (one, other) and is_between(thing, one, other, strict)

    link = rng.choice(("between", "between", "that is between", "in between"))
    pair = Noun(one.category)
    if one.category == other.category and sum(map(pair.fits, scene.things)) == 2:
        return noun, claim, f"{kind(rng, noun)} {link} the two {plural(one.category)}"
    first, second = _only(scene, one), _only(scene, other)
    return (noun, claim, f"{kind(rng, noun)} {link} {first} and {second}") if first and second else None


def _size(rng: Random, scene: ShapeScene, index: int) -> tuple[Noun, Claim, str] | None:
    noun = some_noun(rng, scene.things[index], category=0.8, color=0.25, fill=0.1, size=0)
    (comparatives, superlatives, sign), manner = rng.choice(_SIZES), rng.random()
    alike = [i for i, thing in enumerate(scene.things) if noun.fits(thing)]

    def leads(i: int, strict: bool) -> bool:
        rivals = (scene.things[other] for other in alike if other != i)
        return all(outgrows(scene.things[i], rival, sign, strict) for rival in rivals)

    if manner < 0.3:
        return noun, leads, f"{rng.choice(superlatives)} {kind(rng, noun)}"
    word = rng.choice(comparatives)
    if manner < 0.45 and len(alike) == 2 and noun.category and noun.fill is None:
        return noun, leads, f"{word} of the two {plural(kind(rng, noun))}"
    anchor = rng.choice(scene.things)
    name = _only(scene, anchor)
    if name is None:
        return None

    def claim(i: int, strict: bool) -> bool:
        return scene.things[i] is not anchor and outgrows(scene.things[i], anchor, sign, strict)

    link = rng.choice(("that is ", "which is ", "", ""))
    return noun, claim, f"{kind(rng, noun)} {link}{word} than {name}"


def _negation(rng: Random, scene: ShapeScene, index: int) -> tuple[Noun, Claim, str] | None:
    noun = some_noun(rng, scene.things[index], category=0.9, color=0.2, fill=0, size=0)
    aspect = rng.choice(("color", "fill", "size", "relation", "relation"))
    rival = rng.choice(scene.things)
    that = rng.choice(("that is not", "that isn't", "which is not", "that's not"))
    if aspect == "relation":
        relation, anchor = rng.choice(tuple(RELATIONS)), Noun(rival.category)
        if sum(map(anchor.fits, scene.things)) > 1:
            return None

        def apart(i: int, strict: bool) -> bool:
            thing = scene.things[i]
            # what is denied strictly is not even loosely so
            return thing is not rival and not RELATIONS[relation](thing, rival, not strict)

        return noun, apart, f"{kind(rng, noun)} {that} {clause(rng, Relation(relation, anchor))}"
    value = getattr(rival, aspect)
    if (aspect == "color" and noun.color) or value in ("medium", "solid"):
        return None
    words = {"fill": rng.choice((f"without {_FILL_NOUNS.get(value)}", f"with no {_FILL_NOUNS.get(value)}"))}
    said = words.get(aspect, f"{that} {value}")
    return noun, lambda i, strict: getattr(scene.things[i], aspect) != value, f"{kind(rng, noun)} {said}"


def _only(scene: ShapeScene, thing: Thing) -> str | None:
    """Name an object by the fewest words that fit it alone; None where category and colour do not do."""
    words = [f"the {thing.category}", f"the {thing.color} {thing.category}"]
    nouns = [Noun(thing.category), Noun(thing.category, thing.color)]
    alone = [sum(map(noun.fits, scene.things)) == 1 for noun in nouns]
    return next((text for text, single in zip(words, alone, strict=True) if single), None)


# how a register drafts an expression, which may fail
PROBES: dict[str, Draft] = {
    "refshapes-ordinal": _ordinal,
    "refshapes-between": _between,
    "refshapes-size": _size,
    "refshapes-negation": _negation,
}
