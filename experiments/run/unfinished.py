"""A training under way: its learning curve, its saved states, and whether one that was cut off can go on."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from experiments.cli.moved import current_paths
from gl_ris.files import atomic_file

FOLDER = "training"
"""What a run folder has while a training is under way, with a state to go on from."""

# What a training hangs on, so that it can go on only under the same.
_PARTS = ("model", "data", "training")
_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "sync_batchnorm")

POINTS = 1000
"""Lines of a learning curve, at most about."""

INTERVAL = 300.0
"""Seconds between two saved states."""


class Unfinished:
    """The folder ``training`` inside a run folder: there while a training is under way.

    Args:
        run_folder: The run folder.
        settings: Of the run that would go on.
    """

    def __init__(self, run_folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = run_folder / FOLDER
        self.checkpoint = self.folder / "last.ckpt"
        self.curve = self.folder / "learning_curve.csv"
        self._settings_file = self.folder / "settings.yaml"
        trainer = settings.get("trainer", {})
        self.decisive = {name: settings.get(name) for name in _PARTS} | {
            "trainer": {name: trainer.get(name) for name in _TRAINER}
        }

    @property
    def resumable(self) -> bool:
        """Whether there is a state of a training of the same settings."""
        return self.checkpoint.is_file() and self._known() == self.decisive

    def begin(self) -> None:
        """Make the folder, without what an earlier training of other settings left in it."""
        self.discard_unless_resumable()
        with atomic_file(self._settings_file) as file:
            file.write(yaml.safe_dump(self.decisive, sort_keys=False).encode())

    def discard_unless_resumable(self) -> None:
        """Remove the folder if there is nothing to go on from."""
        if not self.resumable:
            shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self) -> None:
        """Keep the learning curve in the run folder, and remove the rest."""
        self.curve.replace(self.folder.parent / self.curve.name)
        shutil.rmtree(self.folder)

    def _known(self) -> Any:
        """Return the settings of the training that was cut off, as they would be written today."""
        try:
            known = current_paths(yaml.safe_load(self._settings_file.read_text(encoding="utf-8")))
            # options that a model had before and nobody used
            return known | {"model": {name: known["model"][name] for name in self.decisive["model"]}}
        except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
            return None


class Progress(Callback):
    """Writes the learning curve while a training runs, and now and then a state to go on from.

    A line of the curve, a CSV file, has the loss, the mean since the line before, and the learning rates. A
    training that goes on from a saved state goes on with its file, from the step of that state.

    Args:
        unfinished: Where; None in processes other than rank 0.
        interval: Seconds between two saved states.
    """

    def __init__(self, unfinished: Unfinished | None, interval: float = INTERVAL) -> None:
        self.unfinished, self.interval = unfinished, interval
        self._losses: list[float] = []
        self._written = 0
        self._last = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the curve, or drop the lines of steps that are to be made once more."""
        if self.unfinished is None:
            return
        path, self._written = self.unfinished.curve, trainer.global_step
        kept = []
        if path.is_file() and trainer.global_step:
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row[1:2] and row[1].isdigit()]
            kept = [row for row in rows if int(row[1]) <= trainer.global_step]
        rates = [f"learning_rate_{place}" for place in range(len(_rates(trainer)))]
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([["epoch", "step", "loss", *rates], *kept])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss, and write a line when it is time."""
        if self.unfinished is None:
            return
        # Lightning gives the share that the batch has in its step
        self._losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        every = max(1, int(pl_module.expected_steps) // POINTS)  # type: ignore[arg-type]
        if trainer.global_step % every or trainer.global_step == self._written:
            return
        self._written = trainer.global_step
        loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        with self.unfinished.curve.open("a", newline="", encoding="utf-8") as file:
            row = [trainer.current_epoch, trainer.global_step, loss, *_rates(trainer)]
            csv.writer(file, lineterminator="\n").writerow(row)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state if the last time is long ago; every process takes part."""
        if not trainer.strategy.broadcast(time.monotonic() - self._last > self.interval):
            return
        own = None if self.unfinished is None else self.unfinished.checkpoint
        path: Path = trainer.strategy.broadcast(own)  # type: ignore[assignment]
        # there is never a damaged file of the name
        draft = path.with_name(f".{path.name}")
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            draft.replace(path)
        self._last = time.monotonic()


def _rates(trainer: Trainer) -> list[float]:
    return [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
