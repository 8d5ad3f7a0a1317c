"""The command line of a supervised model: that of all experiments, with options of the training."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from experiments.cli.command import Command
from experiments.cli.parts import ExperimentCLI
from experiments.run.training import Training, TrainingSettings, data_to_learn_from
from experiments.run.unfinished import Unfinished
from gl_ris.errors import UserError


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
        data = data_to_learn_from(self.config.data, settings.split, cast("Any", self.datamodule).num_workers)
        data.require_files()
        data.prepare_data()
        training = Training(module, data, settings, self.trainer)
        module.title = f"{module.baseline.title} k={training.record['k']}"
        return training

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
    if devices in ("auto", -1, "-1"):
        count = torch.cuda.device_count() if trainer.accelerator in ("auto", "gpu", "cuda") else 1
    else:
        listed = [part for part in str(devices).split(",") if part] if isinstance(devices, str) else devices
        plain = isinstance(devices, str) and "," not in devices
        count = int(devices) if plain else listed if isinstance(listed, int) else len(listed)
    return count * int(trainer.num_nodes) > 1


def supervised_parts(command: Command, args: ArgsType = None) -> SupervisedCLI:
    """Make the parts that a command line describes; see `experiments.cli.parts.parts_of`."""
    import datamodules.known  # noqa: F401  so that data.class_path takes short names
    from datamodules.base import RISDataModule
    from gl_ris.supervised.module import SupervisedRIS

    return SupervisedCLI(command, SupervisedRIS, RISDataModule, args=args)
