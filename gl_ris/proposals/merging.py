"""Unsupervised proposals by merging the regions of some segmentation: what such generators share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gl_ris.errors import UserError
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.regions import fill_holes, islands, merge_tree, objectness, region_graph, suppress

MAX_REGIONS = 400
"""Most regions of an image, since the time that merging takes grows with the cube of their number."""


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
        max_overlap: Likewise for the intersection as a share of the smaller one, 0 to 1.
        max_count: Most proposals of an image, at least 1.
        max_side: Images with a longer side than this, in pixels, are reduced to it first.

    Raises:
        UserError: If a setting is outside of its range.
    """

    league = "unsupervised"

    def __init__(
        self,
        min_area: int,
        max_area: float,
        max_border: float,
        max_iou: float,
        max_overlap: float,
        max_count: int,
        max_side: int,
    ) -> None:
        self.min_area = min_area
        self.max_area = max_area
        self.max_border = max_border
        self.max_iou = max_iou
        self.max_overlap = max_overlap
        self.max_count = max_count
        self.max_side = max_side
        shares = ("max_border", "max_iou", "max_overlap")
        counts = ("min_area", "max_count", "max_side")
        self._check(
            {
                "max_area": (0 < max_area <= 1, "above 0 and up to 1"),
                **{name: (0 <= getattr(self, name) <= 1, "from 0 to 1") for name in shares},
                **{name: (getattr(self, name) >= 1, "at least 1") for name in counts},
            }
        )

    def _check(self, ranges: dict[str, tuple[bool, str]]) -> None:
        """Raise for the first setting that is not fine.

        Raises:
            UserError: There is one.
        """
        for name, (fine, wanted) in ranges.items():
            if not fine:
                raise UserError(
                    f"{type(self).__name__}: {name} is {getattr(self, name)}, it must be {wanted}."
                )

    def settings(self) -> dict[str, Any]:
        """Return every setting; together with the image they determine the proposals."""
        return dict(vars(self))

    def __call__(self, image: Tensor) -> Proposals:
        """Propose masks.

        Args:
            image: uint8 ``(3, H, W)``, RGB, any size.

        Returns:
            Proposals at the image's own size and on its device, best first, scores in [0, 1]; none for an
            image without any edge.
        """
        height, width = image.shape[1:]
        pixels = _reduced(image.cpu(), self.max_side)
        labels = self.segment(pixels)
        members, scores = self._candidates(labels, pixels)
        grid = np.ix_(_nearest(height, labels.shape[0]), _nearest(width, labels.shape[1]))
        masks = torch.from_numpy(np.ascontiguousarray(members[:, labels[grid]]))
        return Proposals.from_masks(masks.to(image.device), torch.from_numpy(scores))

    @abstractmethod
    def segment(self, pixels: np.ndarray) -> np.ndarray:
        """Part an image into at most `MAX_REGIONS` regions.

        Args:
            pixels: uint8 ``(h, w, 3)``, RGB.

        Returns:
            int ``(h, w)``, values 0 to n - 1, each of them present.
        """

    def _candidates(self, labels: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the chosen candidates as sets of regions, bool ``(N, n)``, and their scores."""
        graph = region_graph(labels, pixels)
        merged = merge_tree(graph)
        members = np.unique(np.concatenate([merged, fill_holes(merged, graph), islands(graph)]), axis=0)
        areas = members @ graph.areas
        on_frame = members @ graph.frame
        outline = ((members @ graph.borders) * ~members).sum(axis=1) + on_frame
        fits = (areas >= self.min_area) & (areas <= self.max_area * labels.size)
        members = members[fits & (on_frame <= self.max_border * outline)]
        scores = objectness(members, graph)
        chosen = suppress(members, graph.areas, scores, self.max_iou, self.max_overlap, self.max_count)
        return members[chosen], scores[chosen]


def _nearest(length: int, reduced: int) -> np.ndarray:
    """For each of ``length`` pixels, the index of the one of ``reduced`` pixels that covers its centre."""
    return (2 * np.arange(length) + 1) * reduced // (2 * length)


def _reduced(image: Tensor, max_side: int) -> np.ndarray:
    """Return the image as uint8 ``(h, w, 3)``, its longer side at most ``max_side``."""
    height, width = image.shape[1:]
    if max(height, width) > max_side:
        share = max_side / max(height, width)
        size = [max(1, round(height * share)), max(1, round(width * share))]
        # averages over each pixel's own area alone, so that edges stay as sharp as they can
        image = interpolate(image[None].float(), size, mode="area")[0].round().byte()
    return image.permute(1, 2, 0).contiguous().numpy()
