from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from datamodules.shapes.speakers import REGISTERS, Utterance, caption, is_true, refer, subject_caption
from datamodules.shapes.world import (
    CATEGORIES,
    COLORS,
    SEEN,
    UNSEEN_CATEGORIES,
    ShapeScene,
    Thing,
    sample_scene,
)

# An oracle of its own: it reads the words, knows nothing of the meanings they were made from.
SIZE_WORDS = {"small": "small", "little": "small", "tiny": "small", "large": "large", "big": "large"}
FILL_WORDS = {
    "solid": "solid", "plain": "solid", "striped": "striped", "stripes": "striped",
    "dotted": "dotted", "spotted": "dotted", "dots": "dotted", "spots": "dotted",
}  # fmt: skip
SIDES = {
    "above": (0, -1), "over": (0, -1), "higher": (0, -1), "below": (0, 1), "under": (0, 1), "beneath": (0, 1),
    "left": (-1, 0), "right": (1, 0),
}  # fmt: skip
RELATION = re.compile(
    r"\b(?:to the |on the )?(above|over|higher than|below|under|beneath|left of|left side of|right of"
    r"|right side of|right next to|next to|beside|close to)\b"
)


def fits(words: str, thing: Thing) -> bool:
    for word in re.findall(r"\w+", words):
        wanted, got = None, None
        if word in CATEGORIES:
            wanted, got = word, thing.category
        elif word in COLORS:
            wanted, got = word, thing.color
        elif word in SIZE_WORDS:
            wanted, got = SIZE_WORDS[word], thing.size
        elif word in FILL_WORDS:
            wanted, got = FILL_WORDS[word], thing.fill
        if wanted != got:
            return False
    return True


def relation_of(text: str, scene: ShapeScene, index: int) -> tuple[str, bool | None]:
    """The first word of a relation, and whether it holds of an object; None if it says no direction."""
    _, word, anchor, *_ = RELATION.split(text)
    anchor = re.split(r" (?:and|that|which) ", anchor)[0] if "that has" not in anchor else anchor
    side = SIDES.get(word.split()[0]) if "next" not in word else None
    if side is None or "that has" in anchor:
        return word.split()[0], None
    target = scene.things[index]
    offsets = [
        ((target.x - o.x) * side[0] + (target.y - o.y) * side[1])
        for o in scene.things
        if o is not target and fits(anchor, o)
    ]
    return word.split()[0], max(offsets, default=-1) > 0


def said(register: str, scenes: int = 150) -> list[tuple[ShapeScene, int, Utterance]]:
    found = []
    for number in range(scenes):
        rng = Random(f"{register} {number}")
        scene = sample_scene(rng, rng.randint(3, 7))
        for index in range(min(2, len(scene.things))):
            utterance = refer(rng, scene, index, register)
            if utterance is not None:
                found.append((scene, index, utterance))
    return found


@pytest.mark.parametrize("register", REGISTERS)
def test_the_words_before_any_relation_fit_the_target(register: str) -> None:
    for scene, index, utterance in said(register):
        head = RELATION.split(utterance.text)[0]
        head = re.sub(r"\b(on|at|in|to) .*", "", head)
        assert fits(head, scene.things[index]), utterance.text


@pytest.mark.parametrize("register", ["refshapes", "refshapes+"])
def test_words_alone_single_the_target_out(register: str) -> None:
    place = re.compile(r"\b(left|right|top|bottom|upper|lower|middle|center|\w+most|farthest|from)\b")
    plain = [
        item
        for item in said(register)
        if not place.search(item[2].text) and not RELATION.search(item[2].text)
    ]
    assert len(plain) > 40
    for scene, index, utterance in plain:
        assert [i for i, thing in enumerate(scene.things) if fits(utterance.text, thing)] == [index], (
            utterance.text
        )


def test_relations_hold_of_the_target() -> None:
    checked: Counter[str] = Counter()
    for scene, index, utterance in said("refshapesg"):
        word, holds = relation_of(utterance.text, scene, index)
        checked[word] += holds is not None
        assert holds is not False, utterance.text
    assert {word for word, count in checked.items() if count} == set(SIDES)


def test_refshapes_plus_never_says_where_in_the_picture() -> None:
    absolute = re.compile(
        r"\b(top|bottom|upper|lower|middle|center|corner|leftmost|rightmost|from (the )?left)\b"
    )
    assert not [u.text for _, _, u in said("refshapes+") if absolute.search(u.text)]


def test_naming_the_category_is_mostly_not_enough() -> None:
    items = said("refshapesg", 300)
    shared = [sum(t.category == scene.things[i].category for t in scene.things) > 1 for scene, i, _ in items]
    assert sum(shared) / len(shared) > 0.5


def test_describing_the_target_alone_is_often_enough_but_not_always() -> None:
    items = said("refshapesg", 300)
    alone = [sum(u.meaning.noun.fits(t) for t in scene.things) == 1 for scene, _, u in items]
    assert 0.5 < sum(alone) / len(alone) < 0.85


def test_captions_are_true_and_tell_their_scene_apart() -> None:
    scenes = [sample_scene(Random(f"scene {k}"), 1 + k % 6) for k in range(60)]
    for k, scene in enumerate(scenes):
        rng = Random(k)
        claims = [caption(rng, scene) for _ in range(5)]
        assert all(is_true(claim, scene) for claim in claims)
    told_apart = [not is_true(caption(Random(k), scene), scenes[k - 1]) for k, scene in enumerate(scenes)]
    assert sum(told_apart) / len(told_apart) > 0.8


def test_the_caption_of_a_subject_speaks_of_that_object_first() -> None:
    others = 0
    for number in range(200):
        rng = Random(number)
        scene = sample_scene(rng, 5, SEEN)
        index = number % len(scene.things)
        text = subject_caption(rng, scene, index).text
        subject, *rest = RELATION.split(text)
        assert fits(subject, scene.things[index])
        assert not rest or relation_of(text, scene, index)[1] is not False, text
        others += bool(rest)
    assert 80 < others < 180


def test_scenes_keep_to_their_vocabulary_and_frame() -> None:
    for number in range(200):
        scene = sample_scene(Random(number), 5, SEEN)
        for thing in scene.things:
            assert thing.category not in UNSEEN_CATEGORIES
            assert thing.radius <= thing.x <= scene.width - thing.radius
            assert thing.radius <= thing.y <= scene.height - thing.radius


def test_the_stream_of_scenes_and_words_is_the_same_everywhere() -> None:
    rng = Random("golden")
    scene = sample_scene(rng, 5)
    texts = [
        utterance.text if (utterance := refer(rng, scene, 0, register)) else None for register in REGISTERS
    ]
    assert texts == GOLDEN, (
        "the data set changed: raise datamodules.refshapes.VERSION and this record together"
    )


GOLDEN = [
    "star in the top right corner",
    "big solid blue star over one",
    "the big star sitting above a hexagon",
]
