"""Wording: from a meaning to an English phrase, in the styles of the three registers and of captions."""

from __future__ import annotations

from random import Random

from datamodules.shapes.meaning import Expression, Noun, Relation

_SIZES = {
    "small": ("small", "small", "little", "tiny"),
    "large": ("large", "large", "big", "big"),
    "medium": ("medium",),
}
_FILL_ADJECTIVES = {
    "solid": ("solid", "plain"),
    "striped": ("striped",),
    "dotted": ("dotted", "spotted"),
    "checkered": ("checkered", "chequered"),
    "hollow": ("hollow",),
}
_FILL_CLAUSES = {
    "solid": ("in one solid color",),
    "striped": ("with stripes", "that has stripes"),
    "dotted": ("with dots", "with spots", "that has dots"),
    "checkered": ("with a checkered pattern", "that has a checkered pattern"),
    "hollow": ("with a pale inside", "that has a pale inside"),
}
_RELATIONS = {
    "above": ("above", "over", "above", "higher than"),
    "below": ("below", "under", "beneath", "below"),
    "left of": ("to the left of", "left of", "on the left side of"),
    "right of": ("to the right of", "right of", "on the right side of"),
    "next to": ("next to", "beside", "right next to", "close to"),
}
_PLACES_BEFORE = {
    "left": ("left",),
    "right": ("right",),
    "top": ("top", "upper"),
    "bottom": ("bottom", "lower"),
    "top left": ("top left", "upper left"),
    "top right": ("top right", "upper right"),
    "bottom left": ("bottom left", "lower left"),
    "bottom right": ("bottom right", "lower right"),
    "middle": ("middle", "center"),
}
_PLACES_AFTER = {
    "left": ("on the left", "on left", "at left", "on the left side"),
    "right": ("on the right", "on right", "at right", "on the right side"),
    "top": ("at the top", "on top", "at top"),
    "bottom": ("at the bottom", "on bottom", "at bottom"),
    "top left": ("in the top left corner", "at top left", "in the upper left"),
    "top right": ("in the top right corner", "at top right", "in the upper right"),
    "bottom left": ("in the bottom left corner", "at bottom left", "in the lower left"),
    "bottom right": ("in the bottom right corner", "at bottom right", "in the lower right"),
    "middle": ("in the middle", "in the center", "in middle"),
}
_FIRST = {"left": "leftmost", "right": "rightmost", "top": "topmost", "bottom": "bottommost"}
_ORDINALS = {1: ("first", "1st"), 2: ("second", "2nd"), 3: ("third", "3rd")}
_ANY = ("object", "shape", "thing", "one")
_LINKS = ("that is ", "which is ", "", "", "", "sitting ", "located ")


def kind(rng: Random, noun: Noun, article: str = "") -> str:
    """Word a kind of object, e.g. ``"the small striped red star"``; ``article`` is the, a (or an) or none."""
    head = noun.category or rng.choice(_ANY)
    size = [rng.choice(_SIZES[noun.size])] if noun.size else []
    fill, clause = [], ""
    if noun.fill and rng.random() < 0.25:
        clause = " " + rng.choice(_FILL_CLAUSES[noun.fill])
    elif noun.fill:
        fill = [rng.choice(_FILL_ADJECTIVES[noun.fill])]
    color = [noun.color] if noun.color else []
    middle = fill + color if rng.random() < 0.7 else color + fill
    words = " ".join([*size, *middle, head])
    if article == "a" and words[0] in "aeiou" and not words.startswith("one"):
        article = "an"
    return (f"{article} {words}" if article else words) + clause


def telegram(rng: Random, expression: Expression) -> str:
    """Word an expression the way RefCOCO's players do: short, without articles, e.g. ``"left red star"``."""
    name = kind(rng, expression.noun)
    if expression.rank:
        return _ranked(rng, name, *expression.rank)
    if expression.place and rng.random() < 0.55:
        name = f"{rng.choice(_PLACES_BEFORE[expression.place])} {name}"
    elif expression.place:
        name = f"{name} {rng.choice(_PLACES_AFTER[expression.place])}"
    for relation in expression.relations:
        name = f"{name} {rng.choice(_RELATIONS[relation.kind])} {kind(rng, relation.anchor)}"
    return name


def sentence(rng: Random, expression: Expression, article: str = "the") -> str:
    """Word an expression at length, e.g. ``"the small star that is below a blue square"``."""
    text = kind(rng, expression.noun, article)
    if expression.place:
        text = f"{text} {rng.choice(_PLACES_AFTER[expression.place])}"
    for number, relation in enumerate(expression.relations):
        link = rng.choice(("and ", "and ") if number else _LINKS)
        text = f"{text} {link}{clause(rng, relation)}"
    return text


def clause(rng: Random, relation: Relation) -> str:
    """Word a relation, e.g. ``"next to a star that is above a circle"``."""
    words = rng.choice(_RELATIONS[relation.kind])
    text = f"{words} {kind(rng, relation.anchor, rng.choice(('a', 'a', 'the')))}"
    if relation.then is not None:
        text = f"{text} {rng.choice(('that is', 'which is', 'that is'))} {clause(rng, relation.then)}"
    return text


def statement(rng: Random, expression: Expression) -> str:
    """Word an expression as a statement, e.g. ``"a star is sitting below a blue square"``."""
    verb = rng.choice(("is", "is", "is sitting", "is located"))
    relations = " and ".join(clause(rng, relation) for relation in expression.relations)
    return f"{kind(rng, expression.noun, rng.choice(('a', 'the')))} {verb} {relations}"


def _ranked(rng: Random, name: str, axis: str, number: int) -> str:
    if number == 1:
        first = f"{_FIRST[axis]} {name}"
        return rng.choice((first, f"{name} farthest to the {axis}" if axis in ("left", "right") else first))
    ordinal = rng.choice(_ORDINALS[number])
    return rng.choice((f"{ordinal} {name} from the {axis}", f"{ordinal} {name} from {axis}"))
