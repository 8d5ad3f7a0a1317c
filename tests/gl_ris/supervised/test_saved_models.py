"""Models that were saved before the code moved: their weights still find every name, in the same order."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from gl_ris.supervised.segmenter import Baseline

CONFIGS = Path(__file__).parents[3] / "configs" / "baseline"


@pytest.mark.parametrize(
    ("name", "count", "digest"),
    [
        ("cris-tiny", 350, "fdb1cf50b5b4bd73"),
        ("lavt-tiny", 225, "6423fc2de9b7187f"),
    ],
)
def test_names_and_shapes_are_those_of_weights_of_before(name: str, count: int, digest: str) -> None:
    # digests are of the weights.pt of runs of the commit 1ad3024
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--baseline", type=Baseline)
    options = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["baseline"]
    made = parser.instantiate_classes(parser.parse_object({"baseline": options})).baseline.make()
    lines = [f"{key} {tuple(value.shape)}" for key, value in made.state_dict().items()]
    assert (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]) == (count, digest)
