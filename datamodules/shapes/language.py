"""Wording: from a meaning to an English phrase, in the styles of the three registers and of captions."""

from pathlib import Path
from random import Random
from typing import Any

from datamodules.shapes.meaning import Expression, Noun, Relation
from gl_ris.files import read_table

# by kind, and of most kinds by what they say; the more often one stands in a list, the more often it is drawn
_WORDS: dict[str, Any] = read_table(Path(__file__).with_name("words.yaml"))


def kind(rng: Random, noun: Noun, article: str = "") -> str:
    """Word a kind of object, e.g. ``"the small striped red star"``; ``article`` is the, a (or an) or none."""
    head = noun.category or rng.choice(_WORDS["any"])
    size = [rng.choice(_WORDS["sizes"][noun.size])] if noun.size else []
    fill, clause = [], ""
    if noun.fill and rng.random() < 0.25:
        clause = " " + rng.choice(_WORDS["fill_clauses"][noun.fill])
    elif noun.fill:
        fill = [rng.choice(_WORDS["fill_adjectives"][noun.fill])]
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
        name = f"{rng.choice(_WORDS['places_before'][expression.place])} {name}"
    elif expression.place:
        name = f"{name} {rng.choice(_WORDS['places_after'][expression.place])}"
    for relation in expression.relations:
        name = f"{name} {rng.choice(_WORDS['relations'][relation.kind])} {kind(rng, relation.anchor)}"
    return name


def sentence(rng: Random, expression: Expression, article: str = "the") -> str:
    """Word an expression at length, e.g. ``"the small star that is below a blue square"``."""
    text = kind(rng, expression.noun, article)
    if expression.place:
        text = f"{text} {rng.choice(_WORDS['places_after'][expression.place])}"
    for number, relation in enumerate(expression.relations):
        link = rng.choice(("and ", "and ") if number else _WORDS["links"])
        text = f"{text} {link}{clause(rng, relation)}"
    return text


def clause(rng: Random, relation: Relation) -> str:
    """Word a relation, e.g. ``"next to a star that is above a circle"``."""
    words = rng.choice(_WORDS["relations"][relation.kind])
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
        first = f"{_WORDS['first'][axis]} {name}"
        return rng.choice((first, f"{name} farthest to the {axis}" if axis in ("left", "right") else first))
    ordinal = rng.choice(_WORDS["ordinals"][number])
    return rng.choice((f"{ordinal} {name} from the {axis}", f"{ordinal} {name} from {axis}"))


def plural(words: str) -> str:
    """Name several of a kind, e.g. ``"red crosses"``."""
    return f"{words}es" if words.endswith("s") else f"{words}s"
