"""Outlines of masks as the page of a report draws them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from skimage.draw import polygon2mask

from experiments.reporting.report_pictures import Outlines


@pytest.mark.parametrize("factor", [1, 4], ids=["small", "scaled-down"])
def test_outlines_fill_what_masks_do(factor: int) -> None:
    rows, columns = np.mgrid[:60, :80]
    ring = ((rows - 30) ** 2 + (columns - 30) ** 2 < 500) & ((rows - 30) ** 2 + (columns - 30) ** 2 > 100)
    mask = (ring | ((rows < 20) & (columns > 60))).repeat(factor, 0).repeat(factor, 1)
    outlines = Outlines(mask.shape, (80, 60))
    number = outlines.add("key", torch.from_numpy(mask))
    assert outlines.add("key", torch.from_numpy(mask)) == number == 0
    assert outlines.size == [160, 120]
    inside = np.zeros((120, 160), dtype=bool)
    for part in outlines.paths[0].split("M")[1:]:
        start, steps = part.rstrip("z").split("l")
        numbers = [int(text) for text in re.findall(r"-?\d+", f"{start} {steps}")]
        points = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0)
        inside ^= polygon2mask(inside.shape, points[:, ::-1] - 0.5)  # even-odd, at the middle of pixels
    wanted = (ring | ((rows < 20) & (columns > 60))).repeat(2, 0).repeat(2, 1)
    assert (inside & wanted).sum() / (inside | wanted).sum() > 0.95
