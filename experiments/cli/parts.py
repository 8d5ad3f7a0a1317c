"""One command line for all experiments, on LightningCLI: options in, model, data module and trainer out."""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any, Literal

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.cli.command import ENV_PREFIX, Command
from experiments.cli.help import COMMON
from experiments.cli.parser import OverrideParser, check_config, user_error_behind
from gl_ris.errors import UserError

_DEVICES = re.compile(r"auto|-1|[1-9]\d*|\d+(,\d+)+,?|\d+,")
# Nothing to train, so nothing to save; results go to the run folder by other ways.
_TRAINER = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
_RUN_OPTIONS = ("run_dir", "overwrite")
_KINDS: dict[str, Any] = {
    "run_dir": str | None,
    "overwrite": bool,
    "wandb": Literal["auto", "online", "offline", "disabled"],
}


class ExperimentCLI(LightningCLI):
    """Parses the command line of an experiment and makes its parts; runs nothing.

    Attributes:
        model: The module.
        datamodule: The data module.
        trainer: The trainer.
        config: All settings.

    Args:
        command: The experiment; its configuration file gives the defaults.
        model_class: Class of the module; its arguments are the options ``model.*``.
        datamodule_class: Base class of the data modules that ``data`` may choose from.
        trainer_defaults: Defaults of ``trainer.*``, beside those that suit an evaluation.
        args: The command line; by default that of the process.

    Raises:
        UserError: An option is unknown or its value is wrong.
    """

    def __init__(
        self,
        command: Command,
        model_class: type[LightningModule],
        datamodule_class: type[LightningDataModule],
        *,
        trainer_defaults: dict[str, Any] | None = None,
        args: ArgsType = None,
    ) -> None:
        self.command = command
        quieten()
        check_config(command.config)
        super().__init__(
            model_class,
            datamodule_class,
            save_config_callback=None,
            trainer_defaults={**_TRAINER, **(trainer_defaults or {})},
            seed_everything_default=0,
            parser_class=OverrideParser,
            parser_kwargs={
                "command": command,
                "prog": command.program,
                "description": command.summary,
                "default_config_files": [str(command.config)],
                "default_env": True,
                "env_prefix": ENV_PREFIX,
                "allow_abbrev": False,
            },
            subclass_mode_data=True,
            args=args,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that every command has."""
        for name, default, explanation in COMMON:
            parser.add_argument(f"--{name}", type=_KINDS[name], default=default, help=explanation)

    def before_instantiate_classes(self) -> None:
        """Check what Lightning would answer with a traceback; let ``auto`` choose between CUDA and CPU only.

        Apple's MPS has neither float64 nor every resize that the recipes need; it must be asked for by name.

        Raises:
            UserError: ``trainer.devices`` is not a number of devices, or a group of options holds a value.
        """
        for name in ("model", "trainer"):
            if not isinstance(self.config[name], Namespace):
                raise UserError(
                    f"{name} cannot be '{self.config[name]}'; it holds options, as in {name}.NAME=VALUE."
                )
        if self.config.trainer.accelerator == "auto" and torch.backends.mps.is_available():
            self.config.trainer.accelerator = "cpu"
        devices = self.config.trainer.devices
        if not isinstance(devices, list) and not _DEVICES.fullmatch(str(devices)):
            raise UserError(
                f"trainer.devices cannot be '{devices}'; give a number (2), a list ([0,1]) or auto."
            )

    def instantiate_classes(self) -> None:
        """Make the module, the data module and the trainer.

        Raises:
            UserError: One of them cannot be made of its options.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise user_error_behind(error) or error from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer.

        Raises:
            UserError: Its options do not go together, or not with this machine.
        """
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            first = " ".join(str(error).split()).partition(". ")[0].rstrip(".!")
            raise UserError(f"These trainer options do not work here: {first}.") from error

    def check(self) -> None:
        """Check, before any work, what a command has beside model and data; here there is nothing."""

    def settings(self) -> dict[str, Any]:
        """Return all settings but the place of the run, as plain values that ``--config`` takes."""
        config = self.config.clone()
        for name in _RUN_OPTIONS:
            config.pop(name, None)
        return yaml.safe_load(self.parser.dump(config, skip_none=False, skip_validation=True, format="yaml"))


def parts_of(command: Command, model_class: type[LightningModule], args: ArgsType = None) -> ExperimentCLI:
    """Make the parts that a command line describes, with any of this project's data.

    Args:
        command: The experiment.
        model_class: Class of the module.
        args: The command line; by default that of the process.

    Raises:
        UserError: An option is unknown or its value is wrong.
    """
    import datamodules.known  # noqa: F401  so that data.class_path takes short names
    from datamodules.base import RISDataModule

    return ExperimentCLI(command, model_class, RISDataModule, args=args)


def quieten() -> None:
    """Silence what Lightning says about itself; warnings about the run stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        r".*does not have many workers.*",
        r".*`predict_dataloader`.*shuffle.*",
        r".*isinstance.*",
        r".*in eval mode at the start of training.*",
        r"LightningCLI's args parameter.*",
    ):
        warnings.filterwarnings("ignore", message=message, module=r"lightning\..*")
