"""What each detail of a recipe is worth: ``python -m experiments.recipe_effects``."""

from pathlib import Path
from typing import Any, cast

from experiments.cli.command import Command, run

COMMAND = Command.documented("recipe_effects")


def main() -> None:
    """Run all recipes, and leave the table in the run folder beside what any evaluation leaves."""
    from experiments.cli.parts import parts_of
    from experiments.reporting.effects_report import EffectsTable, write_effects
    from experiments.run.effects import RecipeEffects
    from experiments.run.evaluate import Recorder, carry_out
    from gl_ris.predictions import read_predictions

    cli = parts_of(COMMAND, RecipeEffects)
    recorder = Recorder(cli)

    def report(folder: Path) -> None:
        assert recorder.results is not None
        document = recorder.results.document()
        records = read_predictions(folder / "predictions.jsonl")
        sure = cli.config.intervals
        rows = EffectsTable(cast("Any", cli.model), cli.datamodule, records, sure).rows()
        print(f"\n{write_effects(folder, rows, document)}\n")

    carry_out(cli, recorder, report)


if __name__ == "__main__":
    run(COMMAND, main)
