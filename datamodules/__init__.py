"""Data sets of referring image segmentation, each a LightningDataModule that yields one `Scene` per image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datamodules.phrasecut import PhraseCut
from datamodules.refcoco import RefCOCO
from datamodules.scene import Scene

if TYPE_CHECKING:
    from datamodules.refshapes import RefShapes

__all__ = ["PhraseCut", "RefCOCO", "RefShapes", "Scene"]


def __getattr__(name: str) -> Any:
    """Import `RefShapes` only when it is asked for, since it brings what is needed to draw scenes."""
    if name == "RefShapes":
        from datamodules.refshapes import RefShapes

        return RefShapes
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
