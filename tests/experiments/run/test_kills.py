"""Runs that are killed at random moments and resumed give, byte for byte, what an undisturbed one gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from killed_runs import kill_and_resume

LINE = [
    "zero_shot",
    "data=refshapes",
    "limit=16",
    "methods=[largest,random]",
    "proposals=felzenszwalb",
    "proposals.scale=6000",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
]


@pytest.mark.ddp
@pytest.mark.usefixtures("drawn_refshapes")
@pytest.mark.parametrize(
    ("processes", "kills"),
    [pytest.param([1], 3, id="one"), pytest.param([1, 2], 3, id="two")],
)
@pytest.mark.slow
def test_killed_runs_come_out_as_undisturbed_ones(
    processes: Sequence[int], kills: int, tmp_path: Path
) -> None:
    kill_and_resume(LINE, tmp_path / "runs", processes, kills, seed=7)


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("drawn_refshapes")
def test_two_hundred_kills_lose_double_and_change_nothing(tmp_path: Path) -> None:
    assert kill_and_resume(LINE, tmp_path / "runs", [1, 2], 200, seed=8) > 20
