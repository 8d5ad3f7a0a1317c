"""Train one of the small CLIPs that ship with the project: ``python -m experiments.train_refshapes_clip``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments.cli.command import Command, closing_words, run

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI

COMMAND = Command.documented("train_refshapes_clip")
EVERY_STEPS = 100


def train(cli: ExperimentCLI) -> Path:
    """Train, and return the model's folder in open_clip's ``local-dir:`` form, with the curve beside it."""
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
    _begin(model, data, tokenizer, resumed)
    _set_up_logs(trainer, folder)
    again = f"the same command with run_dir={folder} goes on from the last checkpoint in it"
    with kept_if_ended(lambda: again), all_cores():
        if not resumed:
            trainer.validate(model, data)
        trainer.fit(model, data, ckpt_path=last if resumed else None, weights_only=True if resumed else None)
    model.export(folder / "model", tokenizer)
    join_curves(folder / "curve", folder / "model" / "training.csv")
    run.close()
    print(f"\nModel        {folder / 'model'}")
    closing_words(COMMAND.name if model.swin is None else "train_refshapes_swin", folder)
    return folder / "model"


def _begin(model: Any, data: Any, tokenizer: Path, resumed: bool) -> None:
    """Give a model the weights and words of the one it starts from, or words of its captions."""
    from experiments.run.contrastive import train_tokenizer
    from experiments.run.small_clips import TOKENIZER, folder_of, take_weights

    if model.start is not None and not resumed:
        print(f"Start        {take_weights(model.model, model.start)}")
        tokenizer.mkdir(exist_ok=True)
        for name in TOKENIZER:
            shutil.copy(folder_of(model.start) / name, tokenizer)
    elif not tokenizer.is_dir():
        train_tokenizer(data.training_captions(), tokenizer, model.model_cfg["text_cfg"]["vocab_size"])
    model.use_tokenizer(tokenizer)


def _set_up_logs(trainer: Any, folder: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    # a version for each time that the training goes on
    trainer.loggers = [CSVLogger(folder, name="curve")]
    # no counter: in a folder that was moved it would leave the last one as it is and write another beside it
    options: dict[str, Any] = {"every_n_train_steps": EVERY_STEPS, "enable_version_counter": False}
    trainer.callbacks.append(ModelCheckpoint(folder / "checkpoints", save_last=True, **options))


def join_curves(folder: Path, path: Path) -> None:
    """Write what was logged each time that a training went on, step by step, into one CSV file."""
    import pandas as pd

    parts = sorted(folder.glob("version_*/metrics.csv"), key=lambda part: int(part.parent.name[8:]))
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
