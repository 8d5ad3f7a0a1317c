"""The supervised baselines, which the zero-shot method is compared with."""

from __future__ import annotations

from gl_ris.supervised.cris import CRIS, CRISBaseline
from gl_ris.supervised.lavt import LAVT, LAVTBaseline
from gl_ris.supervised.tseg import TSEG, TSEGBaseline

__all__ = ["CRIS", "LAVT", "TSEG", "CRISBaseline", "LAVTBaseline", "TSEGBaseline"]
