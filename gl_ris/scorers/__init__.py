"""Scoring methods, one per file; `load_scorer` finds them by name."""

from gl_ris.scorers.base import Scorer, available_scorers, cosine, load_scorer

__all__ = ["Scorer", "available_scorers", "cosine", "load_scorer"]
