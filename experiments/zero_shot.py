"""Zero-shot referring image segmentation: ``python -m experiments.zero_shot``."""

from __future__ import annotations

from experiments.command import Command, run

COMMAND = Command(
    name="zero_shot",
    summary=(
        "Zero-shot referring image segmentation with CLIP: for every expression of a split, choose one of "
        "the image's mask proposals, and report overall IoU, mean IoU and precision. Nothing is trained. "
        "Without options: Global-Local CLIP on the embedded benchmark RefShapes."
    ),
    examples=(
        ("", "the main job: Global-Local CLIP on RefShapes val, proposals by Felzenszwalb's method"),
        (
            "data=refshapesg proposals=ground_truth methods=[global_local,cropping,random]",
            "relational expressions, the true masks to choose from, three methods in one run",
        ),
        (
            "limit=20 model.clip=refshapes-vit --run_dir=/tmp/try",
            "twenty images, the ViT, a folder of one's own",
        ),
        ("--trainer.devices=2", "two processes (or GPUs); the figures stay the same bit for bit"),
    ),
    shorthand={
        "alpha": "model.alpha",
        "beta": "model.beta",
        "clip": "model.clip",
        "limit": "data.limit",
        "methods": "model.methods",
        "post": "model.post",
        "precision": "model.precision",
        "proposals": "model.proposals",
        "recipe": "model.recipe",
        "split": "data.split",
        "store": "model.store",
    },
    groups=("data", "proposals"),
    explained=(
        ("model", "gl_ris/zero_shot.py", "ZeroShotRIS"),
        ("model.post", "gl_ris/proposals/post.py", "PostProcessing"),
        ("data", "datamodules/refshapes.py", "RefShapes"),
    ),
)


def main() -> None:
    """Run the experiment that the command line describes."""
    import datamodules.refshapes  # noqa: F401  so that its classes are known by their short names
    from datamodules.base import RISDataModule
    from experiments.cli import ExperimentCLI
    from experiments.evaluate import evaluate
    from gl_ris.zero_shot import ZeroShotRIS

    evaluate(ExperimentCLI(COMMAND, ZeroShotRIS, RISDataModule))


if __name__ == "__main__":
    run(COMMAND, main)
