"""Every reader that is tried."""

from __future__ import annotations

from fuzz import annotations, outlines
from fuzz.runner import Target

TARGETS = {
    target.name: target
    for target in (
        Target("rle", outlines.run_lengths, 0.3),
        Target("polygons", outlines.polygons, 0.3),
        Target("refer", annotations.refer, 2),
        Target("phrasecut", annotations.phrasecut, 2),
    )
}
