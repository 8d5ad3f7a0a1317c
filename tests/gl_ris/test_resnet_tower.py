"""Masked attention pooling against open_clip's own pooling, run once per mask."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.clip import RegionCLIP
from gl_ris.clip.resnet import ResNetTower


@pytest.fixture
def tower(clips: dict[str, RegionCLIP]) -> ResNetTower:
    tower = clips["resnet"].tower
    assert isinstance(tower, ResNetTower)
    return tower


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def plain_map(tower: ResNetTower, pixels: Tensor) -> Tensor:
    """Catch what enters the pooling of an ordinary forward pass."""
    caught = []
    hook = tower.visual.attnpool.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    with torch.no_grad():
        tower.visual(pixels)
    hook.remove()
    return caught[0]


@pytest.mark.parametrize("unit_map", [False, True], ids=["raw map", "unit map"])
def test_pooling_equals_open_clips_own_on_each_masked_map(
    tower: ResNetTower, pixels: Tensor, unit_map: bool
) -> None:
    generator = torch.Generator().manual_seed(1)
    grids = torch.rand(6, 3, 3, generator=generator) * (torch.rand(6, 3, 3, generator=generator) > 0.5)
    grids[5] = 0
    with torch.inference_mode():
        features = tower.region_features(tower.image_state(pixels, unit_map=unit_map), grids)
    feature_map = plain_map(tower, pixels)
    if unit_map:
        feature_map = feature_map / feature_map.norm(dim=1, keepdim=True)
    with torch.no_grad():
        expected = torch.cat([tower.visual.attnpool(feature_map * grid) for grid in grids])
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_a_mask_of_everything_gives_the_plain_image_feature(tower: ResNetTower, pixels: Tensor) -> None:
    with torch.no_grad():
        feature = tower.region_features(tower.image_state(pixels), torch.ones(1, 3, 3))
        torch.testing.assert_close(feature, tower.visual(pixels), rtol=1e-5, atol=1e-6)


def test_the_query_is_the_mean_over_all_positions(tower: ResNetTower, pixels: Tensor) -> None:
    """Attention written out: zeros of masked-out positions count in the mean and stay as keys."""
    grid = torch.tensor([[1.0, 0, 0], [0, 0.5, 0], [0, 0, 0]])
    pool = tower.visual.attnpool
    with torch.no_grad():
        tokens = (plain_map(tower, pixels)[0] * grid).flatten(1).T
        tokens = torch.cat([tokens.sum(0, keepdim=True) / 9, tokens]) + pool.positional_embedding
        query, key, value = pool.q_proj(tokens[:1]), pool.k_proj(tokens), pool.v_proj(tokens)
        width = key.shape[1] // pool.num_heads
        parts = []
        for head in range(pool.num_heads):
            part = slice(head * width, (head + 1) * width)
            attention = F.softmax(query[:, part] @ key[:, part].T / width**0.5, dim=-1)
            parts.append(attention @ value[:, part])
        expected = pool.c_proj(torch.cat(parts, dim=1))
        feature = tower.region_features(tower.image_state(pixels), grid[None])
    torch.testing.assert_close(feature, expected, rtol=1e-5, atol=1e-5)


def test_the_map_is_computed_once_for_all_masks(tower: ResNetTower, pixels: Tensor) -> None:
    sizes = []
    hook = tower.visual.layer4.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    with torch.no_grad():
        tower.region_features(tower.image_state(pixels), torch.ones(9, 3, 3))
    hook.remove()
    assert sizes == [1]
