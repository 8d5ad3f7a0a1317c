"""Unsupervised proposals from Felzenszwalb and Huttenlocher's graph-based segmentation (IJCV 2004)."""

from __future__ import annotations

import numpy as np

from gl_ris.proposals.merging import MAX_REGIONS, RegionMerging


class Felzenszwalb(RegionMerging):
    """Object candidates grown from the regions of one graph-based segmentation, see `RegionMerging`.

    An image that falls into too many regions is segmented anew with a doubled ``min_size``.

    Args:
        scale: Preference of the segmentation for large regions, above 0: hundreds for photographs, thousands
            for flat drawings, where a large scale also melts neighbours that no outline parts.
        sigma: Width of the Gaussian that smooths the image first, in pixels, 0 for none.
        min_size: Smallest region of the segmentation in pixels, at least 1.
        min_area: Smallest proposal in pixels, at least 1.
        max_area: Largest proposal as a share of the image, above 0 and up to 1.
        max_border: Largest share of a proposal's outline that may lie on the frame of the image, 0 to 1.
        max_iou: Proposals whose intersection over union with a better one is above this are dropped, 0 to 1.
        max_overlap: Likewise for the intersection as a share of the smaller one, 0 to 1; 1 keeps parts within
            their wholes.
        max_count: Most proposals of an image, at least 1.
        max_side: Images with a longer side than this, in pixels, are reduced to it first; bounds the time.

    Raises:
        UserError: If a setting is outside of its range.
    """

    name = "felzenszwalb"

    def __init__(
        self,
        scale: float = 12000.0,
        sigma: float = 0.45,
        min_size: int = 60,
        min_area: int = 150,
        max_area: float = 0.4,
        max_border: float = 0.5,
        max_iou: float = 0.8,
        max_overlap: float = 0.8,
        max_count: int = 20,
        max_side: int = 256,
    ) -> None:
        super().__init__(min_area, max_area, max_border, max_iou, max_overlap, max_count, max_side)
        self.scale = scale
        self.sigma = sigma
        self.min_size = min_size
        self._check(
            {
                "scale": (scale > 0, "above 0"),
                "sigma": (sigma >= 0, "at least 0"),
                "min_size": (min_size >= 1, "at least 1"),
            }
        )

    def segment(self, pixels: np.ndarray) -> np.ndarray:
        """Return the regions of a segmentation that is coarse enough, see `RegionMerging.segment`."""
        from skimage.segmentation import felzenszwalb

        min_size = self.min_size
        labels = felzenszwalb(pixels, scale=self.scale, sigma=self.sigma, min_size=min_size)
        while labels.max() >= MAX_REGIONS:
            min_size *= 2
            labels = felzenszwalb(pixels, scale=self.scale, sigma=self.sigma, min_size=min_size)
        return labels
