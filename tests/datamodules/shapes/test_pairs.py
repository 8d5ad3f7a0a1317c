"""Families of pictures: each picture and its caption are about one and the same object."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest

from datamodules.shapes import pairs
from datamodules.shapes.world import COLORS, ShapeScene, Thing

# No colour and no category twice, so that a word and a pixel each tell the object.
NAMED = {"red": "square", "green": "circle", "blue": "triangle", "yellow": "star"}
SCENE = ShapeScene(
    240,
    192,
    tuple(
        Thing(
            category, color, "solid", "medium", 50.0 + 130 * (place % 2), 50.0 + 90 * (place // 2), 20.0, 0.0
        )
        for place, (color, category) in enumerate(NAMED.items())
    ),
    background=3,
)


def dominant_colour(picture: np.ndarray) -> str:
    """The colour of the four whose pixels are the most."""
    pixels = picture.reshape(-1, 3).astype(float)
    near = {name: int((np.abs(pixels - COLORS[name]).max(1) < 30).sum()) for name in NAMED}
    return max(near, key=lambda name: near[name])


def first_named(caption: str) -> str | None:
    """The object of the four that a caption names first, by its colour or category."""
    by_word = {**{color: color for color in NAMED}, **{category: color for color, category in NAMED.items()}}
    return next((by_word[word] for word in caption.split() if word in by_word), None)


@pytest.mark.parametrize("make", [pairs.close_ups_within_a_scene, pairs.portraits_within_a_scene])
def test_each_of_four_objects_has_a_picture_and_the_words_about_it(
    make: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "sample_scene", lambda *_: SCENE)
    for seed in range(10):
        shots = make(Random(seed))  # type: ignore[operator]
        shown = [dominant_colour(np.asarray(picture)) for picture, _ in shots]
        assert sorted(shown) == sorted(NAMED)
        for color, (_, say) in zip(shown, shots, strict=True):
            named = Counter(first_named(say().text) for _ in range(15))
            # now and then the subject is a mere "thing", and a neighbour is named before it
            assert named.most_common(1)[0][0] == color
