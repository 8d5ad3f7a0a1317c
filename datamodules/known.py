"""Every data module, imported so that the command line knows the classes by their short names."""

from datamodules.hf import RefCOCOBenchmark, RefCOCOM, RefCOCORows
from datamodules.phrasecut import PhraseCut
from datamodules.refcoco import RefCOCO
from datamodules.refshapes import RefShapes, RefShapesPhrases

__all__ = [
    "PhraseCut",
    "RefCOCO",
    "RefCOCOBenchmark",
    "RefCOCOM",
    "RefCOCORows",
    "RefShapes",
    "RefShapesPhrases",
]
