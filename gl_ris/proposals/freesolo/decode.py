"""From the predictions of the network to masks: drawing, matrix NMS, and back to the image's own pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.masks import projection_boxes
from gl_ris.proposals.base import Proposals

if TYPE_CHECKING:
    from gl_ris.proposals.freesolo.network import Predictions

# Numbers in memory at a time; the published code draws all candidates at once, which has no bound.
_NUMBERS_PER_BLOCK = 1 << 26


@dataclass(frozen=True)
class Decoding:
    """The thresholds of decoding; the defaults are the published ones.

    Attributes:
        score_threshold: A cell whose category is above this is a candidate, 0 to 1.
        mask_threshold: A pixel whose probability is above this belongs to the mask, 0 to 1.
        max_candidates: How many candidates compete in the matrix NMS, the best by score.
        nms_sigma: How steeply the overlap with a better mask lowers a score, at least 0.
        keep_threshold: Proposals with at least this score after the matrix NMS stay, 0 to 1.
        max_count: How many proposals stay at most.
    """

    score_threshold: float = 0.1
    mask_threshold: float = 0.5
    max_candidates: int = 500
    nms_sigma: float = 2.0
    keep_threshold: float = 0.05
    max_count: int = 100

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UserError: One is out of its range.
        """
        counts = {name: (getattr(self, name) >= 1, "at least 1") for name in ("max_candidates", "max_count")}
        shares = ("score_threshold", "keep_threshold")
        ranges = {
            "mask_threshold": (0 < self.mask_threshold < 1, "above 0 and below 1"),
            "nms_sigma": (self.nms_sigma >= 0, "at least 0"),
            **{name: (0 <= getattr(self, name) <= 1, "from 0 to 1") for name in shares},
            **counts,
        }
        for name, (fine, wanted) in ranges.items():
            if not fine:
                raise UserError(f"FreeSOLO: {name} is {getattr(self, name)}, it must be {wanted}.")


@dataclass(frozen=True)
class Candidates:
    """Masks at the resolution of the mask features.

    Attributes:
        probabilities: float ``(N, h, w)``.
        labels: int64 ``(N,)``, which of the two categories.
        scores: float ``(N,)``.
    """

    probabilities: Tensor
    labels: Tensor
    scores: Tensor

    def __getitem__(self, rows: Tensor) -> Candidates:
        return Candidates(self.probabilities[rows], self.labels[rows], self.scores[rows])


def decode(
    predictions: Predictions, seen_size: tuple[int, int], output_size: tuple[int, int], settings: Decoding
) -> Proposals:
    """Turn predictions into proposals.

    Args:
        predictions: Of one image.
        seen_size: Height and width of the image as the network saw it, without the padding.
        output_size: Height and width of the image itself.
        settings: Thresholds.

    Returns:
        Proposals of ``output_size``, best first; the boxes are FreeSOLO's own (see
        `gl_ris.masks.projection_boxes`). None where no cell is a candidate or no mask stays.
    """
    found = suppress(draw(predictions, settings), settings)
    masks = to_image(found.probabilities, seen_size, output_size, settings.mask_threshold)
    seen = masks.flatten(1).any(dim=1)
    return Proposals(masks[seen], projection_boxes(masks[seen]), found.scores[seen])


