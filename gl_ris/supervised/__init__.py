"""The supervised baselines, which the zero-shot method is compared with."""

from gl_ris.supervised.cris.network import CRIS
from gl_ris.supervised.cris.recipe import CRISBaseline
from gl_ris.supervised.lavt.network import LAVT
from gl_ris.supervised.lavt.recipe import LAVTBaseline

__all__ = ["CRIS", "LAVT", "CRISBaseline", "LAVTBaseline"]
