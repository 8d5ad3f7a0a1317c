"""Unsupervised proposals: candidates that grow from superpixels or from a graph-based segmentation."""

# No postponed annotations: jsonargparse checks values by the types of fields, which must be no mere text.
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gl_ris.errors import check_ranges
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.regions import (
    choose,
    distinct,
    fill_holes,
    islands,
    melted,
    merge_tree,
    objectness,
    region_graph,
)
from gl_ris.proposals.slic import superpixels

# Most regions of an image, since the time that their candidates take grows with the cube of their number.
MAX_REGIONS = 400


@dataclass(kw_only=True, eq=False)
class RegionMerging(ProposalGenerator):
    """Object candidates grown from the regions of one segmentation.

    Candidates are the regions, everything that merging the most alike neighbours yields, all of these with
    their holes filled, and the connected pieces of what the largest region leaves over. They are ranked by
    how much they look like one whole object (`gl_ris.proposals.regions.objectness`, the score of a proposal),
    and what repeats a better one is dropped. Nothing is learnt and nothing is random.

    Lengths and areas in pixels are those of the reduced image, where ``max_side`` reduces it.

    Args:
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

    league = "unsupervised"
    in_workers = True
    ranges: ClassVar[dict[str, str]] = {}

    min_area: int = 150
    max_area: float = 0.4
    max_border: float = 0.5
    max_iou: float = 0.8
    max_overlap: float = 0.8
    max_count: int = 20
    max_side: int = 256

    def __post_init__(self) -> None:
        shared = {
            "above 0 and up to 1": "max_area",
            "from 0 to 1": "max_border max_iou max_overlap",
            "at least 1": "min_area max_count max_side",
        }
        for ranges in (shared, self.ranges):
            check_ranges(f"{type(self).__name__}: ", vars(self), ranges)

    def settings(self) -> dict[str, Any]:
        """Return every setting; together with the image they determine the proposals."""
        return dict(vars(self))

    def __call__(self, image: Tensor) -> Proposals:
        """Propose masks with scores in [0, 1]; none for an image without any edge."""
        height, width = image.shape[1:]
        pixels = _reduced(image.cpu(), self.max_side)
        labels = self.segment(pixels)
        members, scores = self._candidates(labels, pixels)
        grid = np.ix_(_nearest(height, labels.shape[0]), _nearest(width, labels.shape[1]))
        masks = torch.from_numpy(members.take(labels[grid], axis=1))
        return Proposals.from_masks(masks.to(image.device), torch.from_numpy(scores))

    @abstractmethod
    def segment(self, pixels: np.ndarray) -> np.ndarray:
        """Part uint8 ``(h, w, 3)`` RGB into n <= `MAX_REGIONS` regions: int ``(h, w)``, all of 0 to n - 1."""

    def _candidates(self, labels: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Those chosen, as sets of regions, bool (N, n), and their scores.
        graph = region_graph(labels, pixels)
        merged = merge_tree(graph)
        members = distinct(np.concatenate([merged, fill_holes(merged, graph), islands(graph)]))
        areas = members @ graph.areas
        members = members[(areas >= self.min_area) & (areas <= self.max_area * labels.size)]
        on_frame = members @ graph.frame
        outline = ((members @ graph.borders) * ~members).sum(axis=1) + on_frame
        members = members[on_frame <= self.max_border * outline]
        scores = objectness(members, graph)
        chosen = choose(members, graph.areas, scores, self.max_iou, self.max_overlap, self.max_count)
        return members[chosen], scores[chosen]


@dataclass(eq=False)
class SLIC(RegionMerging):
    """Object candidates grown from SLIC superpixels (Achanta et al., PAMI 2012), see `RegionMerging`.

    The superpixels follow the outlines, melting those of nearly one colour makes regions of them (what
    skimage's ``cut_threshold`` does), and candidates grow from these. An image that falls into too many
    regions is melted again with a larger threshold.

    Args:
        segments: About how many superpixels, at least 2.
        compactness: How much nearness in space counts beside likeness in colour, above 0: the larger, the
            more regular the superpixels.
        sigma: Width of the Gaussian that smooths the image first, in pixels, 0 for none.
        melt: Neighbours whose mean colours are nearer than this become one region, Euclidean in RGB from 0 to
            255; at least 0.
    """

    name = "slic"
    ranges: ClassVar[dict[str, str]] = {
        "at least 2": "segments",
        "above 0": "compactness",
        "at least 0": "sigma melt",
    }

    segments: int = 4000
    compactness: float = 20.0
    sigma: float = 0.5
    melt: float = 25.0

    def segment(self, pixels: np.ndarray) -> np.ndarray:
        """Return melted superpixels, see `RegionMerging.segment`."""
        parts = superpixels(pixels, self.segments, self.compactness, self.sigma)
        threshold = self.melt
        while (labels := melted(parts, pixels, threshold)).max() >= MAX_REGIONS:
            threshold = 1.25 * threshold + 1
        return labels


@dataclass(eq=False)
class Felzenszwalb(RegionMerging):
    """Object candidates grown from Felzenszwalb and Huttenlocher's segmentation (IJCV 2004).

    See `RegionMerging`. An image that falls into too many regions is segmented again with a doubled
    ``min_size``. The defaults are for flat drawings; `for_photos` has those for photographs.

    Args:
        scale: Preference of the segmentation for large regions, above 0: hundreds for photographs, thousands
            for flat drawings, where a large scale also melts neighbours that no outline parts.
        sigma: Width of the Gaussian that smooths the image first, in pixels, 0 for none.
        min_size: Smallest region of the segmentation in pixels, at least 1.
    """

    name = "felzenszwalb"
    ranges: ClassVar[dict[str, str]] = {"above 0": "scale", "at least 0": "sigma", "at least 1": "min_size"}

    scale: float = 12000.0
    sigma: float = 0.45
    min_size: int = 60

    @classmethod
    def for_photos(cls, **changes: Any) -> Self:
        """Return one for photographs, where the defaults propose next to nothing.

        About a hundred masks of an image, parts within their wholes and on the frame among them. Chosen on
        nine photographs (docs/proposals.md), and far behind a trained generator such as `SAM`. ``changes``
        are settings to have otherwise.
        """
        wide = {"max_area": 0.9, "max_border": 1.0, "max_iou": 0.7, "max_overlap": 1.0, "max_count": 100}
        return cls(**{"scale": 200.0, "min_size": 20, **wide, **changes})

    def segment(self, pixels: np.ndarray) -> np.ndarray:
        """Return the regions of a segmentation that is coarse enough, see `RegionMerging.segment`."""
        from skimage.segmentation import felzenszwalb

        min_size = self.min_size
        while (labels := felzenszwalb(pixels, self.scale, self.sigma, min_size)).max() >= MAX_REGIONS:
            min_size *= 2
        return labels


def _nearest(length: int, reduced: int) -> np.ndarray:
    # For each of `length` pixels, the index of the one of `reduced` pixels that covers its centre.
    return (2 * np.arange(length) + 1) * reduced // (2 * length)


def _reduced(image: Tensor, max_side: int) -> np.ndarray:
    # To uint8 (h, w, 3).
    height, width = image.shape[1:]
    if max(height, width) > max_side:
        share = max_side / max(height, width)
        size = [max(1, round(height * share)), max(1, round(width * share))]
        # Averages over each pixel's own area alone, so that edges stay as sharp as they can
        image = interpolate(image[None].float(), size, mode="area")[0].round().byte()
    return image.permute(1, 2, 0).contiguous().numpy()
