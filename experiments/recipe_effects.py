"""What each detail of a recipe is worth: ``python -m experiments.recipe_effects``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from experiments.cli.command import SHORTHAND, Command, run

COMMAND = Command(
    name="recipe_effects",
    summary=(
        "What each point changes in which the published code differs from what the paper and the weights "
        "say: a base recipe, the same with every field set to the other recipe's value alone, and "
        "with all of them at once. Gives oIoU, mIoU and the share of expressions with another choice, in one "
        "pass over the images, as recipe_effects.md, .csv and .json."
    ),
    examples=(
        ("proposals=ground_truth", "from clean towards published, on RefShapes val"),
        (
            "clip=refshapes-vit recipe=published limit=50",
            "from published towards clean, fifty images, the ViT",
        ),
        (
            "method=score_map",
            "another method, with the details that are its own",
        ),
        ("precisions=[bf16,fp16]", "also what half precision changes"),
        (
            'alpha=0 "more=[{local_prompt: blur, local_frame: full}, {local_prompt: contour}]"',
            "also other pictures of a mask for the local branch",
        ),
        ("data=refcoco data.root=data", "on RefCOCO, from published towards clean"),
    ),
    shorthand={**SHORTHAND, "method": "model.method", "precisions": "model.precisions", "more": "model.more"},
    groups=("data", "proposals"),
    explained=(
        ("model", "experiments.run.effects:RecipeEffects"),
        ("model.post", "gl_ris.proposals.post:PostProcessing"),
        ("data", "datamodules:RefShapes"),
    ),
)


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
        rows = EffectsTable(cast("Any", cli.model), cli.datamodule, records).rows()
        print(f"\n{write_effects(folder, rows, document)}\n\nRun folder   {folder}")

    carry_out(cli, recorder, report)


if __name__ == "__main__":
    run(COMMAND, main)
