"""What a command is before anything heavy is imported: its name, its help, its exit codes."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from experiments.cli.help import CONFIGS as CONFIGS
from experiments.cli.help import ROOT as ROOT
from experiments.cli.help import class_options, configured, option_lines, paragraph
from gl_ris.command_line import leave, print_anything, show, version
from gl_ris.errors import UserError
from gl_ris.files import read_table
from gl_ris.signals import left_to_another

_COMMANDS = CONFIGS / "commands.yaml"
ENV_PREFIX = "GL_RIS"
_FEW = 4  # folders that are named

# Short spellings of options that several commands have.
SHORTHAND = {
    **{name: f"data.{name}" for name in ("limit", "split")},
    **{name: f"model.{name}" for name in ("alpha", "beta", "clip", "masked_blocks", "post")},
    **{
        name: f"model.{name}"
        for name in ("proposals", "recipe", "abstain", "rerank", "store", "top", "union")
    },
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

    name: str  # name of the module in `experiments`, of ``configs/<name>.yaml`` and of the folder in ``runs``
    summary: str  # what it does, in a sentence or two
    examples: tuple[tuple[str, str], ...]  # pairs of arguments and what they do
    # Short spellings of options, e.g. ``{"limit": "data.limit"}``.
    shorthand: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()  # kinds of ready-made settings that it knows: folders of ``configs``
    # options to explain in the help: prefixes, and the classes that take them, as ``module:Class``
    explained: tuple[tuple[str, str], ...] = ()
    words: str = ""  # what stands in front of options, if anything does
    common: tuple[str, ...] | None = None  # of the options of every command those that it has; all if None
    spelling: str | None = None  # what stands in place of ``name`` on the command line, if anything does

    @classmethod
    def documented(cls, name: str, spelling: str | None = None) -> Command:
        """Make the command of a name out of what ``configs/commands.yaml`` says of it."""
        own, short = read_table(_COMMANDS)[name], dict[str, str]()
        for option in own.get("shorthand", ()):
            # a short spelling is the last part of the name
            more = {option.rpartition(".")[2]: SHORTHAND.get(option, option)}
            short |= SHORTHAND if option == "all" else more
        words = own["summary"], tuple(own["examples"].items())
        explained = tuple(own["explained"].items())
        common = tuple(own["common"]) if "common" in own else None
        more = {"words": own.get("words", ""), "common": common, "spelling": spelling}
        return cls(name, *words, short, tuple(own.get("groups", ())), explained, **more)

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
        every = read_table(_COMMANDS)["every command"]
        return "\n".join(
            [
                f"usage: {self.program} {self.words}[NAME=VALUE | --NAME=VALUE | --NAME VALUE] ...",
                f"\n{paragraph(self.summary)}\n",
                paragraph(every["spellings"].format(config=self.config.name, prefix=ENV_PREFIX)),
                "\nexamples:",
                *(f"  {self.program} {words}".rstrip() + f"\n      {what}" for words, what in self.examples),
                "",
                *self._ready_made(),
                *self._explained(),
                *self._common(every["options"]),
                "\nmore:",
                *(f"  {name}".ljust(22) + what for name, what in every["more"].items()),
            ]
        )

    def _ready_made(self) -> Iterator[str]:
        if self.groups:
            yield "ready-made settings (files in configs/, which every other option can change):"
        for kind, names in self.settings().items():
            yield paragraph(", ".join(names), f"  {kind}=NAME".ljust(22))
        if self.shorthand:
            yield "\nshort spellings:"
            yield paragraph(", ".join(map("=".join, sorted(self.shorthand.items()))), "  ")

    def _common(self, options: Mapping[str, tuple[Any, str]]) -> Iterator[str]:
        if self.common != ():
            yield "\nevery command:"
        for name, of in options.items():
            if self.common is None or name in self.common:
                yield from option_lines(name, *of)

    def _explained(self) -> Iterator[str]:
        for prefix, where in self.explained:
            yield f"\n{prefix} ({where.partition(':')[2]}):" if prefix else "\noptions:"
            own = configured(self.config, prefix)
            for name, option in class_options(where).items():
                full = f"{prefix}.{name}".lstrip(".")
                yield from option_lines(full, own.get(name, option.default), option.text)


def common_options() -> Mapping[str, tuple[Any, str]]:
    """Return the options that every command may have, by name: the default, and what it is for."""
    return dict[str, tuple[Any, str]](read_table(_COMMANDS)["every command"]["options"])


def closing_words(name: str, folder: Path, **facts: object) -> None:
    """Say what the command of a name has written, and which one is useful next, by ``next`` of the table."""
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files, folders = [p.name for p in paths if p.is_file()], [f"{p.name}/" for p in paths if p.is_dir()]
    folders = folders if len(folders) <= _FEW else [f"{len(folders):,} folders"]
    lines = [f"Run folder   {folder}", paragraph(", ".join([*files, *folders]), "Written      ")]
    following = read_table(_COMMANDS)["next"].get(name)
    if following is not None and not left_to_another():
        lines.append("Next         " + following.format(folder=shlex.quote(str(folder)), **facts))
    show("\n".join(lines))


def run(command: Command, main: Callable[[], None]) -> NoReturn:
    """Run ``main`` and leave the process, as `gl_ris.command_line.leave` does.

    The help of ``command`` is printed without importing what ``main`` needs.
    """
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    print_anything()
    for names, said in (({"-h", "--help"}, command.help), ({"--version"}, version)):
        if names & set(sys.argv[1:]):
            show(said())
            sys.exit(0)
    # imports leave half a million objects that stay: looking through all of them finds nothing and takes long
    gc.set_threshold(*gc.get_threshold()[:2], 1000)
    leave(main)
