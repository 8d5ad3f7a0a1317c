"""Takes in the cells of a few-shot comparison one by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.grid.child_runs import Results, Run
from experiments.grid.fewshot_settings import FewShotSettings
from experiments.grid.time_left import Spent, duration, refs_of, seconds_left, spent_on, steps_of
from experiments.reporting.fewshot_report import FewShotCells, Shot, read_available, report, write_all
from experiments.reporting.frame import number


class FewShotProgress:
    """Holds what is finished, and writes everything anew after each cell.

    Args:
        folder: Of the comparison.
        spec: What it is made of.
        settings: The same, as plain values.
    """

    def __init__(self, folder: Path, spec: FewShotSettings, settings: Mapping[str, Any]) -> None:
        self.folder, self.spec, self.settings = folder, spec, settings
        self.shots = {shot.name: shot for shot in spec.shots()}
        self.results: dict[str, Results] = {}
        self.available: list[int] = []
        self.spent: list[Spent] = []
        self.cells: dict[str, Mapping[str, Any]] = {}

    def finished(self, run: Run, results: Results, seconds: float | None) -> None:
        """Take in a cell, say what came of it, and write everything anew unless the cell was there before."""
        self.results[run.name] = results
        if run.name in self.shots:
            self.available = self.available or read_available(self.folder / run.name)
            trained, rest = spent_on(results, seconds)
            baseline = self.shots[run.name].baseline
            self.spent.append(Spent(baseline, results["training"]["steps"], trained, rest))
            self.cells[baseline] = results["config"]
        print(one_line(run.label, results), flush=True)
        if seconds is not None:
            write_all(self.folder, self._finished_cells(), self.settings)
            print(self._left(), flush=True)

    def report(self) -> str:
        """Write everything, and return the table and the sentences about crossings."""
        return report(write_all(self.folder, self._finished_cells(), self.settings))

    def _finished_cells(self) -> FewShotCells:
        return FewShotCells(list(self.shots.values()), self.results, self.available)

    def _left(self) -> str:
        every = len(self.shots) + 1
        left = [shot for name, shot in self.shots.items() if name not in self.results]
        told = f"{len(self.results):,} of {every:,} cells are finished"
        todo = [(shot.baseline, self._steps(shot)) for shot in left] if self.cells else []
        seconds = seconds_left(self.spent, todo, self.spec.jobs) if left else None
        return f"{told}." if seconds is None else f"{told}; about {duration(seconds)} left (an estimate)."

    def _steps(self, shot: Shot) -> int:
        """Return the steps of a cell; while no cell of its model is finished, as if it were another's."""
        known = self.cells.get(shot.baseline) or next(iter(self.cells.values()))
        return steps_of(known, refs_of(shot.k, self.available))


def one_line(label: str, results: Results) -> str:
    """Say in a line what came of a cell."""
    figures = "; ".join(
        f"{method}: oIoU {number(row['oIoU'])}, mIoU {number(row['mIoU'])}"
        for method, row in results["methods"].items()
    )
    training = results.get("training")
    learnt = f" ({training['n_refs']:,} refs, {training['seconds']:,.0f} s of training)" if training else ""
    return f"{label}: {figures}{learnt}"
