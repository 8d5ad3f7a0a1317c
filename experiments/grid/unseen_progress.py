"""Takes in the cells of a comparison on an unseen domain one by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.grid.child_runs import Results, Run
from experiments.grid.fewshot_progress import one_line
from experiments.grid.unseen_settings import UnseenSettings
from experiments.reporting.unseen_report import UnseenCells, report, write_all


class UnseenProgress:
    """Holds what is finished, and writes everything anew after each cell.

    Args:
        folder: Of the comparison.
        spec: What it is made of.
        settings: The same, as plain values.
    """

    def __init__(self, folder: Path, spec: UnseenSettings, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings, self.baselines = folder, settings, spec.names()
        self.results: dict[str, Results] = {}

    def finished(self, run: Run, results: Results, seconds: float | None) -> None:
        """Take in a cell, say what came of it, and write everything anew unless the cell was there before."""
        self.results[run.name] = results
        print(one_line(run.label, results), flush=True)
        if seconds is not None:
            write_all(self.folder, UnseenCells(self.baselines, self.results), self.settings)
            every = 2 * len(self.baselines) + 2
            print(f"{len(self.results):,} of {every:,} cells are finished.", flush=True)

    def report(self) -> str:
        """Write everything, and return the tables."""
        return report(write_all(self.folder, UnseenCells(self.baselines, self.results), self.settings))
