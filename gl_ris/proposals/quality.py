"""How good proposals are by themselves: the best choice possible, and recall by how many may be kept.

An object is one referent of the data, however many expressions it has. Its best proposal is the one of
highest IoU; it is recalled at ``n`` proposals if one of the ``n`` best-scored has the IoU asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.evaluator import best_proposals
from gl_ris.masks import pairwise_areas
from gl_ris.metrics import area_sums
from gl_ris.proposals.base import Proposals
from gl_ris.proposals.post import best_first

THRESHOLDS = (0.5, 0.75)
COCO_BOUNDS = (32**2, 96**2)
SIZES = ("small", "medium", "large")
_LEAST_SHARE = 0.05


class ObjectMatch(NamedTuple):
    """What the proposals of its image are worth for one object; areas in pixels."""

    area: int
    expressions: int  # How many expressions refer to it.
    # With its best proposal; 0 and the object's area without proposals.
    intersection: int
    union: int
    # For each of `THRESHOLDS`, how many proposals must be kept, best-scored first, until one has that IoU; 0
    # if none has.
    first: tuple[int, ...]


@dataclass
class Quality:
    """What is known of one generator's proposals on some images; those of several processes add up."""

    counts: list[int] = field(default_factory=list)  # How many proposals each image has.
    failed: int = 0  # Images on which the generator failed; they count as images without proposals.
    missing: int = 0  # Images of which nothing is stored; they count for nothing.
    objects: list[ObjectMatch] = field(default_factory=list)  # Every object of the images that count.

    def add(self, proposals: Proposals, targets: Tensor, referents: Tensor) -> None:
        """Add an image: its objects, bool ``(R, H, W)``, and that of each expression, int64 ``(E,)``."""
        self.counts.append(len(proposals))
        self.objects += objects_found(proposals, targets, referents)

    def __add__(self, other: Quality) -> Quality:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Quality(*(own + more for own, more in pairs))

    def upper_bound(self) -> dict[str, float]:
        """Return oIoU and mIoU over expressions, in percent, if the best proposal is chosen each time."""
        repeats = torch.tensor([found.expressions for found in self.objects], dtype=torch.int64)
        intersection, union = (
            torch.tensor(values, dtype=torch.int64).repeat_interleave(repeats)
            for values in zip(*((f.intersection, f.union) for f in self.objects), strict=True)
        )
        return area_sums(intersection, union).percent(())[0]

    def recall(self, threshold: float, area: tuple[float, float] = (0, float("inf"))) -> float:
        """Return the percentage of objects that some proposal has found; nan without an object.

        Only objects of at least the first and less than the second ``area`` count, in pixels.
        """
        place = THRESHOLDS.index(threshold)
        hits = [found.first[place] > 0 for found in self.objects if area[0] <= found.area < area[1]]
        return 100 * sum(hits) / len(hits) if hits else float("nan")

    def curve(self, threshold: float) -> list[float]:
        """Return recall in percent for 1, 2, ... best-scored proposals, up to the most that an image has."""
        place, most = THRESHOLDS.index(threshold), max(self.counts, default=0)
        first = torch.tensor([found.first[place] for found in self.objects], dtype=torch.int64)
        hits = torch.bincount(first, minlength=most + 1)[1:].cumsum(0)
        return (100 * hits / max(1, len(first))).tolist()


def objects_found(proposals: Proposals, targets: Tensor, referents: Tensor) -> list[ObjectMatch]:
    """Measure the proposals of an image on each of its objects; see `Quality.add` for the arguments."""
    bits = Bits(targets)
    areas = bits.areas.tolist()
    expressions = torch.bincount(referents, minlength=len(targets)).tolist()
    if not len(proposals):
        none = (0,) * len(THRESHOLDS)
        return [ObjectMatch(a, count, 0, a, none) for a, count in zip(areas, expressions, strict=True)]
    order = best_first(proposals.scores)
    intersection, union = (area[order] for area in pairwise_areas(proposals.masks, bits))
    best = best_proposals(intersection, union)
    columns = torch.arange(len(targets), device=best.device)
    firsts = zip(*(_first_hits(intersection, union, threshold) for threshold in THRESHOLDS), strict=True)
    best_areas = intersection[best, columns].tolist(), union[best, columns].tolist()
    return [ObjectMatch(*row) for row in zip(areas, expressions, *best_areas, firsts, strict=True)]


def _first_hits(intersection: Tensor, union: Tensor, threshold: float) -> list[int]:
    hits = (intersection.double() >= threshold * union) & (union > 0)
    return torch.where(hits.any(dim=0), hits.byte().argmax(dim=0) + 1, 0).tolist()


def size_bounds(areas: Sequence[int]) -> tuple[float, float]:
    """Choose where small ends and large begins, in pixels.

    COCO's bounds (32 x 32 and 96 x 96) where each class then gets at least one object in twenty. Elsewhere,
    as on small drawn images, the bounds part the objects into thirds.
    """
    values = torch.tensor(sorted(areas), dtype=torch.float64)
    small, large = ((values < bound).double().mean() for bound in COCO_BOUNDS)
    if not len(values) or min(small, large - small, 1 - large) >= _LEAST_SHARE:
        return COCO_BOUNDS
    return float(values[len(values) // 3]), float(values[2 * len(values) // 3])
