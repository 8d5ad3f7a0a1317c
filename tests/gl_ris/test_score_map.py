"""Score map against two convolutions and a mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from by_hand import covered, embedded, feature_map, pixels_of, run_block
from gl_ris.clip import RegionCLIP
from gl_ris.scorers.score_map import ScoreMap

EXPRESSIONS = ["the red star", "a striped square left of the dog", "green"]


def dense(clip: RegionCLIP, image: Tensor) -> Tensor:
    """MaskCLIP's features (D, rows, columns): value and output layers made convolutions of size 1x1."""
    pixels, visual = pixels_of(clip, image), clip.model.visual

    def convolved(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        layer.weight.data, layer.bias.data = weight[:, :, None, None], bias  # type: ignore[union-attr]
        return layer(inputs[None])[0]

    if clip.tower.kind == "resnet":
        pool = visual.attnpool
        value = convolved(feature_map(clip, pixels), pool.v_proj.weight, pool.v_proj.bias)
        return convolved(value, pool.c_proj.weight, pool.c_proj.bias)
    tokens = embedded(clip, pixels)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = run_block(block, tokens)
    width, grid = tokens.shape[1], clip.tower.grid_size
    tokens = tokens[1:]
    inputs = last.ln_1(tokens).T.reshape(width, *grid)
    value = convolved(inputs, last.attn.in_proj_weight[2 * width :], last.attn.in_proj_bias[2 * width :])
    output = convolved(value, last.attn.out_proj.weight, last.attn.out_proj.bias)
    tokens = tokens + output.flatten(1).T
    tokens = tokens + last.mlp(last.ln_2(tokens))
    return (visual.ln_post(tokens) @ visual.proj).T.reshape(-1, *grid)


@torch.no_grad()
def test_score_map_is_two_convolutions_and_a_mean(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    actual = ScoreMap(clip, recipe="clean")(image, masks, EXPRESSIONS)
    features, grid = dense(clip, image), covered(masks, clip.tower.grid_size)
    for row, text in enumerate(clip.encode_texts(EXPRESSIONS)):
        score_map = F.cosine_similarity(features, text[:, None, None], dim=0)
        for column, weights in enumerate(grid):
            expected = (score_map * weights).sum() / weights.sum()
            torch.testing.assert_close(actual[row, column], expected, rtol=1e-4, atol=1e-5)
    assert actual.std(dim=1).min() > 1e-3
