"""The published network's own answer to random weights, see make_published_outputs.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gl_ris.masks import decode_rle
from gl_ris.proposals import FreeSOLO

OUTPUTS = Path(__file__).parents[3] / "data" / "freesolo_outputs.json"

# The least scores are too near the threshold for them to be the same on every processor.
SURE = 20


def test_random_weights_give_what_the_published_code_gives(
    shapes: dict[str, tuple[int, ...]],
    draw_weights: Callable[..., dict],
    draw_pixels: Callable[..., np.ndarray],
) -> None:
    published = json.loads(OUTPUTS.read_text())
    shapes = {name: shape for name, shape in shapes.items() if name != "_iter"}
    generator = FreeSOLO()
    generator.load_detectron2_state_dict({"model": draw_weights(shapes, published["weights_seed"])})
    pixels = torch.from_numpy(draw_pixels(tuple(published["pixels"]), published["pixels_seed"]))
    height, width = published["image"]
    found = generator.infer(pixels, (height, width))
    assert abs(len(found) - len(published["scores"])) <= 2
    scores, boxes = torch.tensor(published["scores"]), torch.tensor(published["boxes"])
    torch.testing.assert_close(found.scores[:SURE], scores[:SURE], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.boxes[:SURE], boxes[:SURE], atol=1, rtol=0)
    for mask, counts in zip(found.masks[:SURE], published["masks"], strict=False):
        wanted = decode_rle({"size": [height, width], "counts": counts})
        assert (mask & wanted).sum() >= 0.99 * (mask | wanted).sum()
