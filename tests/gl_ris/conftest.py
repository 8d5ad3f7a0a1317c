"""The tiny CLIPs, and an image with masks to try them on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from gl_ris.clip import RegionCLIP, load_clip
from gl_ris.predictions import Prediction
from gl_ris.zero_shot import ZeroShotRIS
from tiny_clips import VISION, save_clip
from toy_scenes import TOLD, run


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a tiny CLIP and give its folder: ``clip_folder(kind, **config)``."""
    return lambda kind, **model: save_clip(tmp_path_factory.mktemp(kind), kind, **model)


@pytest.fixture(scope="session")
def clips(clip_folder: Callable[..., Path]) -> dict[str, RegionCLIP]:
    """The two tiny CLIPs by kind of tower; shared, so a test must not change them."""
    return {kind: load_clip(f"local-dir:{clip_folder(kind)}") for kind in VISION}


@pytest.fixture(params=list(VISION))
def clip(request: pytest.FixtureRequest, clips: dict[str, RegionCLIP]) -> RegionCLIP:
    """Each tiny CLIP in turn."""
    return clips[request.param]


@pytest.fixture
def picture() -> Image.Image:
    """A blue and a red square on grey."""
    image = Image.new("RGB", (80, 60), (90, 90, 90))
    image.paste((20, 20, 230), (5, 5, 25, 25))
    image.paste((230, 20, 20), (40, 20, 70, 50))
    return image


@pytest.fixture
def image() -> Tensor:
    """uint8 (3, 45, 70): smooth, so that resizing keeps something, with odd sides."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 9, 14, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (45, 70), mode="bicubic").clamp(0, 1)
    return (fine[0] * 255).round().to(torch.uint8)


@pytest.fixture
def masks() -> Tensor:
    """bool (6, 45, 70): a block, an L, two blobs with a gap, everything, the left half, a 2-pixel object."""
    masks = torch.zeros(6, 45, 70, dtype=torch.bool)
    masks[0, 8:30, 12:41] = True
    masks[1, 5:40, 3:9] = masks[1, 34:40, 3:60] = True
    masks[2, 10:20, 5:15] = masks[2, 25:44, 50:69] = True
    masks[3] = True
    masks[4, :, :35] = True
    masks[5, 20, 33:35] = True
    return masks


Predict = Callable[..., tuple[ZeroShotRIS, list[Prediction]]]


@pytest.fixture
def predict(clips: dict[str, RegionCLIP]) -> Predict:
    """Run a `ZeroShotRIS` over scenes, by default with the method that is told; gives it and its records."""

    def start(data: Any, methods: Any = TOLD, **settings: Any) -> tuple[ZeroShotRIS, list[Prediction]]:
        model = ZeroShotRIS(clip=clips["vit"].name, methods=methods, **settings)
        batches = run(model, data)
        return model, [record for batch in batches for record in batch]

    return start
