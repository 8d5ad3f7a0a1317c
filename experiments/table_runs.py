"""The runs of a table: one of ``experiments.zero_shot`` for each data set and split, each in its own process.

A process of its own is what lets a run have processes of its own (``--trainer.devices=2``), and what leaves a
finished run whole when a later one fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.command import ROOT
from experiments.finished_results import check_methods, read_results
from experiments.zero_shot import COMMAND as ZERO_SHOT
from gl_ris.errors import EvaluationError, UserError

# Settings that cannot change a figure, however different they are.
_INDIFFERENT = {
    "wandb": None,
    "trainer": ("devices", "num_nodes", "strategy", "enable_progress_bar"),
    "model": ("store",),
}
PATIENCE = 20.0


@dataclass(frozen=True)
class Run:
    """One run of a table, its settings checked.

    Attributes:
        label: For messages: data set and split.
        name: Of its folder.
        arguments: For ``experiments.zero_shot``.
        settings: All settings that they lead to.
        done: The results that are there already, of the same settings; None if it must be run.
    """

    label: str
    name: str
    arguments: Sequence[str]
    settings: Mapping[str, Any]
    done: Mapping[str, Any] | None = None


def plan(described: Sequence[tuple[str, list[str]]], folder: Path | None, overwrite: bool) -> list[Run]:
    """Check everything that the runs of a table need, before any of them is started.

    Args:
        described: Label and arguments of each run.
        folder: The table's folder if it is known; what is finished in it is not run again.
        overwrite: Run everything anew.

    Raises:
        UserError: A setting, file or model is wrong, two runs are the same, or a finished one in the folder
            had other settings.
    """
    from experiments.cli import parts_of
    from gl_ris.zero_shot import ZeroShotRIS

    runs: list[Run] = []
    checked_models = False
    for label, arguments in described:
        cli = parts_of(ZERO_SHOT, ZeroShotRIS, list(arguments))
        data, settings = cli.datamodule, cli.settings()
        name = f"{data.dataset_name}-{data.partition}-{data.split}".replace(os.sep, "_")
        if name in [run.name for run in runs]:
            raise UserError(f"The table has {label} twice ({name}); name each data set and split once.")
        done = None if folder is None or overwrite else _finished(folder / name, settings)
        if done is None:
            from experiments.evaluate import check

            check(cli, models=not checked_models)
            checked_models = True
        runs.append(Run(label, name, arguments, settings, done))
    return runs


def perform(run: Run, folder: Path) -> Mapping[str, Any]:
    """Run it into its folder, unless it is done, and return its results.

    Raises:
        UserError: It ended with code 2, having said why.
        EvaluationError: It failed.
    """
    path = folder / run.name
    if run.done is not None:
        print(f"{run.label}: finished on {run.done['created']}, kept as it is in {path}", flush=True)
        return run.done
    print(f"{run.label}:", flush=True)
    arguments = [*run.arguments, f"run_dir={path}", "overwrite=true"]
    code = wait_for([sys.executable, "-m", "experiments.zero_shot", *arguments])
    if code:
        kind = UserError if code == 2 else EvaluationError
        raise kind(
            f"{run.label} was not evaluated, see above. What is finished is in '{folder}'; the same command "
            f"with run_dir={folder} goes on from there."
        )
    return read_results(path / "results.json")


def _finished(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the results in a folder; None if there are none.

    Raises:
        UserError: They are damaged, or of other settings.
    """
    if not (path / "results.json").is_file():
        return None
    from gl_ris.files import plain

    found = read_results(path / "results.json")
    difference = first_difference(_essence(found["config"]), _essence(plain(settings)))
    if difference:
        raise UserError(
            f"The finished run in '{path}' had other settings ({difference}); name another run_dir, or run "
            "everything anew by overwrite=true."
        )
    titles = [variant["title"] for variant in settings["model"]["methods"]]
    check_methods(found, titles, path / "results.json")
    return found


def _essence(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what cannot change a figure."""
    kept = {name: value for name, value in settings.items() if _INDIFFERENT.get(name, ()) is not None}
    for name, without in _INDIFFERENT.items():
        if without and isinstance(kept.get(name), Mapping):
            kept[name] = {key: value for key, value in kept[name].items() if key not in without}
    return kept


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


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Let SIGTERM raise inside the block, in place of leaving at once and the child alone."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def wait_for(command: Sequence[str]) -> int:
    """Run a command to its end and return its exit code; what ends this process ends it and its children."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with _termination_raises(), subprocess.Popen(command, env=environment, process_group=0) as process:
        try:
            return process.wait()
        except BaseException:
            # First the chance to clean up, then the end, also of processes that it may have left.
            process.send_signal(signal.SIGINT)
            with suppress(BaseException):
                process.wait(PATIENCE)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
