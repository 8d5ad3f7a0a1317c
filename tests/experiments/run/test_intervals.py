"""Intervals from what was counted of each image."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments.run.folder import PROGRESS
from experiments.run.intervals import Counted
from gl_ris.files import to_json
from gl_ris.tally import Tally


def test_expressions_that_all_mean_nothing_have_intervals_of_their_figures(tmp_path: Path) -> None:
    flags = [[True, True], [True, False, False], [False], [True]]  # by image, whether nothing was predicted
    lines, none = [], torch.zeros(0, dtype=torch.bool)
    for index, own in enumerate(flags):
        tally, n = Tally(["A"]), len(own)
        areas = torch.tensor([[0 if flag else 7 for flag in own], [0] * n])
        tally.add_scene(
            torch.zeros_like(areas),
            areas,
            [[None] * n],
            abstained=[{place for place, flag in enumerate(own) if flag}],
            targeted=none.new_zeros(n),
            absent=none.new_ones(n),
        )
        lines.append(to_json({"index": index, "tally": tally.last}) + b"\n")
    (tmp_path / PROGRESS).mkdir()
    (tmp_path / PROGRESS / "rank0.jsonl").write_bytes(b"".join(lines))
    found = Counted(tmp_path, SimpleNamespace(methods=["A"], bounded=True), [1, 2, 3, 4]).intervals()
    # a plain loop over resamples
    values = []
    for draw in np.random.default_rng(0).integers(0, 4, (5000, 4)):
        drawn = [flag for place in draw for flag in flags[place]]
        values.append(100 * sum(drawn) / len(drawn))
    expected = tuple(np.percentile(values, [2.5, 97.5]))
    assert list(found) == ["A"]
    assert found["A"]["gIoU"] == found["A"]["N_acc"] == pytest.approx(expected)
    assert set(found["A"]) == {"gIoU", "cIoU", "N_acc"}
