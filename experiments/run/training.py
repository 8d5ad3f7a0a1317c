"""The training before an evaluation: its settings, its length, and what it leaves in the run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from gl_ris.errors import UserError
from gl_ris.files import atomic_file
from gl_ris.tally import gather_objects

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from datamodules.base import RISDataModule
    from datamodules.training import FewShotTraining
    from experiments.run.unfinished import Unfinished
    from gl_ris.supervised.module import SupervisedRIS

WEIGHTS = "weights.pt"


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained before it is evaluated.

    Args:
        k: Refs of each class to learn from, a number or all.
        seed: Of the choice of refs, of what the model starts with at random, and of the order of visits.
        split: Of the data set, to learn from.
        epochs: Null takes those of the baseline.
        batch_size: Refs of an optimiser step over all devices; null takes that of the baseline, and no subset
            is smaller than its batch.
        schedule: official_epochs trains for so many epochs whatever k is; min_steps for more if they have
            fewer steps than min_steps, so that a small k does not also mean hardly any training.
        min_steps: See schedule.
        manifest: The manifest.json of an earlier run, whose refs are taken whatever k and seed say.
    """

    k: int | Literal["all"] = "all"
    seed: int = 0
    split: str = "train"
    epochs: int | None = None
    batch_size: int | None = None
    schedule: Literal["official_epochs", "min_steps"] = "official_epochs"
    min_steps: int = 2000
    manifest: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: One is out of range.
        """
        for name in ("epochs", "batch_size", "min_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"training.{name}={value} must be 1 or more.")
        if self.k != "all" and self.k < 1:
            raise UserError(f"k={self.k} is not a number of refs; give a whole number from 1 on, or all.")

    def length(self, steps_per_epoch: int, published: int) -> int:
        """Return how many epochs a training has.

        Args:
            steps_per_epoch: Optimiser steps of an epoch.
            published: Epochs of the baseline.

        Example:
            >>> TrainingSettings(schedule="min_steps", min_steps=100).length(3, 20)
            34
        """
        epochs = self.epochs or published
        return max(epochs, -(-self.min_steps // steps_per_epoch)) if self.schedule == "min_steps" else epochs


def data_to_learn_from(config: Any, split: str, workers: int) -> RISDataModule:
    """Make the data module of the training split beside that of the evaluation.

    Args:
        config: ``class_path`` and ``init_args`` of the data that are evaluated.
        split: To learn from.
        workers: Processes that load data.

    Raises:
        UserError: The class or one of its options does not fit.
    """
    from jsonargparse import ArgumentParser

    from datamodules.base import RISDataModule

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=RISDataModule)
    options = {**(config.get("init_args") or {}), "split": split}
    without = {"limit": None, "limit_seed": None, "proposals": None, "num_workers": workers}
    options = {name: without.get(name, value) for name, value in options.items()}
    chosen = parser.parse_object({"data": {"class_path": config["class_path"], "init_args": options}})
    return parser.instantiate_classes(chosen).data


class Training:
    """A training that is to come, checked.

    Args:
        module: The model, configured.
        source: The split to learn from.
        settings: How.
        trainer: Will do it.

    Attributes:
        data: The refs.
        epochs: How many.
        record: What results say of it; complete after `run`.

    Raises:
        UserError: The refs cannot be chosen, or are too few for the trainer.
    """

    def __init__(
        self, module: SupervisedRIS, source: RISDataModule, settings: TrainingSettings, trainer: Trainer
    ) -> None:
        from datamodules.training import FewShotTraining

        self.module, self.settings, self.trainer = module, settings, trainer
        self.data = FewShotTraining(
            source,
            module.segmenter,
            settings.k,
            settings.seed,
            settings.batch_size or module.baseline.batch_size,
            trainer.accumulate_grad_batches,
            None if settings.manifest is None else Path(settings.manifest).expanduser(),
        )
        steps = self.data.steps_per_epoch(trainer.world_size)
        self.epochs = settings.length(steps, module.baseline.epochs)
        self.steps = steps * self.epochs
        self.record = self._describe(self.data)

    def _describe(self, data: FewShotTraining) -> dict[str, Any]:
        manifest = data.subset.manifest
        return {
            "model": self.module.baseline.title,
            **{name: manifest[name] for name in ("dataset", "split_by", "split", "k", "seed")},
            **{name: manifest[name] for name in ("n_refs", "n_sentences", "n_images", "share")},
            "shortfall": {str(name): lacking for name, lacking in data.subset.shortfall.items()},
            "epochs": self.epochs,
            "steps": self.steps,
            "batch_size": data.batch_size,
            "schedule": self.settings.schedule,
            "weights": self.module.weights,
            "parameters": sum(p.numel() for p in self.module.parameters()),
            "trained_parameters": sum(p.numel() for p in self.module.parameters() if p.requires_grad),
        }

    def told(self) -> str:
        """Say in a line what is going to be done."""
        record, lacking = self.record, sum(self.record["shortfall"].values())
        short = f" ({lacking:,} fewer than k of each class: there are no more)" if lacking else ""
        return (
            f"training: {record['model']}, k={record['k']}, seed {self.settings.seed}: {record['n_refs']:,} "
            f"refs on {record['n_images']:,} images{short}, {self.epochs:,} epochs of "
            f"{self.steps // self.epochs:,} steps, batch {record['batch_size']}"
        )

    def run(self, unfinished: Unfinished | None, checkpoint: Path | None) -> None:
        """Train, and leave weights, manifest and learning curve in the run folder.

        Args:
            unfinished: The place of a training that is under way, in rank 0; None in other processes.
            checkpoint: A state to go on from, in every process; None to begin.

        Raises:
            FloatingPointError: The loss is no number.
        """
        from lightning.pytorch import seed_everything

        start = time.perf_counter()
        seed_everything(self.settings.seed, verbose=False)
        self.module.expected_steps = self.steps
        trainer: Any = self.trainer
        trainer.fit_loop.max_epochs = self.epochs
        self.module.train()  # a loaded CLIP comes in evaluation mode
        with self._watched(unfinished):
            trainer.fit(self.module, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
        self.record |= {
            "seconds": round(time.perf_counter() - start, 3),
            "unusable_visits": sum(gather_objects(self.data.data.unusable)),
        }

    @contextmanager
    def _watched(self, unfinished: Unfinished | None) -> Iterator[None]:
        """Let a training inside the block leave what can be gone on with, and in the end what it was for."""
        from datamodules.kshot import write_manifest
        from experiments.run.learning_curve import LearningCurve, SaveNowAndThen

        trainer: Any = self.trainer
        curve = LearningCurve(None if unfinished is None else unfinished.curve)
        watchers = [curve, SaveNowAndThen(unfinished)]
        trainer.callbacks.extend(watchers)
        if unfinished is not None:
            unfinished.begin()
        try:
            yield
        except BaseException:
            if unfinished is not None:
                unfinished.discard_unless_resumable()
            raise
        for watcher in watchers:
            trainer.callbacks.remove(watcher)
        if unfinished is not None:
            folder = unfinished.folder.parent
            write_manifest(folder / "manifest.json", self.data.subset)
            with atomic_file(folder / WEIGHTS) as file:
                torch.save(self.module.segmenter.state_dict(), file)
            unfinished.finish()
