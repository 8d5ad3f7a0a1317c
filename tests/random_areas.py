"""Areas to measure."""

from __future__ import annotations

import numpy as np
import torch


def random_areas(count: int = 500, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Intersections and unions of an ordinary image's size, some empty on both sides; int64 (count,)."""
    rng = np.random.default_rng(seed)
    union = rng.integers(0, 640 * 480, count)
    union[::50] = 0
    return torch.from_numpy((union * rng.random(count)).astype(np.int64)), torch.from_numpy(union)
