"""Data sets of referring image segmentation, each a LightningDataModule that yields one `Scene` per image."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.captioned_shapes import CaptionedShapes
    from datamodules.hf import RefCOCOBenchmark, RefCOCOM, RefCOCORows
    from datamodules.phrasecut import PhraseCut
    from datamodules.refcoco import RefCOCO
    from datamodules.refshapes import RefShapes, RefShapesPhrases
    from datamodules.scene import Scene

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

# Imported when asked for: the commands of this package print their help without torch.
_HOMES = {
    "CaptionedShapes": "datamodules.captioned_shapes",
    "PhraseCut": "datamodules.phrasecut",
    "RefCOCO": "datamodules.refcoco",
    "RefCOCOBenchmark": "datamodules.hf",
    "RefCOCOM": "datamodules.hf",
    "RefCOCORows": "datamodules.hf",
    "RefShapes": "datamodules.refshapes",
    "RefShapesPhrases": "datamodules.refshapes",
    "Scene": "datamodules.scene",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
