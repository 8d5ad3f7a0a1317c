"""Score map against two convolutions and a mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from by_hand import covered, dense, pixels_of
from gl_ris.clip import RegionCLIP
from gl_ris.scorers.score_map import ScoreMap

EXPRESSIONS = ["the red star", "a striped square left of the dog", "green"]


@torch.no_grad()
def test_score_map_is_two_convolutions_and_a_mean(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    actual = ScoreMap(clip, recipe="clean")(image, masks, EXPRESSIONS)
    features, grid = dense(clip, pixels_of(clip, image)), covered(masks, clip.tower.grid_size)
    for row, text in enumerate(clip.encode_texts(EXPRESSIONS)):
        score_map = F.cosine_similarity(features, text[:, None, None], dim=0)
        for column, weights in enumerate(grid):
            expected = (score_map * weights).sum() / weights.sum()
            torch.testing.assert_close(actual[row, column], expected, rtol=1e-4, atol=1e-5)
    assert actual.std(dim=1).min() > 1e-3
