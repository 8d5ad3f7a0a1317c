"""The argument parser of all commands: native options, short spellings, ready-made settings, kind errors."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from experiments.cli.command import CONFIGS, ENV_PREFIX, Command
from experiments.cli.messages import explain
from experiments.cli.moved import current_paths, without_unused
from experiments.cli.named_recipes import read_recipe, recipe_in, spelled_out
from experiments.cli.overrides import ANEW, normalise
from gl_ris.errors import UserError


class OverrideParser(LightningArgumentParser):
    """Reads ``name=value`` like ``--name=value``; what is wrong is a `UserError` of a sentence or two.

    The rewriting happens in here, so ``sys.argv`` stays as it is and a child process that Lightning starts
    with it reads the same.

    Args:
        *args: Those of the base class.
        command: The command whose short spellings are understood. jsonargparse makes parsers of this class
            for nested options, too; they have no command.
        **kwargs: Those of the base class.
    """

    def __init__(self, *args: Any, command: Command | None = None, **kwargs: Any) -> None:
        self.command = command
        super().__init__(*args, **kwargs)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any
    ) -> Any:
        """Parse the command line.

        Raises:
            UserError: Something in it, or in a configuration file that it names, is wrong.
        """
        if self.command is not None:
            given = current_paths(list(sys.argv[1:] if args is None else args))
            options = self.option_names()
            groups = self.command.settings()
            args = [
                *_chosen_by_environment(options),
                *normalise(given, self.command.shorthand, groups, CONFIGS, self.class_names, options),
            ]
            for token in args:
                if token.startswith("--config="):
                    check_config(Path(token.removeprefix("--config=")))
            args = list(spelled_out(args, *_recipes_before(self.command.config)))
        return super().parse_args(args, *rest, **kwargs)

    def parse_path(self, path: str | os.PathLike[str], *rest: Any, **kwargs: Any) -> Any:
        """Read a configuration file; of a ready-made one, what this command knows."""
        file = Path(path)
        content = current_paths(file.read_text(encoding="utf-8"))
        if CONFIGS in file.resolve().parents:
            content = yaml.safe_dump(known_part(yaml.safe_load(content), self.option_names()))
        else:
            content = without_unused(content, self.option_names())
        return self.parse_string(content, file.name, *rest, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a `UserError` in place of printing the usage and leaving.

        Raises:
            UserError: Always, except in nested parsers.
        """
        if self.command is None:
            super().error(message, ex)
        raise user_error_behind(ex) or UserError(
            explain(message, self.option_names(), self._class_names_in(message))
        ) from ex

    def option_names(self) -> list[str]:
        """Return the full names of all options, with those of every class that an option may hold."""
        names = [action.dest for action in self._actions if not action.dest.startswith("_")]
        nested = [
            f"{dest}.{argument}"
            for dest, classes in self._classes()
            for cls in classes
            for argument in inspect.signature(cls).parameters
        ]
        return sorted({*names, *nested})

    def class_names(self, option: str) -> list[str]:
        """Return the short names of the classes that ``option`` may hold."""
        return sorted(
            {cls.__name__ for dest, classes in self._classes() if dest == option for cls in classes}
        )

    def _class_names_in(self, message: str) -> list[str]:
        return next((self.class_names(dest) for dest, _ in self._classes() if f'"{dest}"' in message), [])

    def _classes(self) -> Iterator[tuple[str, list[type]]]:
        """Yield each option that holds an object of the project, with the classes known so far."""
        for action in self._actions:
            kind = getattr(action, "_typehint", None)
            bases = [cls for cls in (kind, *get_args(kind)) if _is_ours(cls)]
            if bases and not action.dest.startswith("trainer"):
                yield action.dest, [cls for base in bases for cls in _concrete(base)]


def _chosen_by_environment(options: Sequence[str]) -> list[str]:
    """Return the arguments that choose what the environment chooses, and that with its own defaults."""
    given = {name: os.environ.get(f"{ENV_PREFIX}_{name.replace('.', '__').upper()}") for name in ANEW}
    chosen = {name: value for name, value in given.items() if value and name in options}
    return [token for name, value in chosen.items() for token in (f"--{name}=null", f"--{name}={value}")]


def _recipes_before(defaults: Path) -> Iterator[Any]:
    """Yield the recipes that are set before the command line is read, the last one first.

    Raises:
        UserError: A variable of the environment is set to something that cannot be read.
    """
    if given := os.environ.get(f"{ENV_PREFIX}_MODEL__RECIPE"):
        yield read_recipe(given)
    if file := os.environ.get(f"{ENV_PREFIX}_CONFIG"):
        check_config(Path(file))
        yield recipe_in(Path(file))
    yield recipe_in(defaults)


def known_part(content: Mapping[str, Any], options: Collection[str]) -> dict[str, Any]:
    """Leave out of ready-made settings what is for other commands: options of groups that have none such.

    Args:
        content: The settings.
        options: Full names of all options of a command.

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


def check_config(path: Path) -> None:
    """Check that a configuration file is there and is YAML with options in it.

    Raises:
        UserError: It is not.
    """
    try:
        content = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The configuration file '{path}' cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeError) as error:
        where = f" in line {error.problem_mark.line + 1}" if hasattr(error, "problem_mark") else ""
        what = getattr(error, "problem", None) or "it is not text"
        raise UserError(f"The configuration file '{path}' is not YAML: {what}{where}.") from error
    if not isinstance(content, dict | None) or not _has_names(content):
        raise UserError(f"The configuration file '{path}' must hold options such as 'model: {{alpha: 0.5}}'.")


def _has_names(content: Any) -> bool:
    """Say whether all keys, at every depth, are text."""
    if isinstance(content, list):
        return all(map(_has_names, content))
    if not isinstance(content, dict):
        return True
    return all(isinstance(name, str) and _has_names(value) for name, value in content.items())


def user_error_behind(error: BaseException | None) -> UserError | None:
    """Return the `UserError` that ``error`` is or was caused by; jsonargparse wraps errors in others."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def _is_ours(cls: object) -> bool:
    return isinstance(cls, type) and cls.__module__.partition(".")[0] in ("gl_ris", "datamodules")


def _concrete(base: type) -> list[type]:
    """Return ``base`` and its subclasses, without those that cannot be made."""
    children: list[type] = base.__subclasses__()
    found = [base, *(cls for child in children for cls in _concrete(child))]
    return [cls for cls in dict.fromkeys(found) if not _has_abstract_methods(cls)]


def _has_abstract_methods(cls: type) -> bool:
    """Say whether a class leaves something open; `inspect.isabstract` knows classes of `abc.ABC` only."""
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in dir(cls))
