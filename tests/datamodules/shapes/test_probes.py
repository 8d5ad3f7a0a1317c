"""The four probing registers, read by an oracle of words and geometry that knows nothing of their drafts."""

from __future__ import annotations

import re
from collections import Counter
from math import hypot
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from datamodules.shapes.probes import PROBES, area, is_between, outgrows, probe
from datamodules.shapes.scenes import make_picture, make_probes
from datamodules.shapes.world import CATEGORIES, COLORS, ShapeScene, Thing, sample_scene

PLURALS = {name: f"{name}s" for name in CATEGORIES} | {"cross": "crosses"}
SIZES = {"small": "small", "little": "small", "tiny": "small", "large": "large", "big": "large"}
FILLS = {
    "solid": "solid", "plain": "solid", "striped": "striped", "stripes": "striped",
    "dotted": "dotted", "spotted": "dotted", "dots": "dotted", "spots": "dotted",
}  # fmt: skip
ORDINALS = {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4}
SIDES = {"left": (1, 0), "right": (-1, 0), "top": (0, 1), "bottom": (0, -1)}
BEYOND = {"above": (0, -1), "over": (0, -1), "higher": (0, -1), "below": (0, 1), "under": (0, 1),
          "beneath": (0, 1), "left": (-1, 0), "right": (1, 0)}  # fmt: skip


def fits(words: str, thing: Thing) -> bool:
    """Tell whether each word that names a kind, colour, size or fill is true of an object."""
    names = [
        ({name: name for name in CATEGORIES} | {PLURALS[name]: name for name in CATEGORIES}, thing.category),
        ({name: name for name in COLORS}, thing.color),
        (SIZES, thing.size),
        (FILLS, thing.fill),
    ]
    said = re.findall(r"\w+", words)
    return all(table[word] == own for table, own in names for word in said if word in table)


def said(register: str, scenes: int = 120) -> list[tuple[ShapeScene, int, str]]:
    found = []
    for number in range(scenes):
        rng = Random(f"{register} {number}")
        scene = sample_scene(rng, rng.randint(3, 7))
        for index in range(len(scene.things)):
            utterance = probe(rng, scene, index, register)
            if utterance is not None:
                found.append((scene, index, utterance.text))
    return found


def test_ordinals_count_from_the_side_they_name() -> None:
    seen: Counter[tuple[str, int]] = Counter()
    for scene, index, text in said("refshapes-ordinal"):
        word = next(word for word in text.split() if word in ORDINALS)
        side = text.split()[-1]
        x, y = SIDES[side]
        rest = text.replace(side, "")
        alike = [i for i, thing in enumerate(scene.things) if fits(rest, thing)]
        order = sorted(alike, key=lambda i: scene.things[i].x * x + scene.things[i].y * y)
        assert len(alike) > 1
        assert order[ORDINALS[word] - 1] == index, text
        seen[side, ORDINALS[word]] += 1
    assert set(seen) == {(side, k) for side in SIDES for k in (1, 2, 3, 4)}


def test_only_the_target_is_between() -> None:
    pairs = Counter[bool]()
    for scene, index, text in said("refshapes-between", 160):
        head, anchors = re.split(r" (?:that is |in )?between ", text)
        if "two" in anchors:
            ends = [thing for thing in scene.things if fits(anchors, thing)]
        else:
            ends = [thing for name in anchors.split(" and ") for thing in scene.things if fits(name, thing)]
        assert len(ends) == 2, text
        one, other = ends
        length = hypot(one.x - other.x, one.y - other.y)
        # the two ways round are not much longer for what is between
        detour = [
            (hypot(t.x - one.x, t.y - one.y) + hypot(t.x - other.x, t.y - other.y)) / length
            for t in scene.things
        ]
        assert detour[index] < 1.13, text
        assert fits(head, scene.things[index])
        rivals = [
            detour[i]
            for i, thing in enumerate(scene.things)
            if i != index and thing not in ends and fits(head, thing)
        ]
        assert all(rival > detour[index] for rival in rivals), text
        pairs["two" in anchors] += 1
    assert min(pairs[True], pairs[False]) > 5


