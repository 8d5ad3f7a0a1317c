"""Zero-shot referring image segmentation: ``python -m experiments.zero_shot``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.cli.command import Command, run

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI

COMMAND = Command.documented("zero_shot")


def parts(arguments: list[str] | None = None) -> ExperimentCLI:
    """Make the parts that a command line describes, by default that of the process."""
    from experiments.cli.parts import parts_of
    from gl_ris.zero_shot import ZeroShotRIS

    return parts_of(COMMAND, ZeroShotRIS, arguments)


def main() -> None:
    """Run the experiment that the command line describes."""
    from experiments.run.evaluate import evaluate

    evaluate(parts())


if __name__ == "__main__":
    run(COMMAND, main)
