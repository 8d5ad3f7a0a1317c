"""Classes that have moved, so that the settings of old runs still load."""

from __future__ import annotations

import re
from typing import Any

MOVED: dict[str, str] = {
    "datamodules.hf.benchmark.RefCOCOBenchmark": "datamodules.RefCOCOBenchmark",
    "datamodules.hf.ref_rows.RefCOCORows": "datamodules.RefCOCORows",
    "datamodules.hf.refcoco_m.RefCOCOM": "datamodules.RefCOCOM",
    "gl_ris.proposals.cutler.CutLER": "gl_ris.proposals.CutLER",
    "gl_ris.proposals.felzenszwalb.Felzenszwalb": "gl_ris.proposals.Felzenszwalb",
    "gl_ris.proposals.freesolo.generator.FreeSOLO": "gl_ris.proposals.FreeSOLO",
    "gl_ris.proposals.slic.SLIC": "gl_ris.proposals.SLIC",
    "gl_ris.scorers.cropping.Cropping": "gl_ris.scorers.global_local.Cropping",
    "gl_ris.scorers.largest.LargestProposal": "gl_ris.scorers.floors.LargestProposal",
    "gl_ris.scorers.random_proposal.RandomProposal": "gl_ris.scorers.floors.RandomProposal",
    "gl_ris.supervised.baselines.CRISBaseline": "gl_ris.supervised.CRISBaseline",
    "gl_ris.supervised.baselines.LAVTBaseline": "gl_ris.supervised.LAVTBaseline",
    "gl_ris.supervised.baselines.TSEGBaseline": "gl_ris.supervised.TSEGBaseline",
    "gl_ris.supervised.cris.CRISBaseline": "gl_ris.supervised.CRISBaseline",
    "gl_ris.supervised.lavt.LAVTBaseline": "gl_ris.supervised.LAVTBaseline",
}
"""The full path of a class as it was, and as it is now."""

# A dotted name that is no part of a longer one, nor of the path of a file.
_NAME = re.compile(r"(?<![\w./-])[A-Za-z_]\w*(?:\.\w+)+(?![\w./-])")


def current_paths(value: Any) -> Any:
    """Write the present paths of classes for those of before.

    Args:
        value: Text such as a word of a command line, or a list or dictionary of values; others stay the same.

    Example:
        >>> MOVED["old.place.Mine"] = "new.Mine"
        >>> current_paths({"class_path": "old.place.Mine", "methods": ["cropping", "old.place.Mine"]})
        {'class_path': 'new.Mine', 'methods': ['cropping', 'new.Mine']}
        >>> del MOVED["old.place.Mine"]
    """
    if isinstance(value, str):
        return _NAME.sub(lambda name: MOVED.get(name[0], name[0]), value)
    if isinstance(value, list):
        return [current_paths(item) for item in value]
    if isinstance(value, dict):
        return {name: current_paths(item) for name, item in value.items()}
    return value
