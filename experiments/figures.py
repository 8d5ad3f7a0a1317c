"""Figures 5, 6 and 7 of the paper, heat maps and misses: ``python -m experiments.figures figure=5``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments.cli.command import CONFIGS, Command, run
from experiments.cli.overrides import normalise

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI
    from experiments.reporting.figures_report import FigureReport

COMMAND = Command.documented("figures")


def parts(arguments: list[str] | None = None) -> ExperimentCLI:
    """Make the parts that a command line describes; the settings of a finished ``run`` go before it."""
    from experiments.cli.parts import parts_of
    from experiments.run.figure_items import Figures

    words = sys.argv[1:] if arguments is None else arguments
    given = (token.partition("=") for token in normalise(words, {}, {}, CONFIGS))
    runs = [value for name, _, value in given if name in ("--run", "--model.run")]
    cli = parts_of(
        COMMAND, Figures, [*(f"--config={Path(run) / 'config.yaml'}" for run in runs[-1:]), *words]
    )
    model, data = cast("Any", cli.model), cast("Any", cli.datamodule)
    if model.chooses_first:
        data.narrow = model.narrow
    return cli


def report_on(cli: ExperimentCLI, run: Path) -> FigureReport:
    """Choose what is drawn of the predictions in the folder of a run."""
    from experiments.reporting.figures_report import FigureReport
    from experiments.run.figure_items import by_expression
    from gl_ris.predictions import read_predictions

    found = by_expression(read_predictions(run / "predictions.jsonl"))
    return FigureReport(cast("Any", cli.model), cli.datamodule, found)


def main() -> None:
    """Evaluate what is to be shown, or take it from a finished run, and draw it."""
    from experiments.run.evaluate import Recorder, carry_out, write_config
    from experiments.run.folder import RunFolder, room_needed

    cli = parts()

    def write(folder: Path, report: FigureReport) -> None:
        paths = report.write(folder, cli.settings())
        print("\nFigures      " + "\n             ".join(map(str, paths)))

    run, data = cast("Any", cli.model).run, cli.datamodule
    if run is None:
        carry_out(cli, Recorder(cli), lambda folder: write(folder, report_on(cli, folder)))
        return
    folder = RunFolder(COMMAND.name, cli.config.run_dir, cli.config.overwrite)
    cast("Any", data).require_files()
    data.prepare_data()
    report = report_on(cli, run)
    with room_needed(folder.create()):
        write_config(folder.path / "config.yaml", cli.settings(), COMMAND.program)
        write(folder.path, report)
    folder.close()


if __name__ == "__main__":
    run(COMMAND, main)
