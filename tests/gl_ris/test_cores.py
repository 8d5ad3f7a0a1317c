"""How many cores a process may keep busy, and one thread for each operation."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gl_ris import cores
from gl_ris.errors import UserError

VARIABLES = (*cores.THREADS, cores.CORES, "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def nobody_has_said_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(cores, "available", lambda: 8)


@pytest.mark.parametrize(
    ("variables", "processes", "expected"),
    [
        ({}, 1, 8),
        ({}, 3, 2),
        ({}, 20, 1),
        # of each process, as it is for OpenMP
        ({"OMP_NUM_THREADS": "4"}, 2, 4),
        ({"OMP_NUM_THREADS": " 6,2"}, 1, 6),
        ({"MKL_NUM_THREADS": "3"}, 1, 3),
        ({"OMP_NUM_THREADS": "5", "MKL_NUM_THREADS": "3"}, 1, 5),
        *(({"OMP_NUM_THREADS": word}, 1, 8) for word in ("", "0", "-2", "many", "1e3", "999999")),
        # torchrun's own word, and a user's under torchrun
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "x"}, 4, 2),
        ({"OMP_NUM_THREADS": "3", "TORCHELASTIC_RUN_ID": "x"}, 4, 3),
    ],
)
def test_a_user_says_by_threads_how_many_cores_are_kept_busy(
    variables: dict[str, str], processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cores.cores(processes) == expected
    # a command, and the commands that it starts, mean the same
    for _ in range(2):
        cores.one_thread_per_operation()
        assert cores.cores(processes) == expected
        assert {os.environ[name] for name in cores.THREADS} == {"1"}


def test_processes_share_the_cores_once() -> None:
    cores.share_cores(2)
    assert not cores.in_command()
    cores.one_thread_per_operation()
    for _ in range(2):
        # the second time in a process that another one has started
        cores.share_cores(4)
        assert (cores.cores(), cores.cores(4)) == (2, 2)


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "nothing"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_containers_bound_the_cores(
    files: dict[str, str], share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert cores.available(tmp_path) == (mine if share == math.inf else 1)


def fail_in_a_training() -> None:
    with cores.all_cores():
        raise ZeroDivisionError if torch.get_num_threads() == 8 else AssertionError


def test_a_training_has_all_cores_and_gives_them_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        fail_in_a_training()
    assert torch.get_num_threads() == before


def test_libraries_of_a_command_come_to_life_with_one_thread() -> None:
    """And as a library nothing is changed."""
    program = (
        "from gl_ris.command_line import leave\n"
        "def main():\n"
        "    import torch\n"
        "    from gl_ris.clip.tower import map_batches, one_thread_per_operation\n"
        "    import threading\n"
        "    together = threading.Barrier(2, timeout=60)\n"
        "    print(torch.get_num_threads())\n"
        "    with one_thread_per_operation(torch.device('cpu')):\n"
        "        map_batches(lambda _: together.wait(), range(2))\n"
    )
    found = {}
    for name, last in (("command", "leave(main)"), ("library", "main()")):
        environment = {**os.environ, "OMP_NUM_THREADS": "2"}
        line = [sys.executable, "-c", f"{program}{last}"]
        found[name] = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
    assert found == {"command": "1\n", "library": "2\n"}


@pytest.mark.parametrize("value", ["zero", "-1", "", "1.5"])
def test_a_number_of_cores_that_is_none_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cores.CORES, value)
    # the start of a command leaves it to what prints errors
    cores.one_thread_per_operation()
    with pytest.raises(UserError, match=f"GL_RIS_CORES={value} must be a number of cores"):
        cores.cores()
