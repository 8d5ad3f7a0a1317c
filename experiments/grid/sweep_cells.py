"""From the cells of a sweep to its folder: check all, keep what is finished, run the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments.cli.command import Command
from experiments.grid.child_runs import Cell, Crew, Results, Run, plan
from experiments.run.folder import checked_folder, made_folder
from experiments.run.recorder import write_config
from experiments.wandb_log import log_run

GROUP = "WANDB_RUN_GROUP"


@dataclass(frozen=True)
class Place:
    """Where a sweep goes.

    Attributes:
        run_dir: The folder; None makes ``runs/<command>/<time>``.
        overwrite: Whether to run everything anew.
        settings: Of the sweep, for its ``config.yaml``.
    """

    run_dir: str | None
    overwrite: bool
    settings: Mapping[str, Any]


class Progress(Protocol):
    """Takes in the results of cells one by one, and writes what they amount to."""

    def finished(self, run: Run, results: Results, seconds: float | None) -> None:
        """Take in a cell; the seconds are None if it was finished before this session."""

    def report(self) -> str:
        """Write everything, and return what to print about it."""


def carry_out_cells(
    command: Command,
    cells: Sequence[Cell],
    progress: Callable[[Path], Progress],
    place: Place,
    *,
    jobs: int,
    wandb: str,
) -> Path:
    """Run the cells that are not finished yet.

    Args:
        command: The sweep.
        cells: Its cells, in the order in which they are run.
        progress: Makes of the sweep's folder what takes in the results.
        place: Where everything goes.
        jobs: How many cells side by side.
        wandb: Mode; the sweep is a group of runs, itself one of them.

    Returns:
        The folder.

    Raises:
        UserError: A setting, file or model is wrong; nothing has been run then, or a cell has said so.
        EvaluationError: A cell failed; what was finished before stays.
    """
    given = None if place.run_dir is None else checked_folder(command, place.run_dir, place.overwrite)
    print(f"Checking {len(cells):,} cells ...", flush=True)
    runs = plan(cells, given, place.overwrite)
    folder = made_folder(command, given)
    write_config(folder / "config.yaml", dict(place.settings), command.program)
    kept = sum(run.done is not None for run in runs)
    print(f"{len(runs):,} cells: {kept:,} kept, {len(runs) - kept:,} to run, in {folder}", flush=True)
    taking_in = progress(folder)
    group = os.environ.get(GROUP) or folder.resolve().name
    Crew(folder, jobs, {GROUP: group}).perform(runs, taking_in.finished)
    print(f"\n{taking_in.report()}\n\nRun folder   {folder}", flush=True)
    log_run(folder, wandb, group)
    return folder
