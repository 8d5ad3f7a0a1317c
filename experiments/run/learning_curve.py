"""What a training leaves while it runs: a learning curve, and now and then a state to go on from."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from experiments.run.unfinished import Unfinished

POINTS = 1000
"""Lines of a curve, at most about."""

INTERVAL = 300.0
"""Seconds between two saved states."""


class LearningCurve(Callback):
    """Appends the loss, the mean since the line before, and the learning rates to a CSV file, in rank 0.

    A training that goes on from a saved state goes on with its file, from the step of that state.

    Args:
        path: The file; None in processes other than rank 0.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._losses: list[float] = []
        self._written = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the file, or drop the lines of steps that are to be made once more."""
        if self.path is None:
            return
        self._written = trainer.global_step
        kept = []
        if self.path.is_file() and trainer.global_step:
            with self.path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.reader(file) if row[1:2] and row[1].isdigit()]
        with self.path.open("w", newline="", encoding="utf-8") as file:
            rates = [f"learning_rate_{place}" for place in range(len(_rates(trainer)))]
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["epoch", "step", "loss", *rates])
            writer.writerows(row for row in kept if int(row[1]) <= trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss, and write a line when it is time."""
        if self.path is None:
            return
        self._losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        every = max(1, int(pl_module.expected_steps) // POINTS)  # type: ignore[arg-type]
        if trainer.global_step % every or trainer.global_step == self._written:
            return
        self._written = trainer.global_step
        loss = sum(self._losses) / len(self._losses)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            row = [trainer.current_epoch, trainer.global_step, loss, *_rates(trainer)]
            csv.writer(file, lineterminator="\n").writerow(row)
        self._losses.clear()


def _rates(trainer: Trainer) -> list[float]:
    return [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]


class SaveNowAndThen(Callback):
    """Saves the state of the training after an epoch when the last time is long ago.

    Args:
        unfinished: Where; None in processes other than rank 0.
        interval: Seconds.
    """

    def __init__(self, unfinished: Unfinished | None, interval: float = INTERVAL) -> None:
        self.unfinished, self.interval = unfinished, interval
        self._last = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if it is time; every process takes part, and there is never a damaged file of the name."""
        if not trainer.strategy.broadcast(time.monotonic() - self._last > self.interval):
            return
        own = None if self.unfinished is None else self.unfinished.checkpoint
        path: Path = trainer.strategy.broadcast(own)  # type: ignore[assignment]
        draft = path.with_name(f".{path.name}")
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            draft.replace(path)
        self._last = time.monotonic()