def draw(predictions: Predictions, settings: Decoding) -> Candidates:
    """Draw the masks of all candidates, and keep the best.

    The score is the category times the mean probability inside the mask. Candidates go cell by cell; a cell
    can be one in both categories. A mask of no more pixels than its features' stride is dropped.

    Returns:
        Best first; of equals, the earlier cell.
    """
    cells, labels = (predictions.categories > settings.score_threshold).nonzero(as_tuple=True)
    height, width = predictions.features.shape[-2:]
    nothing = predictions.features.new_empty(0, height, width)
    best = Candidates(nothing, labels[:0], nothing.sum((1, 2)))
    for part in _blocks(len(cells), height * width):
        drawn = _draw_block(predictions, cells[part], labels[part], settings.mask_threshold)
        best = _best(_joined(best, drawn), settings.max_candidates)
    return best


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Divide ``count`` things of ``size`` numbers each into blocks that fit into memory."""
    step = max(1, _NUMBERS_PER_BLOCK // size)
    return (slice(start, start + step) for start in range(0, count, step))


def _draw_block(predictions: Predictions, cells: Tensor, labels: Tensor, threshold: float) -> Candidates:
    kernels = predictions.kernels[cells]
    probabilities = F.conv2d(predictions.features, kernels[:, :, None, None])[0].sigmoid()
    inside = probabilities > threshold
    areas = inside.sum((1, 2)).to(probabilities.dtype)
    large = areas > predictions.strides[cells]
    probabilities, inside, areas = probabilities[large], inside[large], areas[large]
    certainty = (probabilities * inside).sum((1, 2)) / areas
    categories = predictions.categories[cells, labels][large]
    return Candidates(probabilities, labels[large], categories * certainty)


def _joined(a: Candidates, b: Candidates) -> Candidates:
    return Candidates(
        torch.cat([a.probabilities, b.probabilities]),
        torch.cat([a.labels, b.labels]),
        torch.cat([a.scores, b.scores]),
    )


def _best(candidates: Candidates, count: int) -> Candidates:
    return candidates[candidates.scores.sort(descending=True, stable=True).indices[:count]]


def suppress(candidates: Candidates, settings: Decoding) -> Candidates:
    """Lower the scores of masks that overlap better ones, and keep what stays above the threshold."""
    masks = candidates.probabilities > settings.mask_threshold
    scores = matrix_nms(masks, candidates.labels, candidates.scores, settings.nms_sigma)
    lowered = Candidates(candidates.probabilities, candidates.labels, scores)
    return _best(lowered[scores >= settings.keep_threshold], settings.max_count)


def matrix_nms(masks: Tensor, labels: Tensor, scores: Tensor, sigma: float) -> Tensor:
    """Lower each score by the overlap with better masks of the same label (SOLOv2, section 3.3, Gaussian).

    The factor of mask j is the least over all i of ``exp(-sigma iou_ij^2) / exp(-sigma c_i^2)``, with ``c_i``
    the largest overlap of mask i with a mask better than itself: what is itself suppressed suppresses less.

    Args:
        masks: bool ``(N, h, w)``, best first; none of them empty.
        labels: int64 ``(N,)``.
        scores: float ``(N,)``.
        sigma: Steepness.

    Returns:
        ``(N,)``, the lowered scores in the same order.
    """
    if not len(masks):
        return scores
    flat = masks.flatten(1).to(scores.dtype)
    areas = flat.sum(dim=1)
    shared = flat @ flat.T
    iou = (shared / (areas[:, None] + areas - shared)).triu(diagonal=1) * (labels[:, None] == labels)
    # Row i: how mask i, itself overlapped by `covered[i]`, bears on every mask after it.
    covered = iou.amax(dim=0)
    factors = torch.exp(-sigma * iou**2) / torch.exp(-sigma * covered**2)[:, None]
    return scores * factors.amin(dim=0)


def to_image(
    probabilities: Tensor, seen_size: tuple[int, int], output_size: tuple[int, int], threshold: float
) -> Tensor:
    """Bring masks from the resolution of the mask features to that of the image.

    Args:
        probabilities: float ``(N, h, w)``.
        seen_size: Height and width of the image as the network saw it.
        output_size: Height and width of the result.
        threshold: What is above it belongs to the mask.

    Returns:
        bool ``(N, *output_size)``.
    """
    height, width = probabilities.shape[-2:]
    # For inputs below 97 pixels this can come out at less than the stride of 4, in the published code too.
    factor = max(math.ceil(seen_size[0] / height), math.ceil(seen_size[1] / width))
    larger = factor * factor * height * width + output_size[0] * output_size[1]
    masks = [probabilities.new_empty(0, *output_size, dtype=torch.bool)]
    for part in _blocks(len(probabilities), larger):
        canvas = (height * factor, width * factor)
        seen = F.interpolate(probabilities[None, part], size=canvas, mode="bilinear")
        seen = seen[..., : seen_size[0], : seen_size[1]]
        masks.append(F.interpolate(seen, size=output_size, mode="bilinear")[0] > threshold)
    return torch.cat(masks)
