"""Judge stored proposals by themselves: ``python -m experiments.proposals report``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Command, run

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI

COMMAND = Command(
    name="proposal_report",
    spelling="proposals report",
    summary=(
        "How good the stored proposals of a split are by themselves, for every generator: the best choice "
        "possible (upper bound), recall against how many proposals are kept, by size of object, how many "
        "there are, and on how many images there is none; by league, since only generators that have learnt "
        "from the same are to be compared. Writes report.md, report.csv, report.json, curve.csv and "
        "curve.png. Generates nothing."
    ),
    examples=(
        ("", "everything that is stored for RefShapes val"),
        ("data=refshapes+ split=testA", "another split"),
        ("post.nms=0.5 post.min_area=100", "after post-processing, the same for all"),
        ("--trainer.devices=2", "on two processes"),
    ),
    shorthand={
        "limit": "data.limit",
        "post": "model.post",
        "split": "data.split",
        "store": "model.store",
    },
    groups=("data",),
    explained=(
        ("model", "experiments.run.measuring:ProposalReport"),
        ("model.post", "gl_ris.proposals.post:PostProcessing"),
        ("data", "datamodules:RefShapes"),
    ),
)


def report(cli: ExperimentCLI) -> Path | None:
    """Measure what is stored, and leave table and curves in the run folder.

    Args:
        cli: The parts, the module a `experiments.run.measuring.ProposalReport`.

    Returns:
        The run folder, in rank 0; None in other processes.

    Raises:
        UserError: A setting or file is wrong, or nothing is stored.
        EvaluationError: What is stored belongs to other images.
    """
    from experiments.reporting.report_files import write_report
    from experiments.run.evaluate import carry_out

    def show(folder: Path) -> None:
        text = write_report(folder, cli.model, cli.datamodule, cli.settings())
        print(f"\n{text}\nCurve        {folder / 'curve.png'}\nRun folder   {folder}")

    return carry_out(cli, None, show)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the report that the command line describes.

    Args:
        arguments: The command line; by default that of the process.
    """
    import datamodules.known  # noqa: F401  so that data.class_path takes short names
    from datamodules.base import RISDataModule
    from experiments.cli.parts import ExperimentCLI
    from experiments.run.measuring import ProposalReport

    given = sys.argv[1:] if arguments is None else arguments
    report(ExperimentCLI(COMMAND, ProposalReport, RISDataModule, args=list(given)))


if __name__ == "__main__":
    run(COMMAND, main)
