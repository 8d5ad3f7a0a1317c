"""Run lengths and polygons, against a plain loop over COCO's format and pycocotools."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz.mutate import changed, damaged, odd
from fuzz.runner import Case, Wrong

MOST_PIXELS = 1 << 22  # of a mask that oracles make


def runs_of(counts: Any) -> list[int] | None:
    """Read counts by COCO's rules; None where they are none."""
    if isinstance(counts, list):
        return counts if all(type(run) is int and run >= 0 for run in counts) else None
    try:
        content = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except (UnicodeError, TypeError, ValueError):
        return None
    runs: list[int] = []
    number = shift = 0
    for code in (byte - 48 for byte in content):
        if not 0 <= code < 64:
            return None
        number |= (code & 31) << shift
        shift += 5
        if not code & 32:
            number -= (1 << shift) if code & 16 else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    return None if shift or any(run < 0 for run in runs) else runs


def rle_mask(rle: Any, size: Sequence[int] | None = None) -> np.ndarray | None:
    """Return the bool mask ``(H, W)`` of a run-length code that has that size; None if it is damaged."""
    own = rle.get("size", size)
    if not isinstance(own, list | tuple) or len(own) != 2 or any(type(side) is not int for side in own):
        return None
    if min(own) < 0 or (size is not None and list(own) != list(size)):
        return None
    runs = runs_of(rle.get("counts"))
    if runs is None or sum(runs) != own[0] * own[1] or own[0] * own[1] > MOST_PIXELS:
        return None
    flat = [bool(number % 2) for number, run in enumerate(runs) for _ in range(run)]
    return np.array(flat, bool).reshape(own[1], own[0]).T


def polygon_mask(polygons: Any, height: int, width: int, rule: str = "union") -> np.ndarray | None:
    """Return the mask of COCO's polygons; None if they are no lists of pairs of finite numbers."""
    from pycocotools import mask as coco

    cover = np.zeros((height, width), int)
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            return None
        if any(not isinstance(number, int | float) or not abs(number) < 1e300 for number in polygon):
            return None
        if len(polygon) >= 6:
            cover += coco.decode(coco.frPyObjects([[float(c) for c in polygon]], height, width))[..., 0]
    return cover == 1 if rule == "sum_equals_one" else cover > 0


def drawn_mask(instance: Any, height: int, width: int) -> np.ndarray | None:
    """Return the mask of PhraseCut's polygons, each drawn by Pillow; None if they are no points."""
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (width, height))
    for polygon in instance if isinstance(instance, list) else [None]:
        if not isinstance(polygon, list) or any(not isinstance(p, list) or len(p) != 2 for p in polygon):
            return None
        if any(not isinstance(c, int | float) or not abs(c) < 1e300 for p in polygon for c in p):
            return None
        if len(polygon) > 1:
            ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in polygon], fill=1, outline=1)
    return np.array(canvas)


def segmentation_mask(value: Any, height: int, width: int, rule: str = "union") -> np.ndarray | None:
    """Return the mask of what COCO calls a segmentation; None if it is damaged."""
    if isinstance(value, dict):
        return rle_mask({"size": value.get("size"), "counts": value.get("counts")}, (height, width))
    return polygon_mask(value, height, width, rule) if isinstance(value, list) else None


def compare(make: Callable[[], Any], expected: Callable[[], np.ndarray | None], what: str) -> str:
    """Make a mask and compare it; "failed" where that is a ValueError, which is never wrong."""
    try:
        mask = make()
    except ValueError:
        return "failed"
    if mask.numel() > MOST_PIXELS:
        return "read"
    if (wanted := expected()) is None:
        raise Wrong(f"{what}: a mask of what is damaged")
    if mask.shape != wanted.shape or not np.array_equal(mask.numpy(), wanted):
        raise Wrong(f"{what}: {int((mask.numpy() != wanted).sum())} pixels are others")
    return "read"


def attempt(make: Callable[[], Any]) -> str:
    """Say whether something can be made; a ValueError is never wrong."""
    try:
        make()
    except ValueError:
        return "failed"
    return "read"


def _blob(random: Random) -> np.ndarray:
    height, width = random.randint(0, 12), random.randint(0, 12)
    return np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)], bool).reshape(
        height, width
    )


def run_lengths(_: Path) -> Case:
    """Codes of random masks, compressed or not, damaged or whole."""
    from pycocotools import mask as coco

    from gl_ris.masks import decode_rle

    def case(random: Random) -> str:
        mask = _blob(random)
        counts: Any = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] if mask.size else b"0"
        rle: Any = {"size": list(mask.shape), "counts": counts}
        if random.random() < 0.4:
            rle["counts"] = runs_of(counts)
        elif random.random() < 0.5:
            rle["counts"] = counts.decode()
        whole, size = random.random() < 0.1, random.choice((None, mask.shape, (6, 10)))
        if whole:
            size = None
        elif random.random() < 0.5:
            rle = changed(random, rle, as_json=False, most=1)
        elif isinstance(rle["counts"], bytes):
            rle["counts"] = damaged(random, counts)
        else:
            rle["counts"] = random.choice((rle["counts"] * 2, rle["counts"][1:], odd(random, False)))
        if not isinstance(rle, dict):
            return "failed"
        result = compare(
            lambda: decode_rle(rle, size), functools.partial(rle_mask, rle, size), f"{rle!r:.300}"
        )
        if whole and mask.size and result != "read":
            raise Wrong(f"refused: {rle}")
        return result

    return case


def _coordinate(random: Random) -> float:
    return random.choice(
        (random.uniform(-3, 15), random.randint(-2, 14), random.uniform(-200, 200), 0.5, 7.0)
    )


def polygons(_: Path) -> Case:
    """Outlines of COCO's and of PhraseCut's form, by all rules."""
    from datamodules.records import Segmentation

    def case(random: Random) -> str:
        size = random.randint(1, 12), random.randint(1, 12)
        rule: Any = random.choice(("union", "sum_equals_one", "drawn"))
        points = [
            [[_coordinate(random), _coordinate(random)] for _ in range(random.randint(0, 6))]
            for _ in range(random.randint(0, 3))
        ]
        value: Any = points if rule == "drawn" else [[c for p in polygon for c in p] for polygon in points]
        if random.random() < 0.6:
            value = changed(random, value, as_json=False, most=2) if value else odd(random, False)
        made = Segmentation.from_points(value) if rule == "drawn" else Segmentation.from_json(value)
        expected = drawn_mask if rule == "drawn" else functools.partial(segmentation_mask, rule=rule)
        return compare(
            lambda: made.mask(*size, rule), lambda: expected(value, *size), f"{rule} {size} {value!r:.300}"
        )

    return case
