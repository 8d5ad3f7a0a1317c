"""``gl-ris``: every command by its name, ``gl-ris zero_shot`` for ``python -m experiments.zero_shot``."""

import os
import re
import runpy
import sys
from collections.abc import Sequence
from typing import NoReturn

from experiments.cli.help import ROOT, paragraph
from gl_ris.command_line import SCRIPT, exit_code, print_anything, show, version
from gl_ris.errors import unknown_name
from gl_ris.files import read_table

_DATA = "datamodules"  # its commands are those that its commands.yaml explains
_SUMMARY = re.compile(r'"""(.+?): ``python -m [\w.]+')
_INDENT = 24


def commands() -> dict[str, str]:
    """Return the module of each command, by its name."""
    own = sorted(file.stem for file in (ROOT / "experiments").glob("[a-z]*.py"))
    data = read_table(ROOT / _DATA / "commands.yaml")
    return {name: f"experiments.{name}" for name in own} | {name: f"{_DATA}.{name}" for name in data}


def overview() -> str:
    """Name all commands, each with the first line of its module, which says what it does."""
    lines = ["usage: gl-ris COMMAND ...", "", "Zero-shot referring image segmentation with CLIP.", ""]
    for name, module in commands().items():
        source = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        found = _SUMMARY.match(source.read_text(encoding="utf-8"))
        lines.append(paragraph(found[1] if found else "", f"  {name}".ljust(_INDENT)))
    lines += ["", "gl-ris COMMAND --help explains one; gl-ris --version prints the version."]
    return "\n".join(lines)


def start(words: Sequence[str]) -> None:
    """Become the command that the first word names, as ``python -m MODULE`` would; or name all commands."""
    if not words or words[0] in ("-h", "--help", "--version"):
        show(version() if "--version" in words[:1] else overview())
        return
    known = commands()
    module = known.get(words[0].replace("-", "_"))
    if module is None:
        raise unknown_name("command", words[0], known)
    sys.argv = list(words)
    # classes of one's own are found in the working folder, as by python -m, but in front of nothing
    sys.path.append(os.getcwd())
    # processes that Lightning starts are told by __main__ what to run: python -m MODULE
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> NoReturn:
    """Answer ``gl-ris``; this process leaves with the exit code of the command."""
    os.environ[SCRIPT] = "gl-ris"
    print_anything()
    sys.exit(exit_code(lambda: start(sys.argv[1:])))
