"""One command line for all experiments, on LightningCLI: options in, model, data module and trainer out."""

import inspect
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NoReturn, cast, get_args

import torch
import yaml
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.cli.command import CONFIGS, ENV_PREFIX, Command, check_run_options, common_options
from experiments.cli.config_file import read_config
from experiments.cli.messages import explain
from experiments.cli.overrides import CLEARED, FLAGS, HARMLESS, current_paths, normalise
from experiments.cli.ranks import as_launched, take_over
from gl_ris.command_line import as_typed
from gl_ris.cores import share_cores
from gl_ris.errors import UserError
from gl_ris.evaluator import Evaluator
from gl_ris.progress import QUIET
from gl_ris.recipe import Recipe

_DEVICES = re.compile(r"auto|-1|[1-9]\d*|\d+(,\d+)+,?|\d+,")
_RECIPE = "--model.recipe"
_LIGHTNING: dict[str, Any] = {
    # nothing to train, so nothing to save; results go to the run folder by other ways
    "trainer_defaults": {"logger": False, "enable_checkpointing": False, "enable_model_summary": False},
    **dict.fromkeys(("run", "auto_configure_optimizers", "load_from_checkpoint_support"), False),
    "save_config_callback": None,
    "seed_everything_default": 0,
    "subclass_mode_data": True,
}
_RUN_OPTIONS = ("run_dir", "overwrite", "resume")
_KINDS: dict[str, Any] = {
    "run_dir": str | None,
    "overwrite": bool,
    "resume": bool,
    "wandb": Literal["auto", "online", "offline", "disabled"],
    "intervals": bool,
}
# What Lightning says about itself; warnings about the run stay.
_NOISE = (
    r".*does not have many workers.*",
    r".*`predict_dataloader`.*shuffle.*",
    r".*isinstance.*",
    r".*in eval mode at the start of training.*",
    r"LightningCLI's args parameter.*",
)


