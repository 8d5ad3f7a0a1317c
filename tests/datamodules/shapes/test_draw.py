from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from datamodules.shapes.draw import draw_scene, outline
from datamodules.shapes.pairs import FAMILIES, FAMILY, Shot, close_ups_within_a_scene, family
from datamodules.shapes.world import CATEGORIES, COLORS, EVERYTHING, FILLS, ShapeScene, Thing, sample_scene


def alone(category: str = "square", **changes: object) -> ShapeScene:
    thing = replace(Thing(category, "red", "solid", "large", 100.0, 90.0, 40.0, 0.0), **changes)  # type: ignore[arg-type]
    return ShapeScene(216, 192, (thing,), background=3)


def polygon(category: str, radius: float) -> tuple[float, float]:
    """Area and perimeter of the outline, in pixels."""
    x, y = radius * np.array(outline(category)).T
    area = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    return area, float(np.hypot(x - np.roll(x, 1), y - np.roll(y, 1)).sum())


@pytest.mark.parametrize("category", CATEGORIES)
def test_mask_is_the_outline_with_its_rim(category: str) -> None:
    _, masks = draw_scene(alone(category))
    area, perimeter = polygon(category, 40)
    # the rim is two pixels wide and lies astride the outline
    assert area < masks[0].sum() < area + 1.5 * perimeter


def test_square_lies_where_it_should() -> None:
    image, masks = draw_scene(alone())
    rows, columns = np.nonzero(masks[0])
    assert (columns.min(), columns.max()) == pytest.approx((100 - 33, 100 + 33), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((90 - 33, 90 + 33), abs=2)
    assert np.asarray(image)[90, 100] == pytest.approx(np.array(COLORS["red"]), abs=10)
    assert image.size == (216, 192)


def test_masks_are_what_is_seen() -> None:
    below = alone().things[0]
    above = replace(below, category="circle", color="blue", x=120.0)
    _, masks = draw_scene(replace(alone(), things=(below, above)))
    assert not (masks[0] & masks[1]).any()
    assert masks[1, 90, 120]
    assert not masks[0, 90, 120]
    assert masks[0].sum() < draw_scene(alone())[1][0].sum()


@pytest.mark.parametrize("fill", FILLS)
def test_fills_look_different(fill: str) -> None:
    image, masks = draw_scene(alone(fill=fill))
    inside = np.asarray(image)[masks[0]].astype(int)
    main = np.abs(inside - np.array(COLORS["red"])).max(1) < 30
    share = {"solid": (0.85, 1.0), "hollow": (0.3, 0.7)}.get(fill, (0.35, 0.82))
    assert share[0] < main.mean() < share[1]


def test_objects_stand_out_from_the_ground() -> None:
    for number in range(20):
        scene = sample_scene(Random(number), 4, EVERYTHING)
        image, masks = draw_scene(scene)
        ground = np.asarray(image)[~masks.any(0)].astype(float)
        assert ground.std(0).max() < 16


def test_equal_scenes_are_painted_equally() -> None:
    scene = sample_scene(Random(1), 6)
    first, second = draw_scene(scene), draw_scene(scene)
    assert first[0].tobytes() == second[0].tobytes()
    assert (first[1] == second[1]).all()


def test_families_are_alike_but_not_equal() -> None:
    images, captions = family("some seed", 64, 3)
    again, _ = family("some seed", 64, 3)
    assert images.shape == (FAMILY, 64, 64, 3)
    assert images.dtype == np.uint8
    assert (images == again).all()
    assert [len(texts) for texts in captions] == [3] * FAMILY
    assert all((images[0] != other).any() for other in images[1:])


@pytest.mark.parametrize("make", FAMILIES)
def test_every_kind_of_family_has_its_pictures_and_captions(make: Callable[[Random], list[Shot]]) -> None:
    for number in range(10):
        shots = make(Random(number))
        assert len(shots) == FAMILY
        assert all(picture.mode == "RGB" and min(picture.size) > 16 for picture, _ in shots)
        assert all(say() for _, say in shots)


def test_captions_of_one_scene_tell_its_objects_apart() -> None:
    shares = []
    for number in range(40):
        captions = [{say() for _ in range(4)} for _, say in close_ups_within_a_scene(Random(number))]
        shares.append(len(set.union(*captions)) / sum(map(len, captions)))
    assert sum(shares) / len(shares) > 0.9
