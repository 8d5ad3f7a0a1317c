"""Heat maps of texts over an image, and what they make of masks: scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.clip.dense import dense_features
from gl_ris.errors import UserError, unknown_name


def heat_maps(clip: Any, name: str, pixels: Tensor, text_features: Tensor) -> Tensor:
    """Compare every position of an image with texts: cosines, float32 ``(T, rows, columns)``, not scaled.

    Args:
        clip: A `gl_ris.clip.RegionCLIP`.
        name: ``"maskclip"`` (also of a ResNet), ``"sclip"``, ``"clearclip"``, ``"naclip"`` or ``"gem"``, see
            `gl_ris.clip.dense.dense_features`, which also says what is raised.
        pixels: float ``(1, 3, h, w)``, standardised, of any size in whole patches.
        text_features: float ``(T, D)``, normalised in here.
    """
    return cosine_maps(text_features, dense_features(clip, name, pixels))


def cosine_maps(text: Tensor, features: Tensor) -> Tensor:
    """Compare texts ``(T, D)`` with features ``(rows, columns, D)``: cosines ``(T, rows, columns)``."""
    unit = F.normalize(features, dim=-1).flatten(0, 1)
    return (F.normalize(text.float(), dim=-1) @ unit.T).unflatten(1, features.shape[:2])


def as_pictures(maps: Tensor, size: tuple[int, int], through: tuple[int, int] | None = None) -> Tensor:
    """Bring maps ``(T, rows, columns)`` to pixels, ``(T, *size)``, each scaled to [0, 1]; an even one is 0.

    ``through`` is a size in pixels that they are brought to first, as GEM's are to that of its input.
    """
    for to in [size] if through is None else [through, size]:
        maps = F.interpolate(maps[:, None], to, mode="bilinear", align_corners=False, antialias=True)[:, 0]
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)


def mask_scores(maps: Tensor, masks: Tensor, rule: str = "in", b: float | Tensor = 1.8) -> Tensor:
    """Score masks by heat maps.

    Args:
        maps: float ``(T, h, w)``; of another size than the masks they are resized to it (bilinear).
        masks: bool ``(N, H, W)``.
        rule: ``"in"``, the mean inside; ``"in_out"``, less the mean outside (Ref-Diff); ``"balanced"``,
            (2 - b) inside - b outside (HybridGL); ``"peak"``, masks that hold the peak first, by the mean
            inside (IteRPrimE); ``"sum_sqrt_area"``, the sum inside by the root of the area (GroundVLP).
        b: From 0 to 2, for ``"balanced"`` alone; one for all, or of each map, ``(T, 1)``.

    Returns:
        float32 ``(T, N)``, higher is better. The mean of no pixels is the map's, which tells nothing.

    Raises:
        UserError: No such rule, or b out of range.
        ValueError: Maps or masks of another shape.
    """
    if not ((torch.as_tensor(b) - 1).abs() <= 1).all():
        raise UserError(f"b={b} is out of range: it is a number from 0 to 2.")
    if maps.ndim != 3 or masks.ndim != 3 or masks.dtype != torch.bool:
        given = f"{tuple(maps.shape)} and {masks.dtype} {tuple(masks.shape)}"
        raise ValueError(f"maps must be (T, h, w) and masks bool (N, H, W), got {given}.")
    if maps.shape[1:] != masks.shape[1:]:
        maps = F.interpolate(maps[:, None], masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    maps, members = maps.flatten(1).float(), masks.flatten(1).float().T
    area = members.sum(dim=0)
    # around 0, sums of many pixels lose less
    middle = maps.mean(dim=1, keepdim=True)
    total, rest = (maps - middle) @ members, len(members) - area
    inside = middle + total / area.masked_fill(area == 0, torch.inf)
    outside = middle - total / rest.masked_fill(rest == 0, torch.inf)

    def peak() -> Tensor:
        low, high = maps.aminmax(dim=1, keepdim=True)
        return inside + ((maps == high).float() @ members > 0) * (1 + high - low)

    rules: dict[str, Callable[[], Tensor]] = {
        "in": lambda: inside,
        "in_out": lambda: inside - outside,
        "balanced": lambda: (2 - b) * inside - b * outside,
        "peak": peak,
        "sum_sqrt_area": lambda: inside * area.sqrt(),
    }
    if rule not in rules:
        raise unknown_name("rule of a heat map", rule, rules)
    return rules[rule]()


# by place the axis, and from where to where weights go along it
_RAMPS: dict[str, tuple[int, list[tuple[int, int]]]] = {
    "left": (1, [(1, 0)]),
    "right": (1, [(0, 1)]),
    "middle": (1, [(0, 1), (1, 0)]),
    "top": (0, [(1, 0)]),
    "bottom": (0, [(0, 1)]),
}


def position_mask(place: str | None, height: int, width: int) -> Tensor:
    """Weigh pixels by a place, as HybridGL does: float32 ``(height, width)`` in [0, 1], 1 for None.

    From 1 at that side (left, right, top, bottom) to 0 at the other; for the middle from 0 at the left to 1
    in two columns and back. A `UserError` for another place.
    """
    if place is None:
        return torch.ones(height, width)
    if place not in _RAMPS:
        raise unknown_name("place", place, _RAMPS)
    axis, ends = _RAMPS[place]
    side = (height, width)[axis]
    parts = [side] if len(ends) == 1 else [side // 2, side - side // 2]
    ramp = torch.cat([torch.linspace(*pair, part) for pair, part in zip(ends, parts, strict=True)])
    return (ramp if axis else ramp[:, None]).expand(height, width)
