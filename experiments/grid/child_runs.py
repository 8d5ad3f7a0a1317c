"""Runs of other commands, each in its own process: those of a table, the cells of a sweep.

A process of its own is what lets a run have processes of its own (``--trainer.devices=2``), and what leaves a
finished run whole when a later one fails.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.grid.machine import shares
from experiments.grid.processes import Pool, pool
from experiments.grid.programs import ZERO_SHOT, Program
from experiments.reporting.finished_results import read_results
from experiments.run.unfinished import FOLDER as UNFINISHED
from gl_ris.errors import EvaluationError, UserError

LOG = "log.txt"
RESULTS, WEIGHTS = "results.json", "weights.pt"
_TAIL = 12

Results = Mapping[str, Any]
Finished = Callable[["Run", Results, float | None], None]


@dataclass(frozen=True)
class Cell:
    """A run as it is wanted.

    Attributes:
        label: For messages.
        arguments: For its command.
        name: Of its folder; None names it by data set, partition and split.
        program: Its command.
        models: Names its models: of cells with the same ones, the first is checked with them.
        after: Name of an earlier cell whose ``weights.pt`` it evaluates; what cannot be checked beforehand.
    """

    label: str
    arguments: list[str]
    name: str | None = None
    program: Program = ZERO_SHOT
    models: str = ""
    after: str | None = None


@dataclass(frozen=True)
class Run:
    """A run, its settings checked.

    Attributes:
        label: For messages.
        name: Of its folder.
        program: Its command.
        arguments: For its command.
        settings: All settings that they lead to.
        done: The results that are there already, of the same settings; None if it must be run.
        after: Name of the run whose weights it evaluates.
        anew: Whether it begins anew even where a training that was cut off could go on.
    """

    label: str
    name: str
    program: Program
    arguments: Sequence[str]
    settings: Mapping[str, Any]
    done: Results | None = None
    after: str | None = None
    anew: bool = False

    def command(self, folder: Path) -> list[str]:
        """Return what to start; a training in its folder that was cut off goes on."""
        weights = [] if self.after is None else [f"weights={folder / self.after / WEIGHTS}"]
        own = [*self.arguments, *weights, f"run_dir={folder / self.name}", "overwrite=true"]
        return [sys.executable, "-m", self.program.module, *own]


def plan(cells: Sequence[Cell], folder: Path | None, overwrite: bool) -> list[Run]:
    """Check everything that runs need, before any of them is started.

    Args:
        cells: The runs.
        folder: Their folder if it is known; what is finished in it is not run again.
        overwrite: Run everything anew.

    Raises:
        UserError: A setting, file or model is wrong, two runs are the same, or a finished one in the folder
            had other settings.
    """
    runs: list[Run] = []
    checked: set[str] = set()
    for cell in cells:
        cli = cell.program.parts(list(cell.arguments))
        name = cell.name or _name_of(cli.datamodule)
        if name in [run.name for run in runs]:
            raise UserError(f"{cell.label} is there twice ({name}); name each data set and split once.")
        settings = cli.settings()
        done = None
        # New weights make what was found with the old ones worthless.
        stale = any(run.name == cell.after and run.done is None for run in runs)
        if folder is not None and not overwrite and not stale:
            done = _finished(folder / name, cell, settings)
        if done is None and cell.after is None:
            cell.program.check(cli, models=cell.models not in checked)
            checked.add(cell.models)
        runs.append(
            Run(cell.label, name, cell.program, cell.arguments, settings, done, cell.after, overwrite)
        )
    return runs


def _name_of(data: Any) -> str:
    return f"{data.dataset_name}-{data.partition}-{data.split}".replace(os.sep, "_")


@dataclass
class Crew:
    """Carries out runs, so many at once, in their order.

    Args:
        folder: For the folders of the runs.
        at_once: How many side by side; the output of several goes to ``log.txt`` in the folder of each.
        environment: Variables for all of them.
    """

    folder: Path
    at_once: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def perform(self, runs: Sequence[Run], finished: Finished) -> None:
        """Carry out the runs that are not done, and hand over the results of every one, the done ones first.

        Args:
            runs: The runs.
            finished: Called with a run, its results, and the seconds it took, None if it was done before.

        Raises:
            UserError: One ended with code 2, having said why; the others are ended.
            EvaluationError: One failed; the others are ended.
        """
        for run in runs:
            if run.done is not None:
                path = self.folder / run.name
                print(f"{run.label}: finished on {run.done['created']}, kept as it is in {path}", flush=True)
                finished(run, run.done, None)
        waiting = [run for run in runs if run.done is None]
        for run in waiting:
            # What is to be made anew must not be taken for finished if that is cut off.
            (self.folder / run.name / RESULTS).unlink(missing_ok=True)
        with pool() as processes:
            self._work(waiting, processes, finished)

    def _work(self, waiting: list[Run], processes: Pool, finished: Finished) -> None:
        slots = shares(self.at_once)
        began: dict[str, tuple[Run, dict[str, str], float]] = {}
        while waiting or began:
            for run in _ready(waiting, began)[: len(slots)]:
                waiting.remove(run)
                began[run.name] = (run, slots.pop(0), time.monotonic())
                self._start(run, processes, began[run.name][1])
            name, code = processes.next_ended()
            run, slot, start = began.pop(name)
            if code:
                raise self._failure(run, code)
            slots.append(slot)
            seconds = time.monotonic() - start
            if self.at_once > 1:
                print(f"{run.label}: ended after {seconds:,.0f} s", flush=True)
            finished(run, read_results(self.folder / run.name / RESULTS), seconds)

    def _start(self, run: Run, processes: Pool, slot: Mapping[str, str]) -> None:
        log = self.folder / run.name / LOG if self.at_once > 1 else None
        print(f"{run.label}:" if log is None else f"{run.label}: begins, its output is in {log}", flush=True)
        # A bar that is drawn over and over would fill a file.
        bar = [] if log is None else ["trainer.enable_progress_bar=false"]
        if run.anew:
            shutil.rmtree(self.folder / run.name / UNFINISHED, ignore_errors=True)
        command = [*run.command(self.folder), *bar]
        processes.start(run.name, command, log, {**self.environment, **slot})

    def _failure(self, run: Run, code: int) -> Exception:
        """Build the error for a run that ended with a code other than 0."""
        log = self.folder / run.name / LOG
        if self.at_once > 1 and log.is_file():
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
            print(f"The end of {log}:", *lines, sep="\n", file=sys.stderr, flush=True)
        kind = UserError if code == 2 else EvaluationError
        return kind(
            f"{run.label} was not evaluated, see above. What is finished is in '{self.folder}'; the same "
            f"command with run_dir={self.folder} goes on from there."
        )


def _ready(waiting: Sequence[Run], began: Mapping[str, Any]) -> list[Run]:
    """Return the runs that wait for no other."""
    open_names = {*began, *(run.name for run in waiting)}
    return [run for run in waiting if run.after not in open_names]


def _finished(path: Path, cell: Cell, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the results in a folder; None if there are none.

    Raises:
        UserError: They are damaged, or of other settings.
    """
    if not (path / RESULTS).is_file():
        return None
    from gl_ris.files import plain

    found = read_results(path / RESULTS)
    before, now = (cell.program.essence(one) for one in (found["config"], plain(settings)))
    if cell.after is not None:
        # The file is that of the other run, wherever the folder was then.
        before, now = _without_weights(before), _without_weights(now)
    difference = first_difference(before, now)
    if difference:
        raise UserError(
            f"The finished run in '{path}' had other settings ({difference}); name another run_dir, or run "
            "everything anew by overwrite=true."
        )
    cell.program.complete(found, settings, path / RESULTS)
    return found


def _without_weights(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "model": {**settings["model"], "weights": None}}


def first_difference(before: Any, now: Any, name: str = "") -> str:
    """Name the first setting that differs, with both values; empty if there is none.

    Example:
        >>> first_difference({"model": {"alpha": 0.5}}, {"model": {"alpha": 0.9}})
        'model.alpha was 0.5 and is 0.9'
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        found = (
            first_difference(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
            for key in dict.fromkeys([*before, *now])
        )
        return next(filter(None, found), "")
    return "" if before == now else f"{name} was {_short(before)} and is {_short(now)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
