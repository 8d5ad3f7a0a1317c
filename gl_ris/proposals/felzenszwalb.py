"""Unsupervised proposals from Felzenszwalb and Huttenlocher's graph-based segmentation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gl_ris.proposals.base import ProposalGenerator, Proposals


class Felzenszwalb(ProposalGenerator):
    """Regions of one segmentation.

    Args:
        scale: Preference for large regions, above 0.
        sigma: Width of the Gaussian that smooths the image first, in pixels.
        min_size: Smallest region in pixels.
    """

    name = "felzenszwalb"

    def __init__(self, scale: float = 100.0, sigma: float = 0.8, min_size: int = 40) -> None:
        self.scale = scale
        self.sigma = sigma
        self.min_size = min_size

    def settings(self) -> dict[str, Any]:
        """Return all settings."""
        return {"scale": self.scale, "sigma": self.sigma, "min_size": self.min_size}

    def __call__(self, image: Tensor) -> Proposals:
        """Return the regions of ``image``, uint8 ``(3, H, W)``, largest first."""
        from skimage.segmentation import felzenszwalb

        pixels = image.permute(1, 2, 0).cpu().numpy()
        labels = torch.from_numpy(felzenszwalb(pixels, self.scale, self.sigma, self.min_size))
        areas = torch.bincount(labels.flatten())
        order = areas.argsort(descending=True, stable=True)
        return Proposals.from_masks(labels == order[:, None, None], areas[order] / areas.sum())
