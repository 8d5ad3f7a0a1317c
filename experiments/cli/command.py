"""What a command is before anything heavy is imported: its name, its help, its exit codes."""

from __future__ import annotations

import gc
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from experiments.cli.help import ROOT, WIDTH, class_options, configured, option_lines
from gl_ris.command_line import leave, print_anything, show, version
from gl_ris.errors import UserError

CONFIGS = ROOT / "configs"
ENV_PREFIX = "GL_RIS"

# Short spellings of options that several commands have.
SHORTHAND = {
    **{name: f"data.{name}" for name in ("limit", "split")},
    **{name: f"model.{name}" for name in ("alpha", "beta", "clip", "post", "proposals", "recipe")},
    **{name: f"model.{name}" for name in ("rerank", "store", "top")},
}
# Options that every command has: name, default, explanation.
COMMON = (
    ("run_dir", None, "Folder for everything the run writes; by default runs/<experiment>/<time>."),
    ("overwrite", False, "Replace an earlier run in run_dir."),
    (
        "resume",
        False,
        "Go on with the run in run_dir where it was cut off: what is finished is not done again, and all "
        "comes out as if it had not been cut off. A finished run is left as it is. Commands that start "
        "other runs (tables, fewshot, unseen_domain) go on in their run_dir by themselves, with finished "
        "runs and cut-off ones alike, unless overwrite=true.",
    ),
    (
        "wandb",
        "auto",
        "Log to wandb: online, offline, disabled, or auto (online if there is a key, else offline).",
    ),
)
_TRAINER = (
    ("trainer.devices", "auto", "How many processes or GPUs share the work."),
    ("trainer.accelerator", "auto", "cpu, gpu, mps or auto."),
    ("trainer.precision", None, "For example bf16-mixed."),
    ("trainer.enable_progress_bar", None, "false for log files."),
)
_SPELLINGS = (
    "model.alpha=0.5 and --model.alpha=0.5 mean the same, for every option. What comes later wins: "
    f"defaults, configs/{{config}}, environment ({ENV_PREFIX}_MODEL__ALPHA=0.5), then the command line from "
    "left to right."
)
_MORE = {
    "--config FILE": "settings from a YAML file, for example the config.yaml of an earlier run",
    "--print_config": "print all settings as YAML and exit; feed it back with --config",
    "--help_all": "every option, with those of Lightning's Trainer (takes longer)",
    "--version": "print the version and exit",
    "--data.help=CLASS": "the options of one data module, for example RefCOCO",
}


def check_run_options(config: Any) -> None:
    """Raise a `UserError` for a run that would go on and begin anew at once, or go on nowhere."""
    if config.resume and config.overwrite:
        raise UserError("resume=true goes on with a run and overwrite=true begins it anew; give one of them.")
    if config.resume and config.run_dir is None:
        raise UserError("resume=true needs run_dir=FOLDER, the folder of the run to go on with.")


@dataclass(frozen=True)
class Command:
    """One experiment on the command line."""

    # name of the module in `experiments`, of ``configs/<name>.yaml`` and of the folder in ``runs``
    name: str
    # what it does, in a sentence or two
    summary: str
    # pairs of arguments and what they do
    examples: tuple[tuple[str, str], ...]
    # Short spellings of options, e.g. ``{"limit": "data.limit"}``.
    shorthand: Mapping[str, str] = field(default_factory=dict)
    # kinds of ready-made settings that it knows: folders of ``configs``
    groups: tuple[str, ...] = ()
    # options to explain in the help: prefixes, and the classes that take them, as ``module:Class``
    explained: tuple[tuple[str, str], ...] = ()
    # what stands in place of ``name`` on the command line, if anything does
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

    def help(self) -> str:
        """Return the help: spellings, examples, ready-made settings, the options that matter."""
        return "\n".join(
            [
                f"usage: {self.program} [NAME=VALUE | --NAME=VALUE | --NAME VALUE] ...",
                "",
                _paragraph(self.summary),
                "",
                _paragraph(_SPELLINGS.format(config=self.config.name)),
                "",
                "examples:",
                *(f"  {self.program} {words}".rstrip() + f"\n      {what}" for words, what in self.examples),
                "",
                *self._ready_made(),
                *self._explained(),
                "",
                "every command:",
                *(line for option in (*COMMON, *_TRAINER) for line in option_lines(*option)),
                "",
                "more:",
                *(f"  {name}".ljust(22) + what for name, what in _MORE.items()),
            ]
        )

    def _ready_made(self) -> Iterator[str]:
        if self.groups:
            yield "ready-made settings (files in configs/, which every other option can change):"
        for kind, names in self.settings().items():
            yield _paragraph(", ".join(names), f"  {kind}=NAME".ljust(22))
        if self.shorthand:
            yield "\nshort spellings:"
            yield _paragraph(
                ", ".join(f"{name}={full}" for name, full in sorted(self.shorthand.items())), "  "
            )

    def _explained(self) -> Iterator[str]:
        for prefix, where in self.explained:
            yield f"\n{prefix} ({where.partition(':')[2]}):" if prefix else "\noptions:"
            own = configured(self.config, prefix)
            for name, option in class_options(where).items():
                full = f"{prefix}.{name}".lstrip(".")
                yield from option_lines(full, own.get(name, option.default), option.text)


def _paragraph(text: str, first: str = "") -> str:
    rest = " " * len(first)
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def run(command: Command, main: Callable[[], None]) -> NoReturn:
    """Run a command and leave the process, as `gl_ris.command_line.leave` does.

    Args:
        command: For the help, which is printed without importing what ``main`` needs.
        main: Does the work.
    """
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    print_anything()
    if {"-h", "--help"} & set(sys.argv[1:]):
        show(command.help())
        sys.exit(0)
    if "--version" in sys.argv[1:]:
        show(version())
        sys.exit(0)
    # imports leave half a million objects that stay: looking through all of them finds nothing and takes long
    gc.set_threshold(*gc.get_threshold()[:2], 1000)
    leave(main)
