"""The register of generalised expressions, read by an oracle of words that knows nothing of their drafts."""

from __future__ import annotations

import hashlib
import re
from random import Random

import pytest

from datamodules.shapes.groups import generalised
from datamodules.shapes.world import CATEGORIES, COLORS, ShapeScene, Thing, sample_scene

PLURALS = {f"{name}es" if name.endswith("s") else f"{name}s": name for name in CATEGORIES}
WORDS = {
    "category": {name: name for name in CATEGORIES} | PLURALS,
    "color": {name: name for name in COLORS},
    "size": {"small": "small", "little": "small", "tiny": "small", "large": "large", "big": "large"},
    "fill": {
        **{"solid": "solid", "plain": "solid", "striped": "striped", "stripes": "striped"},
        **{"dotted": "dotted", "spotted": "dotted", "dots": "dotted", "spots": "dotted"},
    },
}
SIDES = {"left": ("x", -1), "right": ("x", 1), "top": ("y", -1), "bottom": ("y", 1)}
BEYOND = {
    **{word: ("y", -1) for word in ("above", "over", "higher")},
    **{word: ("y", 1) for word in ("below", "under", "beneath")},
    **{"left": ("x", -1), "right": ("x", 1)},
}
NEAR = {"next", "beside", "close"}
Row = tuple[ShapeScene, tuple[int, ...], str]


def fits(words: list[str], thing: Thing) -> bool:
    return all(
        table[word] == getattr(thing, name)
        for name, table in WORDS.items()
        for word in words
        if word in table
    )


def fitting(text: str, scene: ShapeScene) -> set[int]:
    return {i for i, thing in enumerate(scene.things) if fits(text.split(), thing)}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    found = []
    for number in range(150):
        rng = Random(f"groups {number}")
        scene = sample_scene(rng, rng.randint(3, 7))
        targets = range(len(scene.things))
        for meant, said in generalised(rng, scene, targets).items():
            found += [(scene, meant, one.text) for one in said]
    return found


def test_two_of_a_kind_are_all_of_that_kind_and_place(rows: list[Row]) -> None:
    seen = {True: 0, False: 0}
    for scene, meant, text in rows:
        if not re.match(r"(the two|both|two) ", text):
            continue
        assert len(meant) == 2
        assert text.split()[-1] in PLURALS or text.split()[-1] in SIDES
        kind, _, side = re.sub(r" (on|at) the ", "|", text).partition("|")
        found = fitting(kind, scene)
        assert set(meant) <= found
        if side:
            name, sign = SIDES[side]
            middle = {"x": scene.width / 2, "y": scene.height / 2}[name]
            found = {i for i in found if sign * (getattr(scene.things[i], name) - middle) > 0}
        assert found == set(meant), text
        seen[bool(side)] += 1
    assert min(seen.values()) > 10


def test_one_and_the_other_are_each_alone_of_its_kind(rows: list[Row]) -> None:
    seen = 0
    for scene, meant, text in rows:
        if len(meant) == 2 and " and " in text:
            parts = [fitting(part, scene) for part in text.split(" and ")]
            assert [len(part) for part in parts] == [1, 1], text
            assert set.union(*parts) == set(meant), text
            seen += 1
    assert seen > 100


def _beyond(a: Thing, b: Thing, name: str, sign: int) -> bool:
    other = "y" if name == "x" else "x"
    ahead = sign * (getattr(a, name) - getattr(b, name))
    return ahead > 18 and abs(getattr(a, other) - getattr(b, other)) < 0.75 * ahead


def test_what_is_not_there_is_not_there_but_nearly(rows: list[Row]) -> None:
    seen = {"kind": 0, "relation": 0}
    for scene, meant, text in rows:
        if meant:
            continue
        words = text.split()
        relations = [word for word in words if word in BEYOND]
        if not set(words) & {
            *BEYOND,
            *NEAR,
            "top",
            "bottom",
            "middle",
            "center",
            "centre",
            "most",
        } and not any(word.endswith("most") for word in words):
            assert not fitting(text, scene), text
            said = [(name, table[w]) for name, table in WORDS.items() for w in words if w in table]
            # each part but one is true of some one object
            assert any(sum(getattr(t, n) == v for n, v in said) >= len(said) - 1 for t in scene.things), text
            seen["kind"] += 1
        elif len(relations) == 1 and relations[0] not in SIDES and not set(words) & NEAR:
            head, _, anchor = text.partition(relations[0])
            name, sign = BEYOND[relations[0]]
            pairs = [(i, j) for i in fitting(head, scene) for j in fitting(anchor, scene) if i != j]
            assert not any(_beyond(scene.things[i], scene.things[j], name, sign) for i, j in pairs), text
            seen["relation"] += 1
    assert min(seen.values()) > 10


def test_every_kind_of_expression_is_said_and_nothing_twice(rows: list[Row]) -> None:
    counts = [sum(len(meant) == size for _, meant, _ in rows) for size in range(3)]
    assert min(counts) > 140
    assert len({(id(scene), meant, text) for scene, meant, text in rows}) == len(rows)


def test_the_register_is_what_it_was(rows: list[Row]) -> None:
    made = hashlib.sha256("\n".join(f"{meant} {text}" for _, meant, text in rows).encode()).hexdigest()
    assert made[:16] == "87e9cceef31e9084", (
        "raise datamodules.refshapes.GRES_VERSION and this record together"
    )
