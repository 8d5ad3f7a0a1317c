"""Architectures of open_clip: which fit, and what their towers do with random weights."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch

from gl_ris.clip import load_clip
from gl_ris.clip.tower import fitting_architectures, misfit, open_tower
from gl_ris.clip.vit import region_tokens
from gl_ris.errors import UserError
from gl_ris.recipe import Recipe
from gl_ris.scorers import Scorer
from gl_ris.scorers.global_local import Cropping, GlobalLocal
from gl_ris.scorers.grad_cam import GradCAM
from gl_ris.scorers.region_token import RegionToken
from gl_ris.scorers.score_map import ScoreMap

SMALL = ["ViT-S-32-alt", "ViT-B-32-quickgelu", "ViT-M-16-alt", "RN50-quickgelu"]


LARGE = {
    "ViT-B-16": (224, 14, 512),
    "ViT-B-32-256": (256, 8, 512),
    "ViT-B-16-plus-240": (240, 15, 640),
    "ViT-L-14-quickgelu": (224, 16, 768),
    "ViT-L-14-336": (336, 24, 768),
    "ViT-L-16-320": (320, 20, 768),
    "ViT-H-14": (224, 16, 1024),
    "ViT-H-14-378-quickgelu": (378, 27, 1024),
    "ViT-g-14": (224, 16, 1024),
    "ViT-bigG-14": (224, 16, 1280),
    "RN101": (224, 7, 512),
    "RN50x4": (288, 9, 640),
    "RN50x16": (384, 12, 768),
    "RN50x64-quickgelu": (448, 14, 1024),
}


def run_tower(tower: Any, device: str) -> list[tuple[int, ...]]:
    """Everything that the scorers ask of a tower, for two masks; gives the shapes of the features."""
    pixels = torch.zeros(1, 3, *tower.image_size, device=device)
    grids = torch.ones(2, *tower.grid_size, device=device)
    k, one = min(3, tower.depth), min(1, tower.depth)
    last = tower.image_state(pixels, one)
    features = [tower.encode(pixels), tower.region_features(tower.image_state(pixels, k), grids, k)]
    features += [
        tower.pool(last, torch.zeros(2, tower.last_map(last).shape[1], device=device)),
        tower.dense_features(last),
    ]
    if tower.kind == "vit":
        embedded = tower.image_state(pixels, tower.depth)
        features.append(region_tokens(tower, embedded, grids.flatten(1).bool()))
    return [tuple(feature.shape) for feature in features]


@pytest.mark.parametrize("name", SMALL)
def test_small_architectures_run_from_end_to_end(name: str, image: torch.Tensor, masks: torch.Tensor) -> None:
    with pytest.warns(UserWarning, match="random weights"):
        clip = load_clip(name)
    methods: list[type[Scorer]] = [GlobalLocal, Cropping, GradCAM, ScoreMap]
    for method in [*methods, RegionToken] if clip.tower.kind == "vit" else methods:
        scores = method(clip, recipe="clean")(
            image, masks[[0, 3]], ["a dog", "the red star"], ["dog", "star"]
        )
        assert scores.shape == (2, 2)
        assert scores.isfinite().all()
    context = clip.context(image, masks[[0, 3]])
    expected = clip.model.encode_image(context.pixels(Recipe()))[0]
    torch.testing.assert_close(context.global_features(Recipe(), 3)[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LARGE)
def test_large_architectures_have_the_right_shapes(name: str) -> None:
    size, side, width = LARGE[name]
    with pytest.warns(UserWarning, match="random weights"):
        clip = load_clip(name, device="meta")
    # the blocks are all alike, and on the meta device each operation is slow Python
    del clip.model.transformer.resblocks[4:]
    if clip.tower.kind == "vit":
        del clip.model.visual.transformer.resblocks[4:]
        clip.tower.depth = 4
    assert (clip.image_size, clip.tower.grid_size) == ((size, size), (side, side))
    assert clip.feature_dim == width
    texts, _ = clip._text_tower.batches(["a dog"], batch_size=1)
    with torch.no_grad():
        shapes = run_tower(clip.tower, "meta")
        assert clip._text_tower.encode(texts[0]).shape == (1, width)
    assert shapes == [(1, width), *[(2, width)] * 2, (side, side, width), (2, width)][: len(shapes)]


def test_the_list_of_what_fits_agrees_with_what_opens() -> None:
    """Every architecture's configuration, and the native towers themselves, on the meta device."""
    from open_clip.model import _build_vision_tower

    fitting = fitting_architectures()
    assert {"RN50", "RN101-quickgelu", "ViT-B-32", "ViT-L-14-336", "ViT-H-14"} <= set(fitting)
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        assert (misfit(config["vision_cfg"]) is None) == (name in fitting)
        if "timm_model_name" in config["vision_cfg"]:
            continue
        with torch.device("meta"):
            visual = _build_vision_tower(config["embed_dim"], config["vision_cfg"])
        if name in fitting:
            assert open_tower(visual).feature_dim == config["embed_dim"]
        else:
            with pytest.raises(UserError, match="cannot be opened for regions"):
                open_tower(visual)
