"""FreeSOLO, a network that proposes masks without having seen a label (Wang et al., CVPR 2022)."""

from gl_ris.proposals.freesolo.generator import FreeSOLO

__all__ = ["FreeSOLO"]
