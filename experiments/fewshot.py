"""Supervised models on k refs of each class beside zero-shot: ``python -m experiments.fewshot k=64``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cli.command import Command, run

COMMAND = Command(
    name="fewshot",
    summary=(
        "Figure 4 right of the paper: supervised models that learn from k refs of each class, beside the "
        "zero-shot model on the same split; oIoU against k, mean and spread over seeds, and from which k on "
        "training wins. Every model, k and seed is a cell: a run of experiments.supervised in a folder; "
        "finished cells are kept, and table, CSV and figure are written anew after each. Options that "
        "are not named here go to the cells: training.*, trainer.*, model.* to the supervised ones, "
        "proposals, clip, alpha, beta and store to the zero-shot run, recipe, data.* and limit to all."
    ),
    examples=(
        ("k=64", "LAVT and CRIS on 64 refs of each class, beside Global-Local, on RefShapesg val"),
        ("k=[1,4,16,64,256]", "the curve; all may be in the list, for the whole train split"),
        ("k=[1,4] seeds=[0,1,2,3,4] baselines=cris-tiny", "one model, five seeds"),
        ("k=4 limit=20 training.epochs=1", "a quick look: twenty images, one epoch"),
        ("k=64 run_dir=DIR", "into a folder of one's own; once more, and it goes on with what is unfinished"),
        ("data=refcocog k=64", "on RefCOCOg, with the models of the paper, once data and weights are there"),
        ("k=[1,4,16,64] jobs=4", "four cells side by side, on four GPUs or cores"),
    ),
    explained=(("", "experiments.grid.fewshot_settings:FewShotSettings"),),
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
    from experiments.grid.fewshot_settings import FewShotSettings

    own = inspect.signature(FewShotSettings).parameters
    return parse_settings(COMMAND, FewShotSettings, sort_out(arguments, own))


def compare(settings: dict[str, Any], run_dir: str | None = None, overwrite: bool = False) -> Path:
    """Run the cells that are not finished yet, writing what there is after each, and print the outcome.

    Args:
        settings: Arguments of `experiments.grid.fewshot_settings.FewShotSettings`.
        run_dir: The folder; None makes ``runs/fewshot/<time>``.
        overwrite: Run everything anew.

    Returns:
        The folder.

    Raises:
        UserError: A setting, file or model is wrong; nothing has been run then.
        EvaluationError: A cell failed; what was finished before stays.
    """
    from experiments.grid.fewshot_progress import FewShotProgress
    from experiments.grid.fewshot_settings import FewShotSettings
    from experiments.grid.sweep_cells import Place, carry_out_cells

    spec = FewShotSettings(**settings)
    return carry_out_cells(
        COMMAND,
        spec.cells(),
        lambda folder: FewShotProgress(folder, spec, settings),
        Place(run_dir, overwrite, settings),
        jobs=spec.jobs,
        wandb=spec.wandb,
    )


if __name__ == "__main__":
    run(COMMAND, main)
