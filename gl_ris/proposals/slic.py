"""Unsupervised proposals from SLIC superpixels (Achanta et al., PAMI 2012), merged on their region graph."""

from __future__ import annotations

import numpy as np

from gl_ris.proposals.merging import MAX_REGIONS, RegionMerging


class SLIC(RegionMerging):
    """Object candidates grown from superpixels that were melted with neighbours of nearly their colour.

    The superpixels follow the outlines, the melting makes regions of them (what skimage's ``cut_threshold``
    does), and candidates grow from these as `RegionMerging` says. An image that falls into too many regions
    is melted anew with a larger threshold.

    Args:
        segments: About how many superpixels, at least 2.
        compactness: How much nearness in space counts beside likeness in colour, above 0: the larger, the
            more regular the superpixels.
        sigma: Width of the Gaussian that smooths the image first, in pixels, 0 for none.
        melt: Neighbours whose mean colours are nearer than this become one region, Euclidean in RGB from 0 to
            255; at least 0.
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

    name = "slic"

    def __init__(
        self,
        segments: int = 4000,
        compactness: float = 20.0,
        sigma: float = 0.5,
        melt: float = 25.0,
        min_area: int = 150,
        max_area: float = 0.4,
        max_border: float = 0.5,
        max_iou: float = 0.8,
        max_overlap: float = 0.8,
        max_count: int = 20,
        max_side: int = 256,
    ) -> None:
        super().__init__(min_area, max_area, max_border, max_iou, max_overlap, max_count, max_side)
        self.segments = segments
        self.compactness = compactness
        self.sigma = sigma
        self.melt = melt
        self._check(
            {
                "segments": (segments >= 2, "at least 2"),
                "compactness": (compactness > 0, "above 0"),
                "sigma": (sigma >= 0, "at least 0"),
                "melt": (melt >= 0, "at least 0"),
            }
        )

    def segment(self, pixels: np.ndarray) -> np.ndarray:
        """Return melted superpixels, see `RegionMerging.segment`."""
        from skimage.segmentation import slic

        superpixels = slic(pixels, self.segments, self.compactness, sigma=self.sigma, start_label=0)
        threshold = self.melt
        labels = melted(superpixels, pixels, threshold)
        while labels.max() >= MAX_REGIONS:
            threshold = 1.25 * threshold + 1
            labels = melted(superpixels, pixels, threshold)
        return labels


def melted(labels: np.ndarray, pixels: np.ndarray, threshold: float) -> np.ndarray:
    """Join regions that touch and whose mean colours are nearer than ``threshold``, and chains of such.

    Args:
        labels: int ``(h, w)``, at least 0.
        pixels: uint8 ``(h, w, 3)``, RGB.
        threshold: Euclidean distance in RGB, 0 to 255; 0 joins nothing.

    Returns:
        int ``(h, w)``, values 0 to n - 1, each of them present.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(pixels.shape[:2])
    n = int(labels.max()) + 1
    areas = np.bincount(labels.ravel(), minlength=n)
    sums = [np.bincount(labels.ravel(), pixels[..., channel].ravel(), minlength=n) for channel in range(3)]
    colors = np.stack(sums, axis=1) / areas[:, None]
    beside = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()])
    other = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()])
    alike = np.linalg.norm(colors[beside] - colors[other], axis=1) < threshold
    # Only what is joined goes in: an explicit zero would count as an edge.
    graph = coo_array((alike[alike], (beside[alike], other[alike])), shape=(n, n))
    return connected_components(graph, directed=False)[1][labels]
