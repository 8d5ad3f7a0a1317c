from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[3] / "data"


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of the published weights."""
    rows = [line.split("\t") for line in (DATA / "freesolo_weights.tsv").read_text().splitlines()]
    return {name: tuple(map(int, shape.split())) for name, shape in rows}


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Draw weights under which activations neither vanish nor explode, and some cells are candidates."""
    random = np.random.RandomState(seed)  # its stream is frozen for good
    weights = {name: _draw(name, shape, random) for name, shape in sorted(shapes.items())}
    weights["ins_head.cate_pred.bias"] -= 4
    weights["ins_head.kernel_pred.weight"] *= 0.2
    return weights


def _draw(name: str, shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
    values = random.random_sample(shape)
    if len(shape) > 1:
        values = (values - 0.5) * 2 * (6 / np.prod(shape[1:])) ** 0.5
    elif name.endswith("bias") or name.endswith("running_mean"):
        values = (values - 0.5) / 3
    else:
        values = 0.75 + values / 2
        if "conv3.norm.weight" in name:
            values /= 5
    return values.astype(np.float32)


def random_pixels(size: tuple[int, int], seed: int) -> np.ndarray:
    """Draw an image of blobs, float32 (3, h, w), as if it were normalised."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    pixels = random.normal(0, 0.1, (3, *size))
    for _ in range(12):
        cy, cx, width = random.random_sample(3)
        pixels += random.normal(0, 1.5, (3, 1, 1)) * (np.hypot(y - cy, x - cx) < 0.05 + 0.3 * width)
    return pixels.astype(np.float32)


@pytest.fixture(scope="session")
def shapes() -> dict[str, tuple[int, ...]]:
    return published_shapes()


@pytest.fixture(scope="session")
def draw_weights() -> Callable[[Mapping[str, tuple[int, ...]], int], dict[str, np.ndarray]]:
    return random_weights


@pytest.fixture(scope="session")
def draw_pixels() -> Callable[[tuple[int, int], int], np.ndarray]:
    return random_pixels
