"""Train one of the two small CLIPs that ship with the project, on captioned pictures of shapes alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

CONFIGS = Path(__file__).parents[1] / "configs" / "clip"
VOCABULARY = 641


def train(
    tower: Literal["vit", "rn"],
    output: Path,
    steps: int = 2500,
    learning_rate: float = 1e-3,
    patch_dropout: float = 0.0,
    families: int = 10_000,
    batch_size: int = 128,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Train, and leave an open_clip ``local-dir:`` folder.

    Args:
        tower: ``vit`` for a VisionTransformer, ``rn`` for a ModifiedResNet.
        output: Where the run is written: checkpoints, the loss curve, and at the end the model in ``model/``.
            A run that was stopped goes on from its last checkpoint.
        steps: Number of optimiser steps.
        learning_rate: Its peak.
        patch_dropout: Share of the patches left out of a step while the rate is level (vit only).
        families: Number of families of four captioned images.
        batch_size: Images per step.
        seed: Of the images, their captions, the weights and the order.
        threads: CPU threads.
    """
    import torch
    from lightning import Trainer, seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    from datamodules.captioned_shapes import CaptionedShapes
    from gl_ris.contrastive import ContrastiveCLIP
    from gl_ris.tokenizer import train_tokenizer

    torch.set_num_threads(threads)
    seed_everything(seed)
    data = CaptionedShapes(families=families, batch_size=batch_size, seed=seed)
    data.prepare_data()
    tokenizer = output / "tokenizer"
    if not tokenizer.is_dir():
        texts = data.texts()[: data.families]
        train_tokenizer(
            (t for images in texts for captions in images for t in captions), tokenizer, VOCABULARY
        )
    module = ContrastiveCLIP(
        CONFIGS / f"refshapes-{tower}.json", tokenizer, learning_rate, patch_dropout=patch_dropout
    )
    last = output / "checkpoints" / "last.ckpt"
    trainer = Trainer(
        max_steps=steps,
        accelerator="auto",
        devices=1,
        logger=CSVLogger(output, name="", version=""),
        log_every_n_steps=10,
        val_check_interval=200,
        check_val_every_n_epoch=None,
        gradient_clip_val=1.0,
        callbacks=[
            ModelCheckpoint(output / "checkpoints", save_last=True, every_n_train_steps=100, save_top_k=1)
        ],
    )
    trainer.fit(module, data, ckpt_path=last if last.is_file() else None)
    module.export(output / "model", tokenizer)
    shutil.copy(output / "metrics.csv", output / "model" / "training.csv")


if __name__ == "__main__":
    from jsonargparse import CLI

    CLI(train, as_positional=False)
