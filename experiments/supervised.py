"""A supervised baseline, trained on few refs or all and evaluated: ``python -m experiments.supervised``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Command, run

if TYPE_CHECKING:
    from experiments.run.training import SupervisedCLI

COMMAND = Command.documented("supervised")


def parts(arguments: list[str] | None = None) -> SupervisedCLI:
    """Make the parts that a command line describes, by default that of the process."""
    from experiments.run.training import supervised_parts

    return supervised_parts(COMMAND, arguments)


def main() -> None:
    """Train unless there are weights, and evaluate."""
    from experiments.run.evaluate import Recorder, evaluate
    from experiments.run.training import Unfinished

    cli = parts()

    def before(folder: Path | None) -> None:
        if cli.training is None:
            return
        if cli.trained is not None:
            cli.training.take(cli.trained)
            return
        if folder is not None:
            went_on = "" if cli.checkpoint is None else f", going on from {cli.checkpoint}"
            print(f"{cli.training.summary()}{went_on}", flush=True)
        cli.training.run(None if folder is None else Unfinished(folder), cli.checkpoint)

    record = None if cli.training is None else cli.training.record
    evaluate(cli, Recorder(cli, record), before)


if __name__ == "__main__":
    run(COMMAND, main)
