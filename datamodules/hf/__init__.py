"""RefCOCO in the parquet files of Hugging Face repositories.

Three forms are read. The names of columns and splits and the counts per split were confirmed from the
repositories' own cards, what the values mean from public code that reads them. The files themselves could not
be had when this was written: the tests write files of the same columns and types.

* `RefCOCORows` (``jxu124/refcoco``, ``/refcocoplus``, ``/refcocog``): one row per ref, no images.
* `RefCOCOBenchmark` (``jxu124/refcoco-benchmark``): one row per image, with the image inside.
* `RefCOCOM` (``moondream/refcoco-m``): one row per image, with the image inside and accurate masks.
"""

from datamodules.hf.benchmark import RefCOCOBenchmark
from datamodules.hf.ref_rows import RefCOCORows
from datamodules.hf.refcoco_m import RefCOCOM

__all__ = ["RefCOCOBenchmark", "RefCOCOM", "RefCOCORows"]
