"""Damaged and hostile files for every reader: a few hundred by default, many in the slow tests.

`python -m tests.fuzz` runs as many as are wanted.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.mutate import Hostile
from fuzz.runner import Target, Wrong, run_here
from fuzz.targets import TARGETS
from gl_ris.errors import UserError

ROOT = Path(__file__).parents[1]
# those that read folders of models take their time
HERE = [name for name, target in TARGETS.items() if target.milliseconds < 50]
CASES = {"rle": 200, "polygons": 100, "packed": 60}


@pytest.mark.parametrize("name", HERE)
def test_damaged_files_are_read_as_an_oracle_reads_them_or_refused(name: str) -> None:
    tally = run_here(TARGETS[name], range(CASES.get(name, 25)), seed=0)
    assert tally.finds == []
    assert sum(tally.outcomes.values()) == CASES.get(name, 25)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_damaged_files(name: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "40s", "--seed", "1000", "--target", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9][\d,]* cases: .* 0 finds", done.stdout)


def wrong() -> str:
    raise Wrong("another value")


def mark() -> str:
    Path(Hostile.mark).mkdir()
    return "read"


def refused() -> str:
    raise UserError("a lone surrogate \ud800")


@pytest.mark.parametrize(
    ("case", "find"),
    [
        (wrong, "another value"),
        (lambda: str(1 // 0), "ZeroDivisionError"),
        (mark, "code was run"),
        (refused, "cannot be printed"),
        (lambda: str(len(bytearray(700 << 20))), "took .* MB"),
    ],
    ids=["value", "exception", "code", "message", "memory"],
)
def test_what_is_wrong_is_found(case: object, find: str) -> None:
    assert callable(case)
    tally = run_here(Target("own", lambda _: lambda _: case(), 1), [7], seed=0)
    ((number, found),) = tally.finds
    assert number == 7
    assert re.search(find, found)