class OverrideParser(LightningArgumentParser):
    """Reads ``name=value`` like ``--name=value``; what is wrong is a `UserError` of a sentence or two.

    The rewriting happens in here, so ``sys.argv`` stays as it is and a child process that Lightning starts
    with it reads the same. jsonargparse makes parsers of this class for nested options, too; only that of the
    whole command line has a ``command``.
    """

    def __init__(self, *args: Any, command: Command | None = None, **kwargs: Any) -> None:
        self.command = command
        super().__init__(*args, **kwargs)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any
    ) -> Any:
        """Parse the command line; `UserError` if it, or a configuration file that it names, is wrong."""
        if self.command is not None:
            given = current_paths(list(sys.argv[1:] if args is None else args))
            options, kinds, short = self.option_names(), self.command.settings(), self.command.shorthand
            # what the environment chooses comes with its own defaults
            given_by = {name: f"{ENV_PREFIX}_{name.replace('.', '__').upper()}" for name in CLEARED}
            chosen = [
                token
                for name, variable in given_by.items()
                if (value := os.environ.get(variable)) and name in options
                for token in (f"--{name}=null", f"--{name}={value}")
            ]
            args = [*chosen, *normalise(given, short, kinds, CONFIGS, self.class_names, options)]
            files = [token.partition("=")[2] for token in args if token.startswith("--config=")]
            for file in filter(None, [os.environ.get(f"{ENV_PREFIX}_CONFIG"), *files]):
                read_config(Path(file))
            args = self._with_named_recipes(args)
        return super().parse_args(args, *rest, **kwargs)

    def parse_path(self, path: str | os.PathLike[str], *rest: Any, **kwargs: Any) -> Any:
        """Read a configuration file; of a ready-made one, and of an old run, what this command knows."""
        file = Path(path)
        content, options = current_paths(read_config(file)), self.option_names()
        if CONFIGS in file.resolve().parents or _is_of_old_run(content, options):
            content = known_part(content, options)
        return self.parse_string(yaml.safe_dump(content, sort_keys=False), file.name, *rest, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a `UserError` in place of printing the usage and leaving, except in nested parsers."""
        if self.command is None:
            super().error(message, ex)
        classes = next((self.class_names(dest) for dest in self._classes() if f'"{dest}"' in message), [])
        raise user_error_behind(ex) or UserError(explain(message, self.option_names(), classes)) from ex

    def option_names(self) -> list[str]:
        """Return the full names of all options, with those of every class that an option may hold."""
        names = {action.dest for action in self._actions if not action.dest.startswith("_")}
        for dest, classes in self._classes().items():
            names |= {f"{dest}.{name}" for cls in classes for name in _arguments(cls)}
        return sorted(names)

    def class_names(self, option: str) -> list[str]:
        """Return the short names of the classes that ``option`` may hold."""
        return sorted({cls.__name__ for cls in self._classes().get(option, [])})

    def _classes(self) -> dict[str, list[type]]:
        """Return the options that hold an object of the project, each with the classes known so far."""
        found: dict[str, list[type]] = {}
        for action in self._actions:
            kind = getattr(action, "_typehint", None)
            for base in (kind, *get_args(kind)):
                if isinstance(base, type) and base.__module__.startswith(("gl_ris", "datamodules")):
                    found[action.dest] = [*found.get(action.dest, []), *_concrete(base)]
        return found

    def _with_named_recipes(self, args: Sequence[str]) -> list[str]:
        """Spell a recipe's name out where a field of it is set behind it.

        jsonargparse puts a field into the fields that are there, and a name has none: it would be forgotten.
        """
        spelled: list[str] = []
        named = True  # perhaps, by the defaults or the environment
        for token in args:
            if named and token.startswith(f"{_RECIPE}.") and "=" in token:
                plain = [word for word in spelled if word.partition("=")[0] not in FLAGS]
                recipe = super().parse_args(plain).model.recipe
                if isinstance(recipe, str):
                    spelled.append(f"{_RECIPE}={json.dumps(asdict(Recipe.resolve(recipe)))}")
                named = False
            named |= token.startswith(("--config=", f"{_RECIPE}="))
            spelled.append(token)
        return spelled


def known_part(content: Mapping[str, Any], options: Collection[str]) -> dict[str, Any]:
    """Leave out of ready-made settings what is for commands with other ``options``, given by full names.

    Example:
        >>> known_part({"model": {"clip": "RN50", "recipe": "clean"}, "k": 4}, ["model", "model.recipe"])
        {'model': {'recipe': 'clean'}}
    """
    groups = {name.partition(".")[0] for name in options if "." in name}
    kept: dict[str, Any] = {}
    for group, values in content.items():
        # a value of its own, or a class with its arguments, is known or not as a whole
        if group in groups and isinstance(values, dict) and not {"class_path", "init_args"} & set(values):
            values = {name: value for name, value in values.items() if f"{group}.{name}" in options}
        if group in options and values != {}:
            kept[group] = values
    return kept


def _is_of_old_run(content: Mapping[str, Any], options: Collection[str]) -> bool:
    # Every module once took what ready-made settings of data sets name, whether it had a use for it or not.
    model = content.get("model")
    return isinstance(model, dict) and {"clip", "pretrained", "alpha"} <= set(model) - set(
        name.removeprefix("model.") for name in options
    )


def user_error_behind(error: BaseException | None) -> UserError | None:
    """Return the `UserError` that ``error`` is or was caused by; jsonargparse wraps errors in others."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def _arguments(cls: type) -> Iterator[str]:
    """Yield the names of the arguments of a class, with those that ``**options`` hand on to its bases."""
    for init in [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]:
        _, *parameters = inspect.signature(init).parameters.values()
        yield from (p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return


def _concrete(base: type) -> list[type]:
    """Return ``base`` and its subclasses, without those that leave a method open."""
    children: list[type] = base.__subclasses__()
    found = dict.fromkeys([base, *(cls for child in children for cls in _concrete(child))])
    # `inspect.isabstract` knows classes of `abc.ABC` only
    members = {cls: [getattr(cls, name, None) for name in dir(cls)] for cls in found}
    return [cls for cls in found if not any(getattr(m, "__isabstractmethod__", False) for m in members[cls])]


def _parser_options(command: Command) -> dict[str, Any]:
    """Return what the parser of a command is made with, after a look at its default settings."""
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message, module=r"lightning\..*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    read_config(command.config)
    return {
        "command": command,
        "prog": as_typed(command.program),
        "description": command.summary,
        "default_config_files": [str(command.config)],
        "default_env": True,
        "env_prefix": ENV_PREFIX,
        "allow_abbrev": False,
    }


def _add_common(parser: LightningArgumentParser, names: Collection[str]) -> None:
    for name, (default, explanation) in common_options().items():
        if name in names:
            parser.add_argument(f"--{name}", type=_KINDS[name], default=default, help=explanation)


class ExperimentCLI(LightningCLI):
    """Parses the command line of an experiment and makes its parts; runs nothing.

    The parts are ``model``, a ``model_class`` by the options ``model.*``, ``datamodule``, of a class below
    ``datamodule_class``, and ``trainer``; all settings are ``config``. Defaults are those of the command's
    configuration file. `UserError` if an option is unknown or its value is wrong.
    """

    def __init__(
        self,
        command: Command,
        model_class: type[LightningModule],
        datamodule_class: type[LightningDataModule],
        *,
        args: ArgsType = None,
    ) -> None:
        self.command = command
        self._began_with: dict[str, Any] | None = None
        own: dict[str, Any] = {"parser_class": OverrideParser, "parser_kwargs": _parser_options(command)}
        super().__init__(model_class, datamodule_class, args=args, **own, **_LIGHTNING)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that every command has."""
        evaluates = issubclass(cast("type", self.model_class), Evaluator)
        _add_common(parser, [name for name in _KINDS if name != "intervals" or evaluates])

    def before_instantiate_classes(self) -> None:
        """Check what Lightning would answer with a traceback; let ``auto`` choose between CUDA and CPU only.

        `UserError` if ``trainer.devices`` is not a number of devices, or a group of options holds a value.
        """
        check_run_options(self.config)
        for name in ("model", "trainer"):
            value = self.config[name]
            if not isinstance(value, Namespace):
                raise UserError(f"{name} cannot be '{value}'; it holds options, as in {name}.NAME=VALUE.")
        if self.config.trainer.enable_progress_bar is False:
            os.environ[QUIET] = "1"
        # Apple's MPS has neither float64 nor every resize that the recipes need; it must be named.
        if self.config.trainer.accelerator == "auto" and torch.backends.mps.is_available():
            self.config.trainer.accelerator = "cpu"
        devices = self.config.trainer.devices
        if not isinstance(devices, list) and not _DEVICES.fullmatch(str(devices)):
            raise UserError(
                f"trainer.devices cannot be '{devices}'; give a number (2), a list ([0,1]) or auto."
            )

    def instantiate_classes(self) -> None:
        """Make the module, the data module and the trainer; `UserError` if one cannot be of its options."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise user_error_behind(error) or error from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer; under torchrun or srun for the processes there are, unless ``devices`` is given.

        `UserError` if its options do not go together, or not with this machine or those processes.
        """
        launched, given = as_launched(), self.config.trainer
        if given.devices == "auto" and given.num_nodes == 1:
            kwargs |= launched
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            first = " ".join(str(error).split()).partition(". ")[0].rstrip(".!")
            raise UserError(f"These trainer options do not work here: {first}.") from error
        found = {"devices": trainer.num_devices, "num_nodes": trainer.num_nodes}
        if launched and found != launched:
            raise UserError(
                f"trainer.devices={given.devices} and trainer.num_nodes={given.num_nodes} do not fit the "
                f"{launched['devices']} processes on each of {launched['num_nodes']} machines that are "
                "started already; leave both out."
            )
        take_over(trainer, f"{self.command.name}, images")
        share_cores(trainer.num_devices)
        return trainer

    @property
    def harmless(self) -> tuple[str, ...]:
        """Settings in which a run that goes on may differ from its beginning."""
        return HARMLESS

    def check(self) -> None:
        """Check, before any work, what a command has beside model and data; here there is nothing."""

    def take_settings(self, settings: dict[str, Any] | None) -> None:
        """Let the settings be those that a run began with, which differ from its own in what is harmless."""
        self._began_with = settings

    def settings(self) -> dict[str, Any]:
        """Return all settings but the place of the run; those that it began with if it goes on."""
        if self._began_with is not None:
            return self._began_with
        return settings_of(self.parser, self.config)


def parts_of(command: Command, model_class: type[LightningModule], args: ArgsType = None) -> ExperimentCLI:
    """Make the parts that a command line describes, with any of this project's data; see `ExperimentCLI`."""
    import datamodules.known  # noqa: F401  so that data.class_path takes short names
    from datamodules.base import RISDataModule

    return ExperimentCLI(command, model_class, RISDataModule, args=args)


def settings_of(parser: Any, config: Namespace) -> dict[str, Any]:
    """Return all settings that a parser has read, as plain values, but the place of the run."""
    config = config.clone()
    for name in _RUN_OPTIONS:
        config.pop(name, None)
    return yaml.safe_load(parser.dump(config, skip_none=False, skip_validation=True, format="yaml"))


def settings_parser(command: Command, settings: type, group: str | None = None) -> OverrideParser:
    """Make a parser of the arguments of a class, as ``group.*``, and of the command's common options."""
    parser = OverrideParser(**_parser_options(command))
    parser.add_argument("--config", action=ActionConfigFile, help="Settings from a YAML file.")
    parser.add_class_arguments(settings, group)
    _add_common(parser, _RUN_OPTIONS if command.common is None else command.common)
    return parser


def parse_settings(
    command: Command, settings: type, arguments: Sequence[str]
) -> tuple[dict[str, Any], str | None, bool]:
    """Read a command line whose options are the arguments of a class, as of a command that starts other runs.

    Returns the settings, as plain values; the folder, or None; whether to run everything anew. `UserError` if
    an option is wrong. ``resume`` says nothing more: grids go on by themselves.
    """
    parsed = settings_parser(command, settings).parse_args(list(arguments))
    if "resume" in parsed:
        check_run_options(parsed)
    config = parsed.as_dict()
    given = {name: config[name] for name in inspect.signature(settings).parameters}
    return given, config["run_dir"], config["overwrite"]
