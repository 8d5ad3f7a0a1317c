"""Relations, superlatives and places as functions of boxes: how far each is true, in [0, 1].

A rule takes boxes, float ``(N, 4)`` XYXY, or `Regions`, which know the masks and the image's size, too. That
of a relation gives ``(N, N)``, entry [i, j]: i stands in the relation to j (between: ``(N, N, N)``, i between
j and k); no mask is related to itself, but "with" of what is on it. That of a superlative gives ``(N,)``, for
masks all of one kind.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gl_ris.errors import unknown_name
from gl_ris.grammar import MOST
from gl_ris.rerank.geometry import Regions, boxes_within

Boxes = Tensor | Regions
Rule = Callable[[Boxes], Tensor]
_Of = Callable[[Regions], Tensor]

# Shares of the size of two masks: how far apart they are before an order is sure, and how far "near" reaches.
_SURE, _REACH = 0.15, 0.5
# shares of the image: how soft the limits of places are, and how far from its centre the middle reaches
_SOFT, _MIDDLE = 0.05, 0.15
# what is counted from each side: the smaller of two keys, in pixels, comes first
_KEYS: dict[str, _Of] = {
    "left": lambda regions: regions.centres[:, 0],
    "right": lambda regions: -regions.centres[:, 0],
    "top": lambda regions: regions.centres[:, 1],
    "bottom": lambda regions: -regions.centres[:, 1],
    # A proxy of depth: what stands nearer to the viewer reaches further down.
    "front": lambda regions: -regions.boxes[:, 3],
    "back": lambda regions: regions.boxes[:, 3],
}


def _rule(of: _Of) -> Rule:
    """Let a rule take boxes, too, and relate no mask to itself."""

    def rule(boxes: Boxes) -> Tensor:
        found = of(Regions.of(boxes))
        return found if found.ndim != 2 else found - found.diag().diag()

    return rule


def _ahead(axis: int, sign: int) -> Rule:
    """Squared cosine of the angle between an axis and the way to j; 0 from 90 degrees on."""
    return _rule(lambda regions: (sign * regions.towards[..., axis]).relu().square())


def _before(key: _Of) -> Rule:
    return _rule(lambda of: ((key(of)[None] - key(of)[:, None]) / (_SURE * of.lengths)).sigmoid())


def _between(regions: Regions) -> Tensor:
    """Squared cosine between the way to j and the way back from k; 0 from 90 degrees on."""
    return torch.einsum("ijx,ikx->ijk", regions.towards, -regions.towards).relu().square()


def _bigger(regions: Regions) -> Tensor:
    # the fourth power: half as large again is bigger by 5 to 1 (chosen on train, as the other constants are)
    return 1 / (1 + (regions.areas / regions.areas[:, None]).pow(4))


def _near(regions: Regions) -> Tensor:
    return (-regions.gaps / (_REACH * regions.lengths)).exp()


def _inside(regions: Regions) -> Tensor:
    # of two masks of one object neither is inside the other
    return regions.within * (1 - regions.within.T)


def _on(regions: Regions) -> Tensor:
    return _near(regions) * torch.maximum(RULES["above"](regions), _inside(regions))


def ordinal(before: Tensor, kind: Tensor, k: int) -> Tensor:
    """Return how likely it is that exactly k - 1 masks of a kind lie before each mask: ``(N,)``.

    Args:
        before: ``(N, N)`` in [0, 1], entry [i, j]: i lies before j; the diagonal is 0.
        kind: ``(N,)`` in [0, 1], how likely each mask is of the kind, whatever the others are.
        k: From 1; a superlative is the first.
    """
    chances = torch.eye(k, 1, dtype=kind.dtype, device=kind.device).repeat(1, len(kind))
    # the Poisson-binomial distribution, one mask after the other
    for one in before * kind[:, None]:
        chances = chances * (1 - one) + torch.nn.functional.pad(chances[:-1], (0, 0, 1, 0)) * one
    return chances[-1]


def _first(order: str) -> Rule:
    return lambda boxes: ordinal(before := ORDERS[order](boxes), before.new_ones(len(before)), 1)


# entry [i, j]: i comes before j
ORDERS: dict[str, Rule] = {
    **{side: _before(key) for side, key in _KEYS.items()},
    "big": _rule(_bigger),
    "small": _rule(lambda regions: _bigger(regions).T),
}
# the order of which a superlative is the first
SUPERLATIVES = {most: side for side, most in MOST.items()} | {"biggest": "big", "smallest": "small"}
# the relation to another that an order is
_RELATIONS = {
    **{"left": "left", "right": "right", "top": "above", "bottom": "below"},
    **{"big": "bigger", "small": "smaller", "front": "front", "back": "behind"},
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
    "with": lambda boxes: torch.ones_like(Regions.of(boxes).areas).diag(),
    **{_RELATIONS[order]: ORDERS[order] for order in ("big", "small", "front", "back")},
    **{name: _first(order) for name, order in SUPERLATIVES.items()},
}


def _part(depth: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Rule:
    """Say how sure it is that a mask is in a part of the image, of how deep inside it is."""
    return _rule(lambda regions: (depth(*regions.places) / _SOFT).sigmoid())


# of the centre's x and y and the lower edge, as shares of the image; a corner is two places
PLACES: dict[str, Rule] = {
    "left": _part(lambda x, y, lower: 0.5 - x),
    "right": _part(lambda x, y, lower: x - 0.5),
    "top": _part(lambda x, y, lower: 0.5 - y),
    "bottom": _part(lambda x, y, lower: y - 0.5),
    "middle": _part(lambda x, y, lower: _MIDDLE - torch.maximum((x - 0.5).abs(), (y - 0.5).abs())),
    "middle column": _part(lambda x, y, lower: _MIDDLE - (x - 0.5).abs()),
    "middle row": _part(lambda x, y, lower: _MIDDLE - (y - 0.5).abs()),
    "front": _part(lambda x, y, lower: lower - 0.6),
    "back": _part(lambda x, y, lower: 0.6 - lower),
}


def _smaller(key: _Of) -> Rule:
    return _rule(lambda regions: (key(regions)[:, None] < key(regions)).to(regions.boxes.dtype))


def _box_areas(regions: Regions) -> Tensor:
    return Regions(regions.boxes).areas


# The seven predicates of ReCLIP, all of boxes and not of masks, which HybridGL took over.
_HARD: dict[str, Rule] = {
    **{_RELATIONS[side]: _smaller(_KEYS[side]) for side in ("left", "right", "top", "bottom")},
    "bigger": _smaller(lambda regions: -_box_areas(regions)),
    "smaller": _smaller(_box_areas),
    # a box is inside itself
    "inside": lambda boxes: boxes_within(Regions.of(boxes).boxes),
}


def _mean(relation: str) -> Rule:
    return lambda boxes: _HARD[relation](boxes).mean(dim=1)


_MEANS = {name: _mean(_RELATIONS[of]) for name, of in SUPERLATIVES.items() if _RELATIONS[of] in _HARD}
_PRESETS = {"full": RULES, "reclip": {**_HARD, **_MEANS}, "hybridgl": _HARD, "hybridgl_fixed": _HARD}


def preset(name: str) -> dict[str, Rule]:
    """Return the rules of a preset by the names of relations and superlatives.

    Args:
        name: ``"full"``: soft rules of `RULES`. ``"reclip"``, ``"hybridgl"``, ``"hybridgl_fixed"``: the
            published hard ones, which know boxes alone; ReCLIP's superlatives are the mean of a relation over
            all masks, HybridGL has none.

    Raises:
        UserError: There is no such preset.
    """
    if name not in _PRESETS:
        raise unknown_name("preset of rules", name, _PRESETS)
    return dict(_PRESETS[name])
