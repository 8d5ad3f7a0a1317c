"""The command line of commands that start runs of other commands."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from experiments.cli.command import ENV_PREFIX, Command
from experiments.cli.help import COMMON

_RUN_OPTIONS = ("run_dir", "overwrite")


def parse_settings(
    command: Command, settings: type, arguments: Sequence[str]
) -> tuple[dict[str, Any], str | None, bool]:
    """Read a command line whose options are those of a class of settings, and the place of the run.

    Args:
        command: The command; its configuration file gives the defaults.
        settings: The class.
        arguments: The command line, all of it the command's own.

    Returns:
        The settings, as plain values; the folder, or None; whether to run everything anew.

    Raises:
        UserError: An option is wrong.
    """
    from jsonargparse import ActionConfigFile

    from experiments.cli.parser import OverrideParser, check_config
    from experiments.cli.parts import quieten

    quieten()
    check_config(command.config)
    parser = OverrideParser(
        command=command,
        prog=command.program,
        description=command.summary,
        default_config_files=[str(command.config)],
        default_env=True,
        env_prefix=ENV_PREFIX,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="Settings from a YAML file.")
    parser.add_class_arguments(settings)
    for name, default, explanation in COMMON[: len(_RUN_OPTIONS)]:
        parser.add_argument(
            f"--{name}", type=str | None if default is None else bool, default=default, help=explanation
        )
    config = parser.parse_args(list(arguments)).as_dict()
    given = {name: config[name] for name in inspect.signature(settings).parameters}
    return given, config["run_dir"], config["overwrite"]
