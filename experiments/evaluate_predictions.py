"""Masks of any program, measured as ours are: ``python -m experiments.evaluate_predictions``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.cli.command import Command, run

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI

COMMAND = Command.documented("evaluate_predictions")


def parts(arguments: list[str] | None = None) -> ExperimentCLI:
    """Make the parts that a command line describes, by default that of the process."""
    from experiments.cli.parts import parts_of
    from gl_ris.given_masks import GivenMasks

    return parts_of(COMMAND, GivenMasks, arguments)


def main() -> None:
    """Measure the masks that the command line names."""
    from experiments.run.evaluate import evaluate

    evaluate(parts())


if __name__ == "__main__":
    run(COMMAND, main)
