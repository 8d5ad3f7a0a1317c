from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from experiments import fewshot, sweep, tables, unseen_domain
from experiments.cli.command import CONFIGS, Command
from experiments.cli.help import class_options
from experiments.zero_shot import COMMAND

ROOT = Path(__file__).parents[3]
REPORT = """
import runpy, sys
sys.argv = ["experiments.{name}", *{arguments!r}]
try:
    runpy.run_module("experiments.{name}", run_name="__main__", alter_sys=True)
except SystemExit as done:
    print("code", done.code)
print("IMPORTED", *sorted(sys.modules))
"""


def report(*arguments: str, name: str = "zero_shot") -> tuple[str, set[str]]:
    """Output of the command, and every module that it has imported in the end."""
    code = REPORT.format(name=name, arguments=list(arguments))
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=1000, check=True
    )
    output, _, modules = answer.stdout.rpartition("IMPORTED ")
    return output, set(modules.split())


@pytest.mark.parametrize(("name", "spelling"), [("zero_shot", "--help"), ("fewshot", "-h")])
def test_help_imports_nothing_heavy(name: str, spelling: str) -> None:
    output, modules = report(spelling, name=name)
    assert output.startswith(f"usage: python -m experiments.{name}")
    assert output.endswith("code 0\n")
    heavy = {"torch", "lightning", "jsonargparse", "numpy", "pandas", "spacy", "open_clip", "wandb"}
    assert not modules & heavy


@pytest.mark.slow
def test_parsing_imports_no_library_that_only_a_run_needs() -> None:
    output, modules = report("--print_config")
    assert "alpha: 0.4" in output
    assert "lightning" in modules
    assert not modules & {"open_clip", "spacy", "wandb", "skimage", "pycocotools"}


def test_help_explains_options_from_the_source() -> None:
    text = COMMAND.help()
    for expected in (
        "model.alpha=0.5 and --model.alpha=0.5 mean the same",
        "Share of the global visual feature",
        "data.split",
        "trainer.devices",
        "run_dir",
        "limit=data.limit",
        "--trainer.devices=2",
        "data=NAME           folder, grefcoco, ",
    ):
        assert expected in text
    listed = text[text.index("data=NAME") + len("data=NAME") : text.index("proposals=NAME")]
    assert sorted(listed.replace(",", " ").split()) == sorted(
        path.stem for path in (ROOT / "configs" / "data").glob("*.yaml")
    )
    assert "``" not in text


@pytest.mark.parametrize(
    ("command", "option", "default"),
    [
        (COMMAND, "model.alpha", "[0.4]"),
        (COMMAND, "model.beta", "[0.75]"),
        (COMMAND, "model.masked_blocks", "[1]"),
        (COMMAND, "model.methods", "[global_local]"),
        (COMMAND, "model.proposals", "[SLIC]"),
        (COMMAND, "model.store", "[true]"),
        (COMMAND, "model.post", "stores keep them as they were made."),
        (COMMAND, "data.dataset", "[refshapesg]"),
        (sweep.COMMAND, "model.alpha", "[0.4]"),
        (tables.COMMAND, "data", "[refshapes, refshapes+, refshapesg]"),
        (tables.COMMAND, "encoders", "{rn: refshapes-rn, vit: refshapes-vit}"),
        (fewshot.COMMAND, "k", "[1, 4, 16, 64, 256]"),
        (unseen_domain.COMMAND, "unseen_split", "[test]"),
        (COMMAND, "overwrite", "[false]"),
    ],
)
def test_defaults_are_those_that_a_run_without_options_has(
    command: Command, option: str, default: str
) -> None:
    lines = command.help().partition(f"\n  {option} ")[2].splitlines()
    others = [number for number, line in enumerate(lines) if number and not line.startswith(" " * 10)]
    assert " ".join(" ".join(lines[: others[0]]).split()).endswith(f" {default}")


