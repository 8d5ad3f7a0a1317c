"""Token masking against a naive oracle: the whole tower once per mask, masked by hooks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gl_ris.clip import RegionCLIP
from gl_ris.clip.vit import ViTTower
from gl_ris.errors import UserError

DEPTH = 5


@pytest.fixture
def tower(clips: dict[str, RegionCLIP]) -> ViTTower:
    tower = clips["vit"].tower
    assert isinstance(tower, ViTTower)
    return tower


def naive(tower: ViTTower, pixels: Tensor, grid: Tensor, masked_blocks: int) -> Tensor:
    """Multiply the tokens by hooks on the last blocks of an ordinary forward pass."""
    factor = torch.cat([torch.ones(1), grid.flatten()])[None, :, None]
    blocks = list(tower.visual.transformer.resblocks)
    masked = blocks[len(blocks) - masked_blocks :]
    hooks = [block.register_forward_pre_hook(lambda _, inputs: (inputs[0] * factor,)) for block in masked]
    try:
        with torch.no_grad():
            return tower.visual(pixels)[0]
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("masked_blocks", range(DEPTH + 1))
def test_masking_equals_hooks_on_a_full_pass_per_mask(tower: ViTTower, masked_blocks: int) -> None:
    generator = torch.Generator().manual_seed(masked_blocks)
    pixels = torch.randn(1, 3, 32, 32, generator=generator)
    grids = torch.rand(5, 4, 4, generator=generator) * (torch.rand(5, 4, 4, generator=generator) > 0.4)
    with torch.inference_mode():
        state = tower.image_state(pixels, masked_blocks)
        features = tower.region_features(state, grids, masked_blocks)
    expected = torch.stack([naive(tower, pixels, grid, masked_blocks) for grid in grids])
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    if masked_blocks:
        assert (features[0] - features[1]).abs().max() > 1e-3


@pytest.mark.parametrize("masked_blocks", range(DEPTH + 1))
def test_a_mask_of_everything_gives_the_feature_of_the_image_exactly(
    tower: ViTTower, masked_blocks: int
) -> None:
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        state = tower.image_state(pixels, masked_blocks)
        feature = tower.region_features(state, torch.ones(1, 4, 4), masked_blocks)
        assert torch.equal(feature, tower.encode(pixels))
        torch.testing.assert_close(feature, tower.visual(pixels), rtol=1e-5, atol=1e-5)


def test_the_shared_part_runs_once_and_the_rest_once_per_mask(tower: ViTTower) -> None:
    seen = [0] * DEPTH
    hooks = [
        block.register_forward_hook(
            lambda _, inputs, __, index=index: seen.__setitem__(index, seen[index] + len(inputs[0]))
        )
        for index, block in enumerate(tower.visual.transformer.resblocks)
    ]
    with torch.no_grad():
        tower.region_features(tower.image_state(torch.zeros(1, 3, 32, 32), 2), torch.ones(7, 4, 4), 2)
    for hook in hooks:
        hook.remove()
    assert seen == [1, 1, 1, 7, 7]


@pytest.mark.parametrize("masked_blocks", [-1, DEPTH + 1, 2.0, None])
def test_a_number_of_blocks_that_does_not_fit_is_refused(tower: ViTTower, masked_blocks: int) -> None:
    with pytest.raises(UserError, match=r"masked_blocks=.* from 0 .* to 5"):
        tower.check_masked_blocks(masked_blocks)
