"""What a command is before anything heavy is imported: its name, its help, its exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from gl_ris.command_line import exit_code, show

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
ENV_PREFIX = "GL_RIS"

# Short spellings of options that several commands have.
SHORTHAND = {
    "alpha": "model.alpha",
    "beta": "model.beta",
    "clip": "model.clip",
    "limit": "data.limit",
    "post": "model.post",
    "proposals": "model.proposals",
    "recipe": "model.recipe",
    "split": "data.split",
    "store": "model.store",
}


@dataclass(frozen=True)
class Command:
    """One experiment on the command line.

    Attributes:
        name: Name of the module in `experiments`, of ``configs/<name>.yaml`` and of the folder in ``runs``.
        summary: What it does, in a sentence or two.
        examples: Pairs of arguments and what they do.
        shorthand: Short spellings of options, e.g. ``{"limit": "data.limit"}``.
        groups: Kinds of ready-made settings that it knows: folders of ``configs``.
        explained: Options to explain in the help: for each prefix, the source file (relative to the project)
            and the class whose ``__init__`` takes them.
        spelling: What stands in place of ``name`` on the command line, if anything does.
    """

    name: str
    summary: str
    examples: tuple[tuple[str, str], ...]
    shorthand: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    explained: tuple[tuple[str, str, str], ...] = ()
    spelling: str | None = None

    @property
    def program(self) -> str:
        """What a user types to start it."""
        return f"python -m experiments.{self.spelling or self.name}"

    @property
    def config(self) -> Path:
        """The file with its default settings."""
        return CONFIGS / f"{self.name}.yaml"

    def settings(self) -> dict[str, list[str]]:
        """Return the names of the ready-made settings of each kind."""
        return {kind: sorted(file.stem for file in (CONFIGS / kind).glob("*.yaml")) for kind in self.groups}


def run(command: Command, main: Callable[[], None]) -> NoReturn:
    """Run a command and leave the process: code 0, 2 for what the user can mend, 1 for all other failures.

    Args:
        command: For the help, which is printed without importing what ``main`` needs.
        main: Does the work.
    """
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    if {"-h", "--help"} & set(sys.argv[1:]):
        from experiments.cli.help import help_text

        show(help_text(command))
        sys.exit(0)
    sys.exit(exit_code(main))
