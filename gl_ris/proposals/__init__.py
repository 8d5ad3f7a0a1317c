"""Mask proposals: what a method chooses from."""

from __future__ import annotations

from gl_ris.errors import unknown_name
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.felzenszwalb import Felzenszwalb
from gl_ris.proposals.post import PostProcessing
from gl_ris.proposals.slic import SLIC
from gl_ris.proposals.store import ProposalStore

__all__ = [
    "GENERATORS",
    "SLIC",
    "Felzenszwalb",
    "PostProcessing",
    "ProposalGenerator",
    "ProposalStore",
    "Proposals",
    "find_generator",
]

GENERATORS: dict[str, type[ProposalGenerator]] = {cls.name: cls for cls in (Felzenszwalb, SLIC)}
"""Generators by name."""


def find_generator(name: str) -> ProposalGenerator:
    """Return the generator called ``name``, with its default settings.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in GENERATORS:
        raise unknown_name("proposal generator", name, GENERATORS)
    return GENERATORS[name]()
