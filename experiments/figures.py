"""Figures 5, 6 and 7 of the paper, heat maps and misses: ``python -m experiments.figures figure=5``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments.cli.command import CONFIGS, Command, closing_words, run
from experiments.cli.config_file import read_config
from experiments.cli.overrides import current_paths, normalise

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI

COMMAND = Command.documented("figures")


def parts(arguments: list[str] | None = None) -> ExperimentCLI:
    """Make the parts that a command line describes; the settings of a finished ``run`` go before it."""
    from experiments.cli.parts import parts_of
    from experiments.run.figure_items import Figures

    words = sys.argv[1:] if arguments is None else arguments
    given = (token.partition("=") for token in normalise(words, {}, {}, CONFIGS))
    runs = [Path(value) / "config.yaml" for name, _, value in given if name in ("--run", "--model.run")]
    cli = parts_of(COMMAND, Figures, [*map(_settings_of, runs[-1:]), *words])
    if not runs:
        cast("Any", cli.datamodule).narrow = cast("Any", cli.model).narrow
    return cli


def _settings_of(file: Path) -> str:
    """Return the option for the settings of a run; where it did not choose by methods, for its data alone."""
    content = current_paths(read_config(file))
    if "methods" in (content.get("model") or {}):
        return f"--config={file}"
    return f"--data={json.dumps(content.get('data'))}"


def main() -> None:
    """Evaluate what is to be shown, or take it from a finished run, and draw it."""
    from experiments.reporting.figures_report import FigureReport
    from experiments.run.evaluate import Recorder, carry_out, write_config
    from experiments.run.figure_items import by_expression
    from experiments.run.folder import RunFolder, room_needed
    from gl_ris.predictions import read_predictions

    cli = parts()
    model, data = cast("Any", cli.model), cast("Any", cli.datamodule)

    def draw(run: Path, folder: Path) -> None:
        found = by_expression(read_predictions(run / "predictions.jsonl"))
        FigureReport(model, data, found).write(folder, cli.settings())

    if model.run is None:
        carry_out(cli, Recorder(cli), lambda folder: draw(folder, folder))
        return
    folder = RunFolder(COMMAND.name, cli.config.run_dir, cli.config.overwrite)
    data.require_files()
    data.prepare_data()
    with room_needed(folder.create()):
        write_config(folder.path / "config.yaml", cli.settings(), COMMAND.program)
        draw(model.run, folder.path)
    closing_words(COMMAND.name, folder.path)
    folder.close()


if __name__ == "__main__":
    run(COMMAND, main)
