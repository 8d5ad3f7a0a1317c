"""Zero-shot referring image segmentation with CLIP, after the paper's Global-Local method.

The names below are imported on first use, so that ``import gl_ris`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gl_ris.clip import RegionCLIP, load_clip
    from gl_ris.errors import UserError
    from gl_ris.recipe import Recipe
    from gl_ris.scorers import Scorer, load_scorer
    from gl_ris.scorers.cropping import Cropping
    from gl_ris.scorers.global_local import GlobalLocal
    from gl_ris.scorers.grad_cam import GradCAM
    from gl_ris.scorers.largest import LargestProposal
    from gl_ris.scorers.random_proposal import RandomProposal
    from gl_ris.scorers.region_token import RegionToken
    from gl_ris.scorers.score_map import ScoreMap
    from gl_ris.segmentation import Segmentation, segment
    from gl_ris.text import noun_phrases
    from gl_ris.zero_shot import ZeroShotRIS

__all__ = [
    "Cropping",
    "GlobalLocal",
    "GradCAM",
    "LargestProposal",
    "RandomProposal",
    "Recipe",
    "RegionCLIP",
    "RegionToken",
    "ScoreMap",
    "Scorer",
    "Segmentation",
    "UserError",
    "ZeroShotRIS",
    "load_clip",
    "load_scorer",
    "noun_phrases",
    "segment",
]

_HOMES = {
    "Cropping": "gl_ris.scorers.cropping",
    "GlobalLocal": "gl_ris.scorers.global_local",
    "GradCAM": "gl_ris.scorers.grad_cam",
    "LargestProposal": "gl_ris.scorers.largest",
    "RandomProposal": "gl_ris.scorers.random_proposal",
    "Recipe": "gl_ris.recipe",
    "RegionCLIP": "gl_ris.clip",
    "RegionToken": "gl_ris.scorers.region_token",
    "ScoreMap": "gl_ris.scorers.score_map",
    "Scorer": "gl_ris.scorers",
    "Segmentation": "gl_ris.segmentation",
    "UserError": "gl_ris.errors",
    "ZeroShotRIS": "gl_ris.zero_shot",
    "load_clip": "gl_ris.clip",
    "load_scorer": "gl_ris.scorers",
    "noun_phrases": "gl_ris.text",
    "segment": "gl_ris.segmentation",
}
_PACKAGES = ("clip", "metrics", "proposals", "scorers")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
