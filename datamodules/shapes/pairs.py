"""Images with captions, to train a small CLIP on: no masks, no boxes, no referring expressions.

Pictures come in families of four that share their objects, so that a caption has to get attributes, relations
and its own subject right to tell its image from its sisters in the same batch. As on the web, some pictures
show whole scenes, some one subject with its neighbours, some a thing alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import numpy as np
from PIL import Image

from datamodules.shapes.draw import draw_scene, paint_thing
from datamodules.shapes.speakers import Caption, subject_caption, telling_caption
from datamodules.shapes.world import CANVASES, COLORS, EVERYTHING, FILLS, RADIUS, ShapeScene, sample_scene

Shot = tuple[Image.Image, Callable[[], Caption]]  # a picture, and someone who captions it

FAMILY = 4
_COUNTS = (2, 2, 2, 3, 3, 3, 4, 4, 5, 6)
_GREY = (128, 128, 128)


def family(seed: str, size: int, captions: int) -> tuple[np.ndarray, list[list[Caption]]]:
    """Make one family: uint8 images ``(4, size, size, 3)`` RGB, and for each so many captions.

    Equal seeds give equal families. Scenes are squashed to a square, as CLIP will see them.
    """
    rng = Random(seed)
    (make,) = rng.choices(tuple(FAMILIES), tuple(FAMILIES.values()))
    shots = make(rng)
    images = [np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)) for picture, _ in shots]
    return np.stack(images), [[say() for _ in range(captions)] for _, say in shots]


def views(rng: Random) -> list[Shot]:
    """Whole scenes that share their objects."""
    return _views(rng, rng.choice(_COUNTS))


def views_of_one_object(rng: Random) -> list[Shot]:
    """An object alone in a whole scene, where its size and place can be seen."""
    return _views(rng, 1)


def portraits_across_scenes(rng: Random) -> list[Shot]:
    """The same place in scenes that share their objects."""
    scenes = list(_relatives(rng, sample_scene(rng, rng.choice(_COUNTS), EVERYTHING)))
    index = rng.randrange(len(scenes[0].things))
    return [_portrait(rng, scene, index) for scene in scenes]


def portraits_within_a_scene(rng: Random) -> list[Shot]:
    """Objects of one scene: their captions name each other, so that the subject has to be told apart."""
    scene, chosen = _four_of_one_scene(rng)
    return [_portrait(rng, scene, index) for index in chosen]


def close_ups_within_a_scene(rng: Random) -> list[Shot]:
    """Objects of one scene, each alone; their captions may say what stands outside the frame."""
    scene, chosen = _four_of_one_scene(rng)
    return [_close_up(rng, scene, index) for index in chosen]


def close_ups_of_one_object(rng: Random) -> list[Shot]:
    """An object alone, changed a little from picture to picture."""
    return [_close_up(rng, scene, 0) for scene in _relatives(rng, sample_scene(rng, 1, EVERYTHING))]


# kinds of families, and their shares
FAMILIES: dict[Callable[[Random], list[Shot]], float] = {
    views: 0.55,
    views_of_one_object: 0.05,
    portraits_across_scenes: 0.1,
    portraits_within_a_scene: 0.15,
    close_ups_within_a_scene: 0.1,
    close_ups_of_one_object: 0.05,
}


def _views(rng: Random, count: int) -> list[Shot]:
    scenes = list(_relatives(rng, sample_scene(rng, count, EVERYTHING)))
    return [_view(rng, scene, [other for other in scenes if other is not scene]) for scene in scenes]


# the whole scene; a function, so that each caption keeps its own
def _view(rng: Random, scene: ShapeScene, others: list[ShapeScene]) -> Shot:
    return draw_scene(scene)[0], lambda: telling_caption(rng, scene, others)


def _four_of_one_scene(rng: Random) -> tuple[ShapeScene, list[int]]:
    while True:
        scene = sample_scene(rng, rng.choice((4, 5, 6)), EVERYTHING)
        if len(scene.things) >= FAMILY:
            return scene, rng.sample(range(len(scene.things)), FAMILY)


def _relatives(rng: Random, scene: ShapeScene) -> Iterator[ShapeScene]:
    alone = len(scene.things) == 1  # nothing to be mirrored or handed round
    yield scene
    yield _changed(rng, scene) if alone else _mirrored(rng, scene)
    yield _changed(rng, scene) if alone else _exchanged(rng, scene, ("category", "color", "fill"))
    yield _exchanged(rng, _changed(rng, scene), (rng.choice(("category", "color", "fill")),))


def _mirrored(rng: Random, scene: ShapeScene) -> ShapeScene:
    flip_x, flip_y = rng.choice(((True, False), (False, True), (True, True)))
    things = tuple(
        replace(t, x=scene.width - t.x if flip_x else t.x, y=scene.height - t.y if flip_y else t.y)
        for t in scene.things
    )
    return replace(scene, things=things, background=rng.getrandbits(32))


def _exchanged(rng: Random, scene: ShapeScene, attributes: tuple[str, ...]) -> ShapeScene:
    """Hand the given attributes round among the objects."""
    turn = rng.randrange(1, max(2, len(scene.things)))
    others = scene.things[turn:] + scene.things[:turn]
    things = tuple(
        replace(thing, **{name: getattr(other, name) for name in attributes})
        for thing, other in zip(scene.things, others, strict=True)
    )
    return replace(scene, things=things, background=rng.getrandbits(32))


def _changed(rng: Random, scene: ShapeScene) -> ShapeScene:
    """Give one object another colour, fill, category or (smaller) size."""
    index = rng.randrange(len(scene.things))
    thing = scene.things[index]
    smaller = "small" if thing.size != "small" else thing.size
    changes: tuple[dict[str, str | float], ...] = (
        {"color": rng.choice(tuple(COLORS))},
        {"fill": rng.choice(FILLS)},
        {"category": rng.choice(EVERYTHING.categories)},
        {"size": smaller, "radius": min(thing.radius, rng.uniform(*RADIUS["small"]))},
    )
    things = list(scene.things)
    things[index] = replace(thing, **rng.choice(changes))  # type: ignore[arg-type]
    return replace(scene, things=tuple(things), background=rng.getrandbits(32))


def _portrait(rng: Random, scene: ShapeScene, index: int) -> Shot:
    """Take a picture of one object near the middle of the frame, with the neighbours that fit in."""
    thing = scene.things[index]
    reach = thing.radius * rng.uniform(1.5, 3.4)
    x, y = (place + rng.uniform(-0.5, 0.5) * thing.radius for place in (thing.x, thing.y))
    left, top = max(0, round(x - reach)), max(0, round(y - reach))
    right, bottom = min(scene.width, round(x + reach)), min(scene.height, round(y + reach))
    inside = [t for t in scene.things if t is thing or (left < t.x < right and top < t.y < bottom)]
    framed = replace(scene, things=tuple(inside))
    picture = _drawn(scene).crop((left, top, right, bottom))
    return picture, lambda: subject_caption(rng, framed, inside.index(thing))


@functools.lru_cache(maxsize=1)
def _drawn(scene: ShapeScene) -> Image.Image:
    """Paint a scene of which several pictures are taken one after the other."""
    return draw_scene(scene)[0]


def _close_up(rng: Random, scene: ShapeScene, index: int) -> Shot:
    """Take an object alone on a plain ground, filling the frame, as in a product photo."""
    width, height = rng.choice(CANVASES)
    ground = _GREY if rng.random() < 0.75 else tuple(rng.randint(100, 215) for _ in range(3))
    patch, alpha = paint_thing(replace(scene.things[index], x=width / 2, y=height / 2))
    picture = Image.new("RGB", (patch.width + 8, patch.height + 8), ground)
    picture.paste(patch, (4, 4), alpha)
    left, top, right, bottom = alpha.getbbox() or (0, 0, *patch.size)
    margins = [rng.choice((0, 0, 0, 1, 2, 4)) for _ in range(4)]
    frame = (left + 4 - margins[0], top + 4 - margins[1], right + 4 + margins[2], bottom + 4 + margins[3])
    return picture.crop(frame), lambda: subject_caption(rng, scene, index, alone=True)
