"""Supervised models on concepts that they have not seen: ``python -m experiments.unseen_domain``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cli.command import Command, run

COMMAND = Command(
    name="unseen_domain",
    summary=(
        "Figure 4 left of the paper: supervised models that learn from all refs of a RefCOCO-style set, "
        "evaluated on it and on a PhraseCut-style set, on all phrases of that and on those about concepts "
        "that the first set never shows, beside zero-shot on both. Finished cells are kept, and table, CSV "
        "and figure are written anew after each. Options that are not named here go to the cells: to the "
        "supervised ones training.*, trainer.* and model.*, to the zero-shot ones proposals, clip, alpha, "
        "beta and store, to all recipe, data.* and limit."
    ),
    examples=(
        ("", "LAVT and CRIS trained on RefShapes, beside Global-Local, on RefShapes' PhraseCut-style set"),
        ("limit=20 training.epochs=1", "a quick look: twenty images of each set, one epoch"),
        ("recipe.unseen=names", "another definition of what counts as unseen"),
        (
            "weights.lavt-tiny=DIR/weights.pt baselines=lavt-tiny",
            "with a model that is trained already",
        ),
        ("run_dir=DIR", "into a folder of one's own; once more, and it goes on with what is unfinished"),
        (
            "data=refcoco weights.lavt=FILE weights.cris=FILE",
            "on RefCOCO and PhraseCut with published checkpoints, once the files are there",
        ),
    ),
    explained=(("", "experiments.grid.unseen_settings:UnseenSettings"),),
)


def main() -> None:
    """Make the comparison that the command line describes."""
    compare(*parse(sys.argv[1:]))


def parse(arguments: Sequence[str]) -> tuple[dict[str, Any], str | None, bool]:
    """Read a command line.

    Returns:
        The settings of the comparison, as plain values; its folder, or None; whether to run everything anew.

    Raises:
        UserError: An option is wrong.
    """
    import inspect

    from experiments.cli.parts import parse_settings
    from experiments.grid.cell_options import sort_out
    from experiments.grid.unseen_settings import UnseenSettings

    own = inspect.signature(UnseenSettings).parameters
    return parse_settings(COMMAND, UnseenSettings, sort_out(arguments, own))


def compare(settings: dict[str, Any], run_dir: str | None = None, overwrite: bool = False) -> Path:
    """Run the cells that are not finished yet, writing what there is after each, and print the outcome.

    Args:
        settings: Arguments of `experiments.grid.unseen_settings.UnseenSettings`.
        run_dir: The folder; None makes ``runs/unseen_domain/<time>``.
        overwrite: Run everything anew.

    Returns:
        The folder.

    Raises:
        UserError: A setting, file or model is wrong; nothing has been run then.
        EvaluationError: A cell failed; what was finished before stays.
    """
    from experiments.grid.sweep_cells import Place, carry_out_cells
    from experiments.grid.unseen_progress import UnseenProgress
    from experiments.grid.unseen_settings import UnseenSettings

    spec = UnseenSettings(**settings)
    return carry_out_cells(
        COMMAND,
        spec.cells(),
        lambda folder: UnseenProgress(folder, spec, settings),
        Place(run_dir, overwrite, settings),
        jobs=spec.jobs,
        wandb=spec.wandb,
    )


if __name__ == "__main__":
    run(COMMAND, main)
