"""Where classes went that old settings, checkpoints and scripts name by the module they once lived in."""

from __future__ import annotations

MOVED: dict[str, str] = {
    "gl_ris.proposals.cutler.CutLER": "gl_ris.proposals.CutLER",
    "gl_ris.proposals.felzenszwalb.Felzenszwalb": "gl_ris.proposals.Felzenszwalb",
    "gl_ris.proposals.freesolo.generator.FreeSOLO": "gl_ris.proposals.FreeSOLO",
    "gl_ris.proposals.slic.SLIC": "gl_ris.proposals.SLIC",
}
"""Full path of before -> path of now."""
