"""Mask proposals: what a method chooses from."""

import inspect

from gl_ris.errors import UserError, unknown_name
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.coco_results import COCOResults, write_coco_results
from gl_ris.proposals.detectron2 import CutLER, Detectron2
from gl_ris.proposals.freesolo import FreeSOLO
from gl_ris.proposals.post import PostProcessing
from gl_ris.proposals.sam import SAM
from gl_ris.proposals.store import ProposalStore
from gl_ris.proposals.superpixels import SLIC, Felzenszwalb

__all__ = [
    "GENERATORS",
    "SAM",
    "SLIC",
    "COCOResults",
    "CutLER",
    "Detectron2",
    "Felzenszwalb",
    "FreeSOLO",
    "PostProcessing",
    "ProposalGenerator",
    "ProposalStore",
    "Proposals",
    "find_generator",
    "write_coco_results",
]

GENERATORS: dict[str, type[ProposalGenerator]] = {
    kind.name: kind for kind in (Felzenszwalb, SLIC, FreeSOLO, CutLER, SAM, COCOResults)
}
"""Generators by name."""


def find_generator(name: str) -> ProposalGenerator:
    """Return the generator called ``name``, with its default settings.

    Raises:
        UserError: If there is none of that name, or it cannot do without settings.
    """
    if name not in GENERATORS:
        raise unknown_name("proposal generator", name, GENERATORS)
    generator = GENERATORS[name]
    arguments = inspect.signature(generator).parameters.values()
    if needed := [argument.name for argument in arguments if argument.default is argument.empty]:
        raise UserError(
            f"The proposal generator '{name}' cannot be made by its name alone, it needs: "
            f"{', '.join(needed)}. Give gl_ris.proposals.{generator.__name__}(...), or on the command line "
            f"proposals={name} model.proposals.init_args.{needed[0]}=..."
        )
    return generator()
