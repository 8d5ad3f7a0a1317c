"""Zero-shot referring image segmentation: ``python -m experiments.zero_shot``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.cli.command import SHORTHAND, Command, run

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI

COMMAND = Command(
    name="zero_shot",
    summary=(
        "Zero-shot referring image segmentation with CLIP: for every expression of a split, choose one of "
        "the image's mask proposals, and report overall IoU, mean IoU and precision. Nothing is trained. "
        "Without options: Global-Local CLIP on the embedded benchmark RefShapes."
    ),
    examples=(
        ("", "the main job: Global-Local CLIP on RefShapes val, proposals by merged SLIC superpixels"),
        (
            "data=refshapesg proposals=ground_truth methods=[global_local,cropping,random]",
            "relational expressions, the true masks to choose from, three methods in one run",
        ),
        (
            "data=refshapes-phrasecut",
            "phrases for several objects: all of them, and those about unseen categories and fills",
        ),
        (
            "limit=20 model.clip=refshapes-vit --run_dir=/tmp/try",
            "twenty images, the ViT, a folder of one's own",
        ),
        (
            "data=refcoco split=testA row=cropping-rn",
            "a figure of the paper's Table 1, from its data and weights",
        ),
        ("--trainer.devices=2", "two processes (or GPUs); the figures stay the same bit for bit"),
    ),
    shorthand={**SHORTHAND, "methods": "model.methods", "precision": "model.precision"},
    groups=("data", "proposals", "row"),
    explained=(
        ("model", "gl_ris:ZeroShotRIS"),
        ("model.post", "gl_ris.proposals.post:PostProcessing"),
        ("data", "datamodules:RefShapes"),
    ),
)


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
