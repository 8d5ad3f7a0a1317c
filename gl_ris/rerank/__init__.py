"""Ranking masks anew by what an expression says of where they are; `Reranked` lets it follow any scorer."""

from gl_ris.rerank.base import NONE, Reranker, check_reranking, load_reranker
from gl_ris.rerank.geometry import Regions
from gl_ris.rerank.reranked import Reranked, reranked

__all__ = ["NONE", "Regions", "Reranked", "Reranker", "check_reranking", "load_reranker", "reranked"]