def test_sizes_compare_as_their_words_say() -> None:
    seen: Counter[str] = Counter()
    for scene, index, text in said("refshapes-size"):
        target, words = scene.things[index], text.split()
        word = next(word for word in words if re.search(r"(er|est)$", word) and word not in CATEGORIES)
        larger = word.startswith(("big", "larg"))
        seen[word] += 1
        if "than" in words:
            head, anchor = re.split(rf" (?:that is |which is )?{word} than ", text)
            others = [thing for thing in scene.things if fits(anchor, thing)]
            assert len(others) == 1, text
        else:
            head = text.replace(word, "")
            others = [t for i, t in enumerate(scene.things) if i != index and fits(head, t)]
            assert others, text
        assert fits(head, target), text
        for other in others:
            assert (target.radius > other.radius) == larger, text
    assert set(seen) == {"bigger", "larger", "smaller", "biggest", "largest", "smallest", "tiniest"}


def test_what_is_denied_is_true_of_the_others_of_the_kind_alone() -> None:
    seen: Counter[str] = Counter()
    for scene, index, text in said("refshapes-negation"):
        head, denied = re.split(r" (?:that is not|that isn't|which is not|that's not|without|with no) ", text)
        target = scene.things[index]
        rivals = [t for i, t in enumerate(scene.things) if i != index and fits(head, t)]
        assert fits(head, target)
        assert rivals, text
        plain = re.fullmatch(r"\w+", denied)
        if plain:
            assert not fits(denied, target), text
            assert all(fits(denied, rival) for rival in rivals), text
            seen["attribute"] += 1
            continue
        (anchor,) = [thing for thing in scene.things if fits(denied.split()[-1], thing)]
        rivals = [rival for rival in rivals if rival is not anchor]
        direction = next((BEYOND[word] for word in denied.split() if word in BEYOND), None)
        if direction is None or "next" in denied:
            gap = hypot(target.x - anchor.x, target.y - anchor.y) - target.radius - anchor.radius
            assert gap > 14, text
        else:
            x, y = direction
            assert all((r.x - anchor.x) * x + (r.y - anchor.y) * y > 0 for r in rivals), text
        seen["relation"] += 1
    assert min(seen["attribute"], seen["relation"]) > 20


def ball(x: float, y: float, radius: float = 30.0, category: str = "circle") -> Thing:
    return Thing(category, "red", "solid", "medium", x, y, radius, 0.0)


@pytest.mark.parametrize(
    ("place", "strict", "loose"),
    [
        ((100, 50), True, True),
        ((100, 75), True, True),
        ((100, 100), False, True),
        ((100, 160), False, False),
        ((60, 50), False, True),
        ((40, 50), False, False),
    ],
    ids=["middle", "a little aside", "aside", "far", "at one of them", "beyond"],
)
def test_between_has_two_readings(place: tuple[float, float], strict: bool, loose: bool) -> None:
    ends = ball(50, 50), ball(200, 50)
    assert [is_between(ball(*place), *ends, strict=reading) for reading in (True, False)] == [strict, loose]


def test_larger_is_so_in_extent_and_in_area() -> None:
    square, star = ball(0, 0, 30, "square"), ball(0, 0, 40, "star")
    assert area(square) == pytest.approx((2 * 0.82 * 30) ** 2)
    assert area(star) < area(square)
    # the star reaches farther but covers less: nobody says it, somebody may hear it, either way
    for sign in (1, -1):
        assert not outgrows(star, square, sign, strict=True)
        assert outgrows(star, square, sign, strict=False)
    assert outgrows(ball(0, 0, 37), ball(0, 0), 1, strict=True)
    assert not outgrows(ball(0, 0), ball(0, 0, 37), 1, strict=False)


def test_the_picture_is_that_of_the_other_registers(tmp_path: Path) -> None:
    usual = make_picture("refshapes 0 val 3", "testA", tmp_path / "a.png")
    made = make_probes("refshapes 0 val 3", "testA", tmp_path / "b.png")
    assert made.scene == usual.scene
    assert (made.masks == usual.masks).all()
    a, b = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert (a == b).all()
    assert list(made.utterances) == list(PROBES)


@pytest.mark.parametrize("register", PROBES)
def test_the_stream_of_words_is_the_same_everywhere(register: str) -> None:
    made = [text for _, _, text in said(register, 12)][:2]
    assert made == GOLDEN[register], "raise datamodules.refshapes.PROBES_VERSION and this record together"


GOLDEN = {
    "refshapes-ordinal": ["the 2nd square from the left", "second large one from the right"],
    "refshapes-between": [
        "the black shape that is between the white square and the green circle",
        "the circle in between the yellow circle and the white arrow",
    ],
    "refshapes-size": ["tiniest oval", "the oval which is bigger than the cross"],
    "refshapes-negation": [
        "the drop that isn't large",
        "the drop which is not on the left side of a diamond",
    ],
}
