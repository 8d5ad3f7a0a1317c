"""The supervised baselines, which the zero-shot method is compared with."""

from __future__ import annotations

from gl_ris.supervised.cris import CRIS
from gl_ris.supervised.lavt import LAVT

__all__ = ["CRIS", "LAVT"]
