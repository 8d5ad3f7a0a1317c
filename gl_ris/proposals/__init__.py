"""Mask proposals: what a method chooses from."""

from __future__ import annotations

from gl_ris.errors import unknown_name
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.cutler import CutLER
from gl_ris.proposals.detectron2 import Detectron2
from gl_ris.proposals.felzenszwalb import Felzenszwalb
from gl_ris.proposals.freesolo import FreeSOLO

__all__ = [
    "GENERATORS",
    "CutLER",
    "Detectron2",
    "Felzenszwalb",
    "FreeSOLO",
    "ProposalGenerator",
    "Proposals",
    "find_generator",
]

GENERATORS: dict[str, type[ProposalGenerator]] = {
    Felzenszwalb.name: Felzenszwalb,
    FreeSOLO.name: FreeSOLO,
    CutLER.name: CutLER,
}
"""Generators by name."""


def find_generator(name: str) -> ProposalGenerator:
    """Return the generator called ``name``, with its default settings.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in GENERATORS:
        raise unknown_name("proposal generator", name, GENERATORS)
    return GENERATORS[name]()
