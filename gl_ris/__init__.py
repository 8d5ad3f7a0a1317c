# ruff: noqa: F401  names are exported by the table below, so that each stands in one place
"""Zero-shot referring image segmentation with CLIP, after the paper's Global-Local method.

The names below are imported on first use, so that ``import gl_ris`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gl_ris.clip import RegionCLIP, load_clip
    from gl_ris.errors import UserError
    from gl_ris.parsing import Parsed, parse
    from gl_ris.recipe import Recipe
    from gl_ris.scorers import Scorer, load_scorer
    from gl_ris.scorers.floors import LargestProposal, RandomProposal
    from gl_ris.scorers.global_local import Cropping, GlobalLocal
    from gl_ris.scorers.grad_cam import GradCAM
    from gl_ris.scorers.heat_map import HeatMap
    from gl_ris.scorers.hybrid_gl import HybridGL
    from gl_ris.scorers.region_token import RegionToken
    from gl_ris.scorers.score_map import ScoreMap
    from gl_ris.segmentation import Segmentation, Segmenter, segment
    from gl_ris.text import noun_phrases
    from gl_ris.zero_shot import ZeroShotRIS

_NAMES = {
    "clip": "RegionCLIP load_clip",
    "errors": "UserError",
    "parsing": "Parsed parse",
    "recipe": "Recipe",
    "scorers": "Scorer load_scorer",
    "scorers.floors": "LargestProposal RandomProposal",
    "scorers.global_local": "Cropping GlobalLocal",
    "scorers.grad_cam": "GradCAM",
    "scorers.heat_map": "HeatMap",
    "scorers.hybrid_gl": "HybridGL",
    "scorers.region_token": "RegionToken",
    "scorers.score_map": "ScoreMap",
    "segmentation": "Segmentation Segmenter segment",
    "text": "noun_phrases",
    "zero_shot": "ZeroShotRIS",
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names.split()}
_PACKAGES = ("clip", "metrics", "proposals", "scorers")

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
