"""RefCOCO in the parquet files of Hugging Face repositories."""

from datamodules.hf.data import RefCOCOBenchmark, RefCOCOM

__all__ = ["RefCOCOBenchmark", "RefCOCOM"]
