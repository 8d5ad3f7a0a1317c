"""The training before an evaluation: its settings, its length, and what it leaves in the run folder."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from experiments.cli.command import Command
from experiments.cli.parts import ExperimentCLI
from experiments.run.unfinished import Progress, Unfinished
from gl_ris.errors import UserError
from gl_ris.files import atomic_file
from gl_ris.tally import gather_objects

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from datamodules.base import RISDataModule
    from gl_ris.supervised.module import SupervisedRIS

WEIGHTS = "weights.pt"

# What the record of a training takes from the manifest of its refs.
_CHOSEN = ("dataset", "split_by", "split", "k", "seed", "n_refs", "n_sentences", "n_images", "share")


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
        """Check the numbers; raises `UserError` where one is out of range."""
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
        from datamodules.learning import FewShotTraining

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
        self.record = self._describe()

    def _describe(self) -> dict[str, Any]:
        subset = self.data.subset
        return {
            "model": self.module.baseline.title,
            **{name: getattr(subset.manifest, name) for name in _CHOSEN},
            "shortfall": subset.shortfall,
            "epochs": self.epochs,
            "steps": self.steps,
            "batch_size": self.data.batch_size,
            "schedule": self.settings.schedule,
            "weights": self.module.weights,
            "parameters": sum(p.numel() for p in self.module.parameters()),
            "trained_parameters": sum(p.numel() for p in self.module.parameters() if p.requires_grad),
        }

    def summary(self) -> str:
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
        from datamodules.fewshot import write_manifest

        start = time.perf_counter()
        seed_everything(self.settings.seed, verbose=False)
        self.module.expected_steps = self.steps
        trainer: Any = self.trainer
        trainer.fit_loop.max_epochs = self.epochs
        self.module.train()  # a loaded CLIP comes in evaluation mode
        progress = Progress(unfinished)
        trainer.callbacks.append(progress)
        if unfinished is not None:
            unfinished.begin()
        try:
            trainer.fit(self.module, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
        except BaseException:
            if unfinished is not None:
                unfinished.discard_unless_resumable()
            raise
        trainer.callbacks.remove(progress)
        if unfinished is not None:
            folder = unfinished.folder.parent
            write_manifest(folder / "manifest.json", self.data.subset)
            with atomic_file(folder / WEIGHTS) as file:
                torch.save(self.module.segmenter.state_dict(), file)
            unfinished.finish()
        self.record |= {
            "seconds": round(time.perf_counter() - start, 3),
            "unusable_visits": sum(gather_objects(self.data.data.unusable)),
        }


class SupervisedCLI(ExperimentCLI):
    """Parses the command line of a supervised run and makes its parts, the training among them.

    Attributes:
        checkpoint: The state of a training that was cut off, to go on from; None to begin.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the training."""
        super().add_arguments_to_parser(parser)
        parser.add_class_arguments(TrainingSettings, "training")

    def before_instantiate_classes(self) -> None:
        """Check what belongs to others; let a run that was cut off go on in its folder.

        Raises:
            UserError: ``trainer.max_epochs`` is given, or see the base class.
        """
        super().before_instantiate_classes()
        if self.config.trainer.max_epochs is not None or self.config.trainer.max_steps != -1:
            raise UserError("The length of a training is set by epochs=N, or schedule=min_steps.")
        if self.config.trainer.strategy == "auto" and several_processes(self.config.trainer):
            # LAVT's last gate and CLIP's temperature have no part in the loss
            self.config.trainer.strategy = "ddp_find_unused_parameters_true"
        self.checkpoint: Path | None = None
        if self.config.run_dir is not None:
            unfinished = self.unfinished(Path(self.config.run_dir))
            if unfinished.resumable:
                self.config.overwrite = True
                self.checkpoint = unfinished.checkpoint

    def unfinished(self, run_folder: Path) -> Unfinished:
        """Return what is under way, or was cut off, in a run folder."""
        return Unfinished(run_folder.expanduser(), self.settings())

    @functools.cached_property
    def training(self) -> Training | None:
        """The training that is to come; None if the model brings its weights.

        Raises:
            UserError: The model, the data or the refs do not fit.
        """
        module = cast("Any", self.model)
        settings: TrainingSettings = self.config_init.training
        seed_everything(settings.seed, verbose=False)
        module.configure_model()
        if module.weights is not None:
            return None
        data = self._data_to_learn_from(settings.split)
        data.require_files()
        data.prepare_data()
        training = Training(module, data, settings, self.trainer)
        module.title = f"{module.baseline.title} k={training.record['k']}"
        return training

    def _data_to_learn_from(self, split: str) -> RISDataModule:
        """Make the data module of another split, whole and without proposals."""
        options = vars(self.config.data.init_args)
        without = {"split": split, "limit": None, "limit_seed": None, "proposals": None}
        kept = {name: without.get(name, value) for name, value in options.items()}
        return cast("RISDataModule", type(self.datamodule)(**kept))

    def check(self) -> None:
        """Prepare the training, whose refs and weights may be missing."""
        _ = self.training


def several_processes(trainer: Any) -> bool:
    """Say whether a trainer of these options will have several processes.

    Example:
        >>> from types import SimpleNamespace as Options
        >>> [several_processes(Options(devices=n, num_nodes=1, accelerator="cpu")) for n in (1, "2", [0, 1])]
        [False, True, True]
    """
    devices = trainer.devices
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part]
    if devices in ("auto", -1, "-1"):
        count = torch.cuda.device_count() if trainer.accelerator in ("auto", "gpu", "cuda") else 1
    else:
        count = len(devices) if isinstance(devices, list) else int(devices)
    return count * int(trainer.num_nodes) > 1


def supervised_parts(command: Command, args: ArgsType = None) -> SupervisedCLI:
    """Make the parts that a command line describes; see `experiments.cli.parts.parts_of`."""
    import datamodules.known  # noqa: F401  so that data.class_path takes short names
    from datamodules.base import RISDataModule
    from gl_ris.supervised.module import SupervisedRIS

    return SupervisedCLI(command, SupervisedRIS, RISDataModule, args=args)
