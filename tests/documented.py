"""Every command line that the documents and the help texts show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from experiments.cli.command import Command

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "gl_ris" / "assets").glob("*/README.md")),
    *sorted((ROOT / "configs").rglob("*.yaml")),
]
# how a line of commands begins
_PROGRAMS = r"(?:python -m [\w.]+|pip |pytest|ruff |pre-commit |mypy|hf |gl-ris |spacy |torchrun |srun )"


class Line(NamedTuple):
    """One command line, with where it stands."""

    where: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return shlex.join(self.words)


def documented_lines() -> list[Line]:
    """Return each command line of the pages and of the helps once, by where it stands first."""
    found: dict[tuple[str, ...], Line] = {}
    for line in [*_of_pages(), *_of_helps()]:
        found.setdefault(line.words, line)
    return list(found.values())


def _of_pages() -> Iterator[Line]:
    for page in PAGES:
        # comments of YAML are text, too; a backslash goes on in the next line
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"^#+ ?", "", text, flags=re.MULTILINE) if page.suffix == ".yaml" else text
        text = re.sub(r"\\\n\s*", " ", text)
        shown = re.findall(rf"^ *({_PROGRAMS}.*)$", text, re.MULTILINE)
        inline = re.findall(rf"`({_PROGRAMS}[^`]*)`", text.replace("\n", " "))
        inline += re.findall(rf": ({_PROGRAMS}.*)$", text, re.MULTILINE) if page.suffix == ".yaml" else []
        for command in [*shown, *inline]:
            for part in command.split("&&"):
                words = tuple(shlex.split(part, comments=True))
                # prose that begins like a command
                if words and (page.suffix != ".yaml" or words[:2] == ("python", "-m")):
                    yield Line(str(page.relative_to(ROOT)), words)


def _of_helps() -> Iterator[Line]:
    for file in sorted((ROOT / "experiments").glob("[a-z]*.py")):
        module = import_module(f"experiments.{file.stem}")
        for command in {id(c): c for c in vars(module).values() if isinstance(c, Command)}.values():
            for arguments, _ in command.examples:
                line = f"{command.program} {arguments}"
                yield Line(f"experiments.{file.stem} --help", tuple(shlex.split(line)))
    for name in ("check", "download"):
        for line in re.findall(
            r"^  (python -m .*)$", import_module(f"datamodules.{name}")._EXAMPLES, re.MULTILINE
        ):
            yield Line(f"datamodules.{name} --help", tuple(shlex.split(line)))
