"""Painting a RefShapes scene, and the exact mask of each of its objects, whose outlines stand at the end."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from datamodules.shapes.world import COLORS, ShapeScene, Thing
from gl_ris.files import read_table

_SCALE = 2  # scenes are painted this much larger and averaged down, for smooth edges

_STRAIGHT = Path(__file__).with_name("outlines.yaml")
_RGB = tuple[int, int, int]
_Polygon = list[tuple[float, float]]
_BACKDROPS: tuple[_RGB, ...] = (
    (196, 184, 164), (168, 180, 186), (178, 190, 170), (190, 172, 172), (158, 162, 150),
    (140, 150, 164), (206, 202, 192),
)  # fmt: skip


def draw_scene(scene: ShapeScene) -> tuple[Image.Image, np.ndarray]:
    """Paint a scene; return the RGB image and the masks of its objects, bool ``(objects, height, width)``.

    What later objects cover is not part of a mask.
    """
    image = _backdrop(scene)
    covers = np.zeros((len(scene.things), scene.height, scene.width), bool)
    for index, thing in enumerate(scene.things):
        left, top = _corner(thing)
        patch, alpha = paint_thing(thing)
        image.paste(patch, (left, top), alpha)
        stencil = Image.new("L", (scene.width, scene.height), 0)
        stencil.paste(alpha, (left, top))
        covers[index] = np.asarray(stencil) >= 128
    above = np.logical_or.accumulate(covers[::-1])[::-1]  # what an object and all later ones cover
    covers[:-1] &= ~above[1:]
    return image, covers


def paint_thing(thing: Thing) -> tuple[Image.Image, Image.Image]:
    """Paint one object on an RGB patch at the scale of the image; also its coverage (mode L, 0 to 255)."""
    main, second, rim = _palette(thing)
    side = 2 * _reach(thing)
    pattern = Image.new("RGB", (side * _SCALE, side * _SCALE), main)
    _FILLS[thing.fill](ImageDraw.Draw(pattern), thing, second)
    cover = Image.new("L", pattern.size, 0)
    edge = _corners(thing, closed=True)
    ImageDraw.Draw(cover).polygon(_corners(thing), fill=255)
    ImageDraw.Draw(cover).line(edge, fill=255, width=2 * _SCALE, joint="curve")
    ImageDraw.Draw(pattern).line(edge, fill=rim, width=2 * _SCALE, joint="curve")
    return pattern.reduce(_SCALE), cover.reduce(_SCALE)


def _reach(thing: Thing) -> int:
    return math.ceil(1.12 * thing.radius) + 2


# the whole pixel of the image at which an object's patch begins
def _corner(thing: Thing) -> tuple[int, int]:
    return math.floor(thing.x) - _reach(thing), math.floor(thing.y) - _reach(thing)


def _centre(thing: Thing) -> tuple[float, float]:
    left, top = _corner(thing)
    return (thing.x - left) * _SCALE, (thing.y - top) * _SCALE


def _corners(thing: Thing, closed: bool = False) -> list[tuple[float, float]]:
    sin, cos = math.sin(math.radians(thing.angle)), math.cos(math.radians(thing.angle))
    scale = thing.radius * _SCALE
    middle_x, middle_y = _centre(thing)
    points: list[tuple[float, float]] = [
        # whole units: a difference in the last bit between two machines' sines cannot move an edge
        (round(middle_x + scale * (cos * x - sin * y)), round(middle_y + scale * (sin * x + cos * y)))
        for x, y in outline(thing.category)
    ]
    return [*points, points[0], points[1]] if closed else points


def _mix(a: _RGB, b: _RGB, share: float) -> _RGB:
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True))  # type: ignore[return-value]


def _palette(thing: Thing) -> tuple[_RGB, _RGB, _RGB]:
    main = COLORS[thing.color]
    wobble = Random(f"{thing.x:.3f} {thing.y:.3f}")
    main = tuple(min(255, max(0, channel + wobble.randint(-9, 9))) for channel in main)  # type: ignore[assignment]
    luminance = 0.299 * main[0] + 0.587 * main[1] + 0.114 * main[2]
    second = _mix(main, (70, 70, 74), 0.6) if luminance > 190 else _mix(main, (255, 255, 255), 0.72)
    return main, second, _mix(main, (10, 10, 14), 0.72)


def _striped(drawing: ImageDraw.ImageDraw, thing: Thing, second: _RGB) -> None:
    (x, y), reach = _centre(thing), 1.2 * thing.radius * _SCALE
    step = 0.56 * thing.radius * _SCALE
    for k in range(-3, 4):
        middle = x + k * step
        ends = (middle - reach, y + reach, middle + reach, y - reach)
        drawing.line(ends, fill=second, width=round(step * 0.36))


def _dotted(drawing: ImageDraw.ImageDraw, thing: Thing, second: _RGB) -> None:
    x, y = _centre(thing)
    step = 0.5 * thing.radius * _SCALE
    dot = 0.30 * step
    for row in range(-3, 4):
        for column in range(-3, 4):
            cx, cy = x + (column + 0.5 * (row % 2)) * step, y + row * step * 0.87
            drawing.ellipse((cx - dot, cy - dot, cx + dot, cy + dot), fill=second)


def _checkered(drawing: ImageDraw.ImageDraw, thing: Thing, second: _RGB) -> None:
    x, y = _centre(thing)
    step = 0.4 * thing.radius * _SCALE
    for row in range(-4, 4):
        for column in range(-4, 4):
            if (row + column) % 2 == 0:
                left, top = x + column * step, y + row * step
                drawing.rectangle((left, top, left + step, top + step), fill=second)


def _hollow(drawing: ImageDraw.ImageDraw, thing: Thing, second: _RGB) -> None:
    x, y = _centre(thing)
    inner = [(x + 0.62 * (px - x), y + 0.62 * (py - y)) for px, py in _corners(thing)]
    drawing.polygon(inner, fill=_mix(second, (255, 255, 255), 0.5))


_FILLS: dict[str, Callable[[ImageDraw.ImageDraw, Thing, _RGB], None]] = {
    "solid": lambda drawing, thing, second: None,
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "hollow": _hollow,
}


# a muted gradient with a soft grain, weaker than any object's edge
def _backdrop(scene: ShapeScene) -> Image.Image:
    rng = Random(scene.background)
    base = _mix(rng.choice(_BACKDROPS), rng.choice(_BACKDROPS), rng.random() * 0.5)
    tilt_x, tilt_y = rng.uniform(-16, 16), rng.uniform(-16, 16)
    width, height = scene.width, scene.height
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    period, turn = rng.uniform(12, 30), rng.choice((-1, 0, 1))
    shade = tilt_x * (x / width - 0.5) + tilt_y * (y / height - 0.5)
    shade = shade + np.float32(rng.uniform(0, 4)) * np.sin((x + turn * y) * np.float32(2 * np.pi / period))
    coarse = Image.frombytes("L", (width // 4, height // 4), rng.randbytes((width // 4) * (height // 4)))
    grain = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255 - 0.5
    shade = np.rint(shade + np.float32(rng.uniform(6, 16)) * grain).astype(np.int16)
    return Image.fromarray(np.clip(shade[..., None] + np.asarray(base, np.int16), 0, 255).astype(np.uint8))


def _polar(radius: Callable[[float], float], steps: int = 72) -> _Polygon:
    turns = [2 * math.pi * i / steps for i in range(steps)]
    return [(radius(t) * math.sin(t), -radius(t) * math.cos(t)) for t in turns]


def _heart() -> _Polygon:
    def height(t: float) -> float:
        return -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15.5

    return [(math.sin(t) ** 3, height(t)) for t in (2 * math.pi * i / 72 for i in range(72))]


def _moon() -> _Polygon:
    outer = [(-math.sin(t), -math.cos(t)) for t in (math.pi * (i / 24 * 1.24 - 0.12) for i in range(25))]
    inner = [(0.36 - 0.80 * math.sin(t), 0.80 * math.cos(t)) for t in (math.pi * (i / 20) for i in range(21))]
    return [(x + 0.32, y) for x, y in outer + inner]


def _drop() -> _Polygon:
    turns = [math.radians(62 + i * 236 / 40) for i in range(41)]
    return [(0.0, -1.0), *((0.68 * math.sin(t), 0.32 - 0.68 * math.cos(t)) for t in turns)]


def _fish() -> _Polygon:
    turns = [math.radians(28 + i * 304 / 40) for i in range(41)]
    body = [(-0.25 + 0.75 * math.cos(t), 0.5 * math.sin(t)) for t in turns]
    return [*body, (1.0, -0.6), (0.82, 0.0), (1.0, 0.6)]


# those that are computed; the others stand in ``outlines.yaml``
_OUTLINES: dict[str, Callable[[], _Polygon]] = {
    "circle": lambda: _polar(lambda _: 0.94),
    "oval": lambda: [(1.08 * x, 0.58 * y) for x, y in _polar(lambda _: 1.0)],
    "semicircle": lambda: [(math.cos(t), 0.5 - math.sin(t)) for t in (math.pi * i / 36 for i in range(37))],
    "hexagon": lambda: [
        (math.sin(t), -math.cos(t)) for t in (2 * math.pi * i / 6 + math.pi / 6 for i in range(6))
    ],
    "star": lambda: [
        (radius * math.sin(t), -radius * math.cos(t))
        for radius, t in ((1.0 if i % 2 == 0 else 0.42, i * math.pi / 5) for i in range(10))
    ],
    "heart": _heart,
    "moon": _moon,
    "drop": _drop,
    "flower": lambda: _polar(lambda t: 0.76 + 0.24 * math.cos(6 * t), 96),
    "gear": lambda: _polar(lambda t: 1.0 if (t * 8 / (2 * math.pi)) % 1.0 < 0.5 else 0.72, 160),
    "fish": _fish,
}


@cache
def outline(category: str) -> tuple[tuple[float, float], ...]:
    """Give the corners ``(x, y)`` of a category, y pointing down, roughly within the unit circle."""
    if category in _OUTLINES:
        return tuple(_OUTLINES[category]())
    return tuple((x, y) for x, y in read_table(_STRAIGHT)[category])
