"""A grid of alpha, beta and masked blocks in one pass: ``python -m experiments.sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from experiments.cli.command import SHORTHAND, Command, run

COMMAND = Command(
    name="sweep",
    summary=(
        "Global-Local CLIP at every alpha, beta and number k of masked blocks of a grid, from one encoding "
        "of each image and text: a dense grid costs no more image work than one run. Writes sweep.csv (a "
        "line per cell), sweep.json and a heat map for each k. To choose settings, sweep split=train: the "
        "best cell of the split that is reported is tuned to it, and no longer a zero-shot figure."
    ),
    examples=(
        ("split=train limit=300", "21 alphas by 21 betas on 300 training images of RefShapes"),
        (
            "clip=refshapes-vit alphas=11 betas=[0,0.5,1] masked_blocks=[1,2,3,4]",
            "evenly spaced alphas, three betas, four numbers of masked blocks of the ViT",
        ),
        ("data=refshapesg proposals=ground_truth limit=20 --run_dir=/tmp/try", "twenty images, a folder"),
        ("--trainer.devices=2", "two processes (or GPUs); the figures stay the same bit for bit"),
    ),
    shorthand={
        **SHORTHAND,
        "alphas": "model.alphas",
        "betas": "model.betas",
        "masked_blocks": "model.masked_blocks",
        "precision": "model.precision",
    },
    groups=("data", "proposals"),
    explained=(
        ("model", "gl_ris.sweep:Sweep"),
        ("model.post", "gl_ris.proposals.post:PostProcessing"),
        ("data", "datamodules:RefShapes"),
    ),
)


def main() -> None:
    """Sweep, and leave table, document and heat maps in the run folder."""
    import msgspec

    from experiments.cli.parts import parts_of
    from experiments.reporting.sweep_report import remarks, write_sweep
    from experiments.run.evaluate import carry_out, describe
    from experiments.run.resuming import Keeper
    from gl_ris.results import Results, format_table
    from gl_ris.sweep import Sweep

    cli = parts_of(COMMAND, Sweep)

    def report(folder: Path) -> None:
        model = cast("Any", cli.model)
        evaluated = describe(model, cli.datamodule, cli.command.name, cli.settings()).document()
        document, pictures = write_sweep(folder, model, evaluated)
        print(f"\n{format_table(msgspec.convert(document, Results))}\n{remarks(document)}\n")
        print(f"Heat maps    {', '.join(map(str, pictures))}\nRun folder   {folder}")

    carry_out(cli, Keeper(), report)


if __name__ == "__main__":
    run(COMMAND, main)
