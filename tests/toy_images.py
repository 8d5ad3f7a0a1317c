"""The data set of the fixture ``many_images``, its scenes, and a generator that needs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules import PhraseCut, RefCOCO, Scene
from gl_ris.proposals import ProposalGenerator, Proposals


def many(root: Path, **options: Any) -> RefCOCO:
    return RefCOCO(root, "many", "toy", "val", **options)


def scenes(data: RefCOCO | PhraseCut) -> list[Scene]:
    return list(data.predict_dataloader())


class LeftHalf(ProposalGenerator):
    name = "left half"

    def settings(self) -> dict[str, Any]:
        return {}

    def __call__(self, image: Tensor) -> Proposals:
        mask = torch.zeros(image.shape[1:], dtype=torch.bool)
        mask[:, : image.shape[2] // 2] = True
        return Proposals.from_masks(mask[None])
