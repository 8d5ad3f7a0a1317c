"""Train one of the small CLIPs that ship with the project: ``python -m experiments.train_refshapes_clip``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments.cli.command import Command, closing_words, run

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI

COMMAND = Command(
    name="train_refshapes_clip",
    summary=(
        "Train a small CLIP on captioned pictures of shapes: open_clip's own model classes and loss, images "
        "and captions alone, no masks. The run folder gets checkpoints, the curve and the model "
        "as an open_clip local-dir: folder. Naming the folder of a run that was stopped goes on with it."
    ),
    examples=(
        ("tower=vit", "the VisionTransformer that ships as refshapes-vit"),
        (
            "tower=rn run_dir=runs/rn",
            "the ModifiedResNet; the same command again goes on from the last checkpoint",
        ),
        ("tower=vit trainer.max_steps=20000 trainer.precision=bf16-mixed", "longer, on a GPU"),
    ),
    groups=("tower",),
    explained=(
        ("model", "experiments.run.contrastive:ContrastiveCLIP"),
        ("data", "datamodules.captioned_shapes:CaptionedShapes"),
    ),
)
EVERY_STEPS = 100


def train(cli: ExperimentCLI) -> Path:
    """Train, and return the model's folder in open_clip's ``local-dir:`` form, with the curve beside it."""
    from experiments.run.contrastive import train_tokenizer
    from experiments.run.evaluate import write_config
    from experiments.run.folder import RunFolder
    from gl_ris.cores import all_cores
    from gl_ris.signals import kept_if_ended

    model, data, trainer = cast("Any", cli.model), cast("Any", cli.datamodule), cli.trainer
    last = Path(cli.config.run_dir or "") / "checkpoints" / "last.ckpt"
    resumed = bool(cli.config.run_dir) and last.is_file()
    place = (COMMAND.name, cli.config.run_dir, cli.config.overwrite)
    run = RunFolder(*place, resume=resumed or cli.config.resume)
    folder = run.create()
    write_config(folder / "config.yaml", cli.settings(), COMMAND.program)
    data.prepare_data()
    tokenizer = folder / "tokenizer"
    if not tokenizer.is_dir():
        train_tokenizer(data.training_captions(), tokenizer, model.model_cfg["text_cfg"]["vocab_size"])
    model.use_tokenizer(tokenizer)
    _set_up_logs(trainer, folder)
    _keep_curve(folder)
    again = f"the same command with run_dir={folder} goes on from the last checkpoint in it"
    with kept_if_ended(lambda: again), all_cores():
        trainer.fit(model, data, ckpt_path=last if resumed else None, weights_only=True if resumed else None)
    model.export(folder / "model", tokenizer)
    _keep_curve(folder)
    _join_curves(sorted(folder.glob("curve-*.csv")), folder / "model" / "training.csv")
    run.close()
    print(f"\nModel        {folder / 'model'}")
    closing_words(COMMAND.name, folder)
    return folder / "model"


def _set_up_logs(trainer: Any, folder: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    trainer.loggers = [CSVLogger(folder, name="", version="")]
    trainer.callbacks.append(
        ModelCheckpoint(folder / "checkpoints", save_last=True, every_n_train_steps=EVERY_STEPS)
    )


def _keep_curve(folder: Path) -> None:
    # the logger of a resumed run would write over it
    if (folder / "metrics.csv").is_file():
        (folder / "metrics.csv").rename(folder / f"curve-{len(list(folder.glob('curve-*.csv'))):03d}.csv")


def _join_curves(parts: list[Path], path: Path) -> None:
    import pandas as pd

    # a training that is shorter than the interval of the log has no curve, and may have no losses in it
    none = pd.DataFrame(columns=["step", "train/loss"], dtype=str)
    curves = [pd.read_csv(part, dtype=str, keep_default_na=False, na_values=[""]) for part in parts]
    rows = pd.concat([*curves, none])
    # of two rows for a step the later, of a resumption, counts
    twice = rows.assign(training=rows["train/loss"].notna()).duplicated(["step", "training"], keep="last")
    rows = rows[~twice].sort_values("step", key=lambda steps: steps.astype(int), kind="stable")
    rows.to_csv(path, index=False)


def main() -> None:
    """Train what the command line describes."""
    import datamodules.captioned_shapes  # noqa: F401  so that its class is known by its short name
    from datamodules.captioned_shapes import CaptionedShapes
    from experiments.cli.parts import ExperimentCLI
    from experiments.run.contrastive import ContrastiveCLIP

    train(ExperimentCLI(COMMAND, ContrastiveCLIP, CaptionedShapes))


if __name__ == "__main__":
    run(COMMAND, main)
