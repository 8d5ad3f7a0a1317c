"""From the parts of an experiment to a finished run folder."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities import rank_zero_only

from experiments.cli.parts import ExperimentCLI
from experiments.run.folder import RunFolder
from experiments.run.pictures import draw_overlays
from experiments.run.recorder import Recorder, write_config
from experiments.wandb_log import log_run
from gl_ris.errors import UserError
from gl_ris.results import format_table

Before = Callable[[Path | None], None]


def evaluate(
    cli: ExperimentCLI, recorder: Recorder | None = None, before: Before | None = None
) -> Path | None:
    """Evaluate, and leave everything in the run folder; arguments and errors are those of `carry_out`.

    When the evaluation is written, it is finished: pictures and wandb follow, and cannot undo it.

    Args:
        cli: The parts.
        recorder: By default a plain one.
        before: What comes before the evaluation.

    Returns:
        The run folder, in rank 0; None in other processes.
    """
    writes = recorder or Recorder(cli.command.name, cli.settings())

    def report(folder: Path) -> None:
        assert writes.results is not None
        print(f"\n{format_table(writes.results)}\n\nRun folder   {folder}")
        draw_overlays(folder, cli.datamodule)

    return carry_out(cli, writes, report, before)


def carry_out(
    cli: ExperimentCLI, recorder: Any, report: Callable[[Path], None], before: Before | None = None
) -> Path | None:
    """Run a module that measures over its data, report, and hand the run over to wandb.

    All checks come before any work, and the run folder comes after the checks.

    Args:
        cli: The parts, the module a `gl_ris.evaluator.Evaluator`.
        recorder: The callback that writes into the run folder, its ``path`` (None but in rank 0); None for a
            module whose outcome is written by ``report``.
        report: Prints what the run folder holds, and adds what is made of it, in rank 0.
        before: What is to be done in every process before the evaluation, when the checks have passed; it is
            given the run folder (None but in rank 0).

    Returns:
        The run folder, in rank 0; None in other processes.

    Raises:
        UserError: A setting, file or model is wrong.
        EvaluationError: The figures would mean nothing.
    """
    path = _predict(cli, recorder, before)
    if path is not None:
        report(path)
        log_run(path, cli.config.wandb)
    return path


def _predict(cli: ExperimentCLI, recorder: Any, before: Before | None) -> Path | None:
    trainer = cast("Any", cli.trainer)
    main = getattr(rank_zero_only, "rank", 0) == 0
    folder = RunFolder(cli.command.name, cli.config.run_dir, cli.config.overwrite) if main else None
    with _cleaned_up(cli.trainer, folder):
        if folder is not None:
            check(cli)
            announce(cli)
            write_config(folder.create() / "config.yaml", cli.settings(), cli.command.program)
        path = None if folder is None else folder.path
        if before is not None:
            before(path)
        if recorder is not None:
            recorder.path = path
            trainer.callbacks.append(recorder)
        trainer.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)
    return path


def check(cli: ExperimentCLI, *, models: bool = True) -> None:
    """Check all that can be checked before any work: models, files, and whether they fit together.

    Args:
        cli: The parts of a run.
        models: False leaves out the models, for runs of which one with the same models was checked.

    Raises:
        UserError: Something is missing or does not fit.
    """
    model = cast("Any", cli.model)
    cast("Any", cli.datamodule).require_files()  # before weights are fetched for nothing
    cli.check()
    if models:
        model.configure_model()
    cli.datamodule.prepare_data()
    cli.datamodule.setup("predict")
    model.check(cli.datamodule, cli.trainer)
    if hasattr(model, "recipe"):
        check_targets(model.recipe.target_overlap, cli.datamodule)


def announce(cli: ExperimentCLI) -> None:
    """Say how many proposals are stored and how many have to be made, if any have.

    Raises:
        UserError: The store is damaged.
    """
    from gl_ris.proposals.source import describe_stored

    source = cast("Any", cli.model).open_source(cli.datamodule)
    if source is not None:
        print(describe_stored(source, set(cast("Any", cli.datamodule).image_ids())), flush=True)


def check_targets(wanted: str, data: Any) -> None:
    """Check that ``data`` make targets of polygons in the way that the recipe wants.

    Args:
        wanted: ``target_overlap`` of the recipe.
        data: A data module; one without an option ``overlap`` has no targets for which it matters.

    Raises:
        UserError: They do not.
    """
    if "overlap" in inspect.signature(type(data)).parameters and data.rule != wanted:
        raise UserError(
            f"The recipe's target_overlap is '{wanted}', but the data make targets by '{data.rule}'; "
            f"set data.overlap={wanted}."
        )


@contextmanager
def _cleaned_up(trainer: Trainer, folder: RunFolder | None) -> Iterator[None]:
    """If the work inside fails, end the processes that were started for it, and leave no empty run folder."""
    try:
        yield
    except BaseException:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGKILL)
        if folder is not None and not folder.discard_if_empty():
            print(f"The run was cut off; what it wrote is in {folder.path}.", file=sys.stderr)
        raise
