"""CRIS: the network, and its recipe."""

from __future__ import annotations

from gl_ris.supervised.cris.network import CRIS, CRISSize
from gl_ris.supervised.cris.recipe import CRISBaseline, CRISSegmenter

__all__ = ["CRIS", "CRISBaseline", "CRISSegmenter", "CRISSize"]