def helps() -> dict[str, str]:
    """The help of every command that declares one, by name; of `proposals`, also that of its report."""
    modules = [import_module(f"experiments.{f.stem}") for f in (ROOT / "experiments").glob("[a-z]*.py")]
    found = [
        command for module in modules for command in vars(module).values() if isinstance(command, Command)
    ]
    return {command.program: command.help() for command in found}


@pytest.mark.parametrize(("program", "text"), sorted(helps().items()))
def test_help_shows_what_can_be_typed_and_no_name_out_of_the_source(program: str, text: str) -> None:
    # of a command without a run folder, all of it
    shown = text[max(0, text.find("\n  run_dir")) :] + text.partition("ready-made")[2]
    assert not re.findall(r"\[_?[A-Z]+_[A-Z_]+\]|\bNone\b|``", shown)


def test_options_without_a_prefix_are_explained_too() -> None:
    lines = tables.COMMAND.help().splitlines()
    assert "options:" in lines
    assert [line for line in lines if line.startswith("  encoders  ")]
    assert [line for line in lines if line.startswith("  splits  ") and "Splits, a list" in line]


SOURCE = '''
from dataclasses import dataclass
from toy.base import Base, LONGEST as MOST
from elsewhere import Foreign

OWN = 7

class Thing(Foreign, Base):
    """A thing.

    Args:
        first: The first.
        most: The most.
        own: Its own.
        made: An object.
        far: Told here, made there.
    """

    def __init__(self, first, most=MOST, own=OWN, *, made=Base(3), undocumented=1, **options):
        super().__init__(fixed=first, **options)

class Heir(Thing):
    """Has no arguments of its own."""

class Closed(Base):
    """Hands nothing on.

    Args:
        only: Nothing else.
    """

    def __init__(self, only=None):
        super().__init__()

@dataclass
class Settings(Thing):
    """Settings.

    Args:
        k: How many.
    """

    k: int = 4
'''
BASE = '''
LONGEST = [1, "two"]

class Base:
    """A base.

    Args:
        fixed: Set by the class above.
        first: Explained by the class above.
        far: Not shown.
        near: Left to the user, ``as it is``.
    """

    def __init__(self, fixed, first=0, far=1.5, near="here"):
        pass
'''


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Thing",
            {
                "first": (None, "The first."),
                "most": ("[1, two]", "The most."),
                "own": ("7", "Its own."),
                "made": (None, "An object."),
                "far": ("1.5", "Told here, made there."),
                "near": ("here", "Left to the user, ``as it is``."),
            },
        ),
        ("Heir", ["first", "most", "own", "made", "far", "near"]),
        ("Closed", {"only": ("null", "Nothing else.")}),
        ("Settings", ["k", "first", "most", "own", "made", "far", "near"]),
    ],
)
def test_options_are_followed_to_the_classes_that_take_them(
    name: str, expected: dict[str, object] | list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "__init__.py").write_text("if 0:\n    from toy.source import Thing as Public\n")
    (tmp_path / "toy" / "source.py").write_text(SOURCE)
    (tmp_path / "toy" / "base.py").write_text(BASE)
    monkeypatch.setattr("experiments.cli.help.ROOT", tmp_path)
    found = class_options(f"toy.source:{name}")
    assert (list(found) if isinstance(expected, list) else found) == expected
    if name == "Thing":
        assert class_options("toy:Public") == found


def test_help_of_a_bare_command() -> None:
    text = Command(name="toy", summary="Does nothing.", examples=()).help()
    assert text.startswith("usage: python -m experiments.toy ")
    assert "short spellings" not in text
    assert "ready-made" not in text


def test_groups_are_the_files_in_the_configuration_folder() -> None:
    settings = COMMAND.settings()
    assert list(settings) == ["data", "proposals", "row"]
    for kind, names in settings.items():
        assert names == sorted(path.stem for path in (CONFIGS / kind).iterdir())
    assert {"refshapes", "refshapes+", "refshapesg"} <= set(settings["data"])
    assert {"felzenszwalb", "ground_truth"} <= set(settings["proposals"])


def test_help_may_be_cut_off_by_its_reader() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.zero_shot", "--help"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(1000) == 0
