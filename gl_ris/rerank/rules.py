"""Relations, superlatives and places as functions of boxes: how far each is true, in [0, 1].

A rule takes boxes, float ``(N, 4)`` XYXY, or `Regions`, which know the masks and the image's size, too. The rule of
a relation gives ``(N, N)``, entry [i, j]: i stands in the relation to j (between: ``(N, N, N)``, i between j and
k); no mask is related to itself. The rule of a superlative gives ``(N,)``, for masks that are all of one kind.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gl_ris.errors import unknown_name
from gl_ris.rerank.regions import Regions, boxes_within

Boxes = Tensor | Regions
Rule = Callable[[Boxes], Tensor]

# Shares of the size of two masks: how far apart they are before an order is sure, and how far "near" reaches.
_SURE, _REACH = 0.15, 0.5
# shares of the image: how soft the limits of places are, and how far the middle reaches
_SOFT, _MIDDLE = 0.08, 0.18


def _rule(of: Callable[[Regions], Tensor]) -> Rule:
    """Let a rule take boxes, too."""
    return lambda boxes: of(Regions.of(boxes))


def _ahead(axis: int, sign: int) -> Rule:
    """Squared cosine of the angle between an axis and the way to j; 0 from 90 degrees on."""
    return _rule(lambda regions: (sign * regions.towards[..., axis]).relu().square())


def _before(key: Callable[[Regions], Tensor]) -> Rule:
    """Say how sure it is that i has the smaller key, which is in pixels."""

    def rule(regions: Regions) -> Tensor:
        keys = key(regions)
        return _others(((keys[None] - keys[:, None]) / (_SURE * regions.lengths)).sigmoid())

    return _rule(rule)


def _others(matrix: Tensor) -> Tensor:
    """Relate no mask to itself."""
    return matrix * ~torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)


def _bigger(regions: Regions) -> Tensor:
    areas = regions.areas.clamp(min=1e-6).log()
    return _others((2 * (areas[:, None] - areas)).sigmoid())


def _near(regions: Regions) -> Tensor:
    return _others((-regions.gaps / (_REACH * regions.lengths)).exp())


def _inside(regions: Regions) -> Tensor:
    # of two masks of one object neither is inside the other
    return _others(regions.within * (1 - regions.within.T))


def _on(regions: Regions) -> Tensor:
    return _near(regions) * torch.maximum(RULES["above"](regions), _inside(regions))


def _between(regions: Regions) -> Tensor:
    """Squared cosine between the way to j and the way back from k; 0 below 90 degrees."""
    ways = regions.towards
    return torch.einsum("ijx,ikx->ijk", ways, -ways).relu().square()


def ordinal(before: Tensor, kind: Tensor, k: int) -> Tensor:
    """Return how likely it is that exactly k - 1 masks of a kind lie before each mask: ``(N,)``.

    Args:
        before: ``(N, N)`` in [0, 1], entry [i, j]: i lies before j; the diagonal is 0.
        kind: ``(N,)`` in [0, 1], how likely each mask is of the kind, whatever the others are.
        k: From 1; a superlative is the first.
    """
    chances = torch.zeros(k, len(kind), dtype=kind.dtype, device=kind.device)
    chances[0] = 1
    # the Poisson-binomial distribution, one mask after the other
    for one in before * kind[:, None]:
        chances = chances * (1 - one) + torch.cat([torch.zeros_like(chances[:1]), chances[:-1]]) * one
    return chances[-1]


def _first(order: str) -> Rule:
    def rule(boxes: Boxes) -> Tensor:
        before = ORDERS[order](boxes)
        return ordinal(before, torch.ones_like(before[0]), 1)

    return rule


# what is counted from each side: entry [i, j]: i comes before j
ORDERS: dict[str, Rule] = {
    "left": _before(lambda regions: regions.centres[:, 0]),
    "right": _before(lambda regions: -regions.centres[:, 0]),
    "top": _before(lambda regions: regions.centres[:, 1]),
    "bottom": _before(lambda regions: -regions.centres[:, 1]),
    "big": _rule(_bigger),
    "small": _rule(lambda regions: _bigger(regions).T),
    # A proxy of depth: what stands nearer to the viewer reaches further down.
    "front": _before(lambda regions: -regions.boxes[:, 3]),
    "back": _before(lambda regions: regions.boxes[:, 3]),
}
# the order of which a superlative is the first
SUPERLATIVES = {
    **{"leftmost": "left", "rightmost": "right", "topmost": "top", "bottommost": "bottom"},
    **{"biggest": "big", "smallest": "small", "closest": "front", "farthest": "back"},
}
RULES: dict[str, Rule] = {
    "left": _ahead(0, 1),
    "right": _ahead(0, -1),
    "above": _ahead(1, 1),
    "below": _ahead(1, -1),
    "near": _rule(_near),
    "between": _rule(_between),
    "inside": _rule(_inside),
    "on": _rule(_on),
    "bigger": ORDERS["big"],
    "smaller": ORDERS["small"],
    "front": ORDERS["front"],
    "behind": ORDERS["back"],
    **{name: _first(order) for name, order in SUPERLATIVES.items()},
}


def _part(depth: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Rule:
    """Say how sure it is that a centre is in a part of the image, of how deep inside it is."""
    return _rule(lambda regions: (depth(*regions.places.T) / _SOFT).sigmoid())


# of the centre's x and y and the lower edge, as shares of the image; a corner is two places
PLACES: dict[str, Rule] = {
    "left": _part(lambda x, y, lower: 0.5 - x),
    "right": _part(lambda x, y, lower: x - 0.5),
    "top": _part(lambda x, y, lower: 0.5 - y),
    "bottom": _part(lambda x, y, lower: y - 0.5),
    "middle": _part(lambda x, y, lower: _MIDDLE - torch.maximum((x - 0.5).abs(), (y - 0.5).abs())),
    "front": _part(lambda x, y, lower: lower - 0.6),
    "back": _part(lambda x, y, lower: 0.6 - lower),
}


def _smaller_key(key: Callable[[Regions], Tensor]) -> Rule:
    """Say whether i has the smaller key, 0 or 1, as ReCLIP and HybridGL do."""
    return _rule(lambda regions: (key(regions)[:, None] < key(regions)).to(regions.boxes.dtype))


def _box_areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def _mean(relation: str) -> Rule:
    return lambda boxes: HARD[relation](boxes).mean(dim=1)


# The seven predicates of ReCLIP, all of boxes and not of masks, which HybridGL took over.
HARD: dict[str, Rule] = {
    "left": _smaller_key(lambda regions: regions.centres[:, 0]),
    "right": _smaller_key(lambda regions: -regions.centres[:, 0]),
    "above": _smaller_key(lambda regions: regions.centres[:, 1]),
    "below": _smaller_key(lambda regions: -regions.centres[:, 1]),
    "bigger": _smaller_key(lambda regions: -_box_areas(regions.boxes)),
    "smaller": _smaller_key(lambda regions: _box_areas(regions.boxes)),
    # a box is inside itself
    "inside": _rule(lambda regions: boxes_within(regions.boxes)),
}
# the relation whose mean is the weight of a superlative
_MOST = {
    **{"leftmost": "left", "rightmost": "right", "topmost": "above", "bottommost": "below"},
    **{"biggest": "bigger", "smallest": "smaller"},
}
_PRESETS = {
    "full": RULES,
    "reclip": {**HARD, **{name: _mean(relation) for name, relation in _MOST.items()}},
    "hybridgl": HARD,
    "hybridgl_fixed": HARD,
}


def preset(name: str) -> dict[str, Rule]:
    """Return the rules of a preset by the names of relations and superlatives.

    Args:
        name: ``"full"``: soft rules, those of `RULES`. ``"reclip"``, ``"hybridgl"`` and ``"hybridgl_fixed"``: the hard
            ones that were published, which know boxes alone; ReCLIP's superlatives are the mean of a relation
            over all masks, HybridGL has none.

    Raises:
        UserError: There is no such preset.
    """
    if name not in _PRESETS:
        raise unknown_name("preset of rules", name, _PRESETS)
    return dict(_PRESETS[name])
