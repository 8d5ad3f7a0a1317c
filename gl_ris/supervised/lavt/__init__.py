"""LAVT: the network, and its recipe."""

from __future__ import annotations

from gl_ris.supervised.lavt.network import LAVT, LAVTSize
from gl_ris.supervised.lavt.recipe import LAVTBaseline, LAVTSegmenter

__all__ = ["LAVT", "LAVTBaseline", "LAVTSegmenter", "LAVTSize"]
