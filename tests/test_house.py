"""The order of the house: which room may know which, what is a command, and how large a file may be.

Read from the syntax of all modules, so that an import counts wherever it stands: inside functions, too, and
where only types are checked.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("gl_ris", "datamodules", "experiments")
# From the ground up: a module may know its own floor and those below. Commands are on the top.
FLOORS = (
    ("gl_ris",),
    ("datamodules",),
    ("experiments.cli",),
    ("experiments.run",),
    ("experiments.grid", "experiments.reporting"),
    ("experiments",),
)
LONGEST = 400
# What several rooms have under one name, and why nobody takes one for the other. A command may be called like
# the module whose work it starts.
SHARED_NAMES = {
    "__init__": "of packages",
    "base": "what all modules of a folder have in common",
    "files": "for every room, for annotations, and of the hub",
    "network": "of the model that the folder is named after",
    "recipe": "how the model that the folder is named after learns, or how all scorers read the paper",
    "run": "experiments.run is a folder",
}
HEAVY = {
    "torch",
    "lightning",
    "jsonargparse",
    "numpy",
    "pandas",
    "spacy",
    "open_clip",
    "transformers",
    "wandb",
}
HELP_OF_ALL = """
import contextlib, io, runpy, sys
for words in {lines!r}:
    sys.argv, text = [*words, "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as done:
        print(words[0], done.code, text.getvalue().startswith("usage: "))
print(*sorted(sys.modules))
"""


@functools.cache
def modules() -> dict[str, Path]:
    """Modules of the three rooms by their dotted names; packages are called like their folders."""
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return {name.removesuffix(".__init__"): file for name, file in zip(names, files, strict=True)}


@functools.cache
def imports(module: str) -> frozenset[str]:
    """The modules of the three rooms that a module imports, wherever that stands in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else str(node.module) for name in names}
    return frozenset(found & set(modules())) - {module}


def floor(module: str) -> int:
    homes = [
        (len(home), number) for number, homes in enumerate(FLOORS) for home in homes if lies_in(module, home)
    ]
    return max(homes)[1]


def lies_in(module: str, home: str) -> bool:
    return module == home or module.startswith(f"{home}.")


def commands() -> list[str]:
    return [name for name in modules() if name.count(".") == 1 and floor(name) == len(FLOORS) - 1]


def test_the_graph_is_that_of_this_house() -> None:
    assert len(modules()) > 100
    assert "gl_ris.scorers.base" in imports("gl_ris.scorers.global_local")
    assert "experiments.run.evaluate" in imports("experiments.zero_shot"), "imports inside functions count"
    assert "zero_shot" in {name.partition(".")[2] for name in commands()}
    assert [floor(name) for name in ("gl_ris.masks", "experiments.cli.help", "experiments.sweep")] == [
        0,
        2,
        5,
    ]


@pytest.mark.parametrize("module", sorted(modules()))
def test_rooms_point_one_way(module: str) -> None:
    assert {other for other in imports(module) if floor(other) > floor(module)} == set()


def test_there_are_no_circles() -> None:
    try:
        TopologicalSorter({module: imports(module) for module in modules()}).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("command", commands())
def test_the_top_level_of_experiments_has_nothing_but_commands(command: str) -> None:
    tree = ast.parse(modules()[command].read_text(encoding="utf-8"))
    assert isinstance(tree.body[-1], ast.If)
    assert ast.unparse(tree.body[-1].test) == "__name__ == '__main__'"
    assert "main" in {getattr(node, "name", None) for node in tree.body}
    assert f"python -m {command}" in (ast.get_docstring(tree) or "")


def test_no_file_is_longer_than_one_can_hold_in_the_head() -> None:
    folders = [*ROOMS, "tools"]
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    lines = {
        file: [line for line in file.read_text().splitlines() if line.strip()[:1] != "#"] for file in files
    }
    assert {str(file): len(found) for file, found in lines.items() if len(found) > LONGEST} == {}


def test_no_two_modules_have_a_name_that_confuses() -> None:
    homes = defaultdict(list)
    for name in modules():
        homes[name.rpartition(".")[2]].append(name)
    doubles = {name: found for name, found in homes.items() if name not in SHARED_NAMES and len(found) > 1}
    doors = {name.rpartition(".")[2] for name in commands()}
    assert {name: found for name, found in doubles.items() if name not in doors or len(found) > 2} == {}


def test_every_command_answers_help_and_imports_nothing_heavy_for_it() -> None:
    lines = [[name] for name in [*commands(), "datamodules.download", "datamodules.check"]]
    code = HELP_OF_ALL.format(lines=[*lines, ["experiments.proposals", "report"]])
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=1000, check=True
    )
    *answers, imported = answer.stdout.splitlines()
    expected = [f"{name} 0 True" for name, *_ in [*lines, ["experiments.proposals"]]]
    assert answers == expected
    assert set(imported.split()) & HEAVY == set()
