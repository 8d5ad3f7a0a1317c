"""What can be done to proposals after they were made or read: pure functions, and the settings of all.

Stores keep proposals as the generator gave them; this is applied afterwards, so that trying an option costs
no generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.errors import check_ranges
from gl_ris.masks import pairwise_areas, suppress
from gl_ris.proposals.base import Proposals


@dataclass(frozen=True)
class PostProcessing:
    """Settings of what is done to proposals, in the order of the arguments; by default nothing.

    Args:
        min_area: Proposals of fewer pixels than this are dropped; 0 drops none.
        merge: A proposal that lies inside a larger one by this share of its area or more is merged into it:
            parts become wholes. From above 0 to 1; null merges none.
        nms: Of proposals that overlap by more than this IoU, the best-scored is kept. From 0 to 1; null keeps
            all.
        matrix_nms: Scores are lowered by overlap with better ones (matrix NMS of SOLOv2, Gaussian), and
            proposals that are left with less than this share of their score are dropped. From 0 (drops none)
            to 1; null leaves scores alone.
        top: So many of the best-scored are kept; null keeps all.

    Raises:
        UserError: A setting is out of range.

    Example:
        >>> str(PostProcessing(min_area=100, nms=0.5))
        'min_area=100, nms=0.5'
    """

    min_area: int = 0
    merge: float | None = None
    nms: float | None = None
    matrix_nms: float | None = None
    top: int | None = None

    def __post_init__(self) -> None:
        ranges = {
            "at least 0": "min_area",
            "above 0 and up to 1, or null": "merge",
            "from 0 to 1, or null": "nms matrix_nms",
            "at least 1, or null": "top",
        }
        check_ranges("post.", vars(self), ranges)

    def __call__(self, proposals: Proposals) -> Proposals:
        """Return what is left; the very proposals if there is nothing to do, else best first."""
        steps = {
            "min_area": drop_small,
            "merge": merge_nested,
            "nms": mask_nms,
            "matrix_nms": matrix_nms,
            "top": keep_top,
        }
        for name, step in steps.items():
            value = getattr(self, name)
            if value is not None and (name, value) != ("min_area", 0):
                proposals = step(proposals, value)
        return proposals

    def __str__(self) -> str:
        changed = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        return ", ".join(f"{name}={value:g}" for name, value, default in changed if value != default)


AS_MADE = PostProcessing()


def select(proposals: Proposals, rows: Tensor | Sequence[int], scores: Tensor | None = None) -> Proposals:
    """Return some of the proposals, in the order of ``rows``, with other ``scores`` if they are given."""
    chosen = torch.as_tensor(rows, dtype=torch.int64, device=proposals.masks.device)
    kept = proposals.scores if scores is None else scores
    return Proposals(proposals.masks[chosen], proposals.boxes[chosen], kept[chosen])


def best_first(scores: Tensor) -> Tensor:
    """Return the order of falling scores ``(N,)``; the first of equals comes first."""
    return scores.argsort(descending=True, stable=True)


def drop_small(proposals: Proposals, min_area: int) -> Proposals:
    """Drop proposals of fewer than ``min_area`` pixels."""
    areas = Bits(proposals.masks).areas
    return select(proposals, (areas >= min_area).nonzero().flatten())


def keep_top(proposals: Proposals, count: int) -> Proposals:
    """Keep the ``count`` best-scored, best first."""
    return select(proposals, best_first(proposals.scores)[:count])


def mask_nms(proposals: Proposals, max_iou: float) -> Proposals:
    """Go through proposals best first, and drop those whose IoU with a kept one is above ``max_iou``."""
    clash = (_ious(proposals.masks) > max_iou).cpu().numpy()
    return select(proposals, suppress(best_first(proposals.scores).tolist(), clash))


def matrix_nms(proposals: Proposals, min_share: float, sigma: float = 2.0) -> Proposals:
    """Lower scores, at least 0, by overlap with better ones, see `shares_left`; best first.

    Proposals whose score is multiplied by less than ``min_share`` are dropped.
    """
    order = best_first(proposals.scores)
    share = shares_left(_ious(proposals.masks[order]), sigma)
    lowered = proposals.scores.clone()
    lowered[order] = proposals.scores[order] * share.to(lowered.dtype)
    kept = order[share >= min_share]
    return select(proposals, kept[best_first(lowered[kept])], lowered)


def shares_left(ious: Tensor, sigma: float) -> Tensor:
    """Compute what matrix NMS leaves of each score (SOLOv2, NeurIPS 2020, section 3.3, Gaussian), ``(N,)``.

    The share of mask j is the least over all better i of ``exp(-sigma iou_ij^2) / exp(-sigma most_i^2)``,
    with ``most_i`` the largest IoU of mask i with a mask better than itself: what is itself suppressed
    suppresses less. Of ``ious`` ``(N, N)``, the masks best first, only what is above the diagonal counts.
    """
    if not len(ious):
        return ious.new_zeros(0)
    ious = ious.triu(diagonal=1)
    most = ious.amax(dim=0)
    # Worse masks give shares of 1 or more, and the best mask one of at most 1: neither bears on the least.
    return (torch.exp(-sigma * ious**2) / torch.exp(-sigma * most**2)[:, None]).amin(dim=0)


def merge_nested(proposals: Proposals, share: float) -> Proposals:
    """Merge parts into their wholes.

    From the largest to the smallest, a proposal of which ``share`` or more lies in one that stands for itself
    joins it (the largest of several), else it stands for itself. Each of these becomes the union with all
    that joined it, with the best of their scores. They come best first, of equal scores the larger one.
    """
    if not len(proposals):
        return proposals
    bits = Bits(proposals.masks)
    areas, intersections = bits.areas, bits.intersections(bits)
    inside = (intersections >= share * areas[:, None].double()).cpu()
    groups: dict[int, list[int]] = {}
    for row in best_first(areas).tolist():
        whole = next((root for root in groups if inside[row, root]), row)
        groups.setdefault(whole, []).append(row)
    merged = [proposals.masks[rows].any(dim=0) for rows in groups.values()]
    scores = torch.stack([proposals.scores[rows].max() for rows in groups.values()])
    united = Proposals.from_masks(torch.stack(merged), scores)
    # Boxes may be of another kind than the tight ones, and stay where nothing was added.
    grown = Bits(united.masks).areas > areas[list(groups)]
    boxes = torch.where(grown[:, None], united.boxes, proposals.boxes[list(groups)])
    return select(Proposals(united.masks, boxes, united.scores), best_first(united.scores))


def _ious(masks: Tensor) -> Tensor:
    """IoU of each mask with each, float64 ``(N, N)``; 0 for two empty ones."""
    intersection, union = pairwise_areas(masks, masks)
    return intersection.double() / union.clamp(min=1)
