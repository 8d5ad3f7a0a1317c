"""Data sets of referring image segmentation, each a LightningDataModule that yields one `Scene` per image."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.captioned_shapes import CaptionedShapes as CaptionedShapes
    from datamodules.grefcoco import GRefCOCO as GRefCOCO
    from datamodules.hf import RefCOCOBenchmark as RefCOCOBenchmark
    from datamodules.hf import RefCOCOM as RefCOCOM
    from datamodules.own_folder import Folder as Folder
    from datamodules.phrasecut import PhraseCut as PhraseCut
    from datamodules.refcoco import RefCOCO as RefCOCO
    from datamodules.refshapes import RefShapes as RefShapes
    from datamodules.refshapes import RefShapesPhrases as RefShapesPhrases
    from datamodules.scene import Scene as Scene

# Imported when asked for: the commands of this package print their help without torch.
_HOMES = {
    "CaptionedShapes": "datamodules.captioned_shapes",
    "Folder": "datamodules.own_folder",
    "GRefCOCO": "datamodules.grefcoco",
    "PhraseCut": "datamodules.phrasecut",
    "RefCOCO": "datamodules.refcoco",
    "RefCOCOBenchmark": "datamodules.hf",
    "RefCOCOM": "datamodules.hf",
    "RefShapes": "datamodules.refshapes",
    "RefShapesPhrases": "datamodules.refshapes",
    "Scene": "datamodules.scene",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
