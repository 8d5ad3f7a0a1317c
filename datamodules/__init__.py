"""Data sets of referring image segmentation, each a LightningDataModule that yields one `Scene` per image."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from datamodules.hf import RefCOCOBenchmark, RefCOCOM, RefCOCORows
from datamodules.phrasecut import PhraseCut
from datamodules.refcoco import RefCOCO
from datamodules.scene import Scene

if TYPE_CHECKING:
    from datamodules.captioned_shapes import CaptionedShapes
    from datamodules.refshapes import RefShapes, RefShapesPhrases

__all__ = [
    "CaptionedShapes",
    "PhraseCut",
    "RefCOCO",
    "RefCOCOBenchmark",
    "RefCOCOM",
    "RefCOCORows",
    "RefShapes",
    "RefShapesPhrases",
    "Scene",
]

_LATE = {
    "CaptionedShapes": "datamodules.captioned_shapes",
    "RefShapes": "datamodules.refshapes",
    "RefShapesPhrases": "datamodules.refshapes",
}


def __getattr__(name: str) -> Any:
    """Import what draws its own data only when it is asked for."""
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
