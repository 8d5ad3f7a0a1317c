"""Cells side by side: processes that end with their parent, and their shares of the machine."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import processes
from experiments.grid import runner
from experiments.grid.cells import Cell
from experiments.grid.runner import children, shares, start
from gl_ris.cores import THREADS
from gl_ris.errors import EvaluationError, UserError
from gl_ris.signals import Ended

# The process and its child ignore signals, as a hanging run would.
_DEAF = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(60)"
_HANGS = (
    "import os, pathlib, signal, subprocess, sys, time\n"
    "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]\n"
    f"process = subprocess.Popen([sys.executable, '-c', {_DEAF!r}])\n"
    "pathlib.Path(sys.argv[1] + '-child').write_text(str(process.pid))\n"
    "pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
    "time.sleep(60)\n"
)
_GRID = """
import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from experiments.grid import runner
from gl_ris.command_line import leave
from gl_ris.signals import kept_if_ended

runner.PATIENCE = 0.3

def main():
    with kept_if_ended(lambda: "the rest goes on", 30), ThreadPoolExecutor() as threads:
        with runner.children() as processes:
            for name in sys.argv[2:]:
                processes.append(runner.start([sys.executable, "-c", sys.argv[1], name], {}))
            wait([threads.submit(process.wait) for process in processes], return_when=FIRST_COMPLETED)

leave(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["int", "term", "hup"])
@pytest.mark.parametrize("count", [1, 3])
def test_what_ends_the_parent_ends_all_processes(count: int, number: signal.Signals, tmp_path: Path) -> None:
    names = [f"cell{i}" for i in range(count)]
    process = processes.start(["-c", _GRID, _HANGS, *names], tmp_path)
    all_of_them = processes.numbers(
        process, *(tmp_path / f"{name}{end}" for name in names for end in ("", "-child"))
    )
    process.send_signal(number)
    _, error = process.communicate(timeout=processes.SOON)
    assert (process.returncode, error) == (128 + number, f"ended by {number.name}; the rest goes on.\n")
    processes.until(lambda: all(map(processes.is_gone, all_of_them)))


@pytest.mark.parametrize(
    ("code", "kind"),
    [(143, Ended), (-15, Ended), (130, Ended), (2, UserError), (1, EvaluationError), (-9, EvaluationError)],
)
def test_what_the_end_of_a_cell_is_to_its_grid(code: int, kind: type[BaseException], tmp_path: Path) -> None:
    made = runner.Runner([], tmp_path, None, 1, {}, False)  # type: ignore[arg-type]
    failure = made._failure(Cell("a", []), code)
    assert type(failure) is kind
    assert getattr(failure, "code", 143) in (code, 143)


def test_an_error_in_the_block_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.grid.runner.PATIENCE", 60.0)
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
        "try:\n"
        "    open(sys.argv[2], 'w').close()\n"
        "    time.sleep(600)\n"
        "finally:\n"
        "    open(sys.argv[1], 'w').close()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cleaned"), str(tmp_path / "ready")]
    with pytest.raises(RuntimeError, match="mine"):
        fail_beside(command, tmp_path / "ready")
    assert (tmp_path / "cleaned").exists()


def fail_beside(command: list[str], ready: Path) -> None:
    with children() as started:
        started.append(start(command, {}))
        while not ready.exists():
            time.sleep(0.02)
        raise RuntimeError("mine")


@pytest.mark.parametrize(
    ("at_once", "environment", "expected"),
    [
        (1, {"CUDA_VISIBLE_DEVICES": "0,1"}, [{}]),
        (2, {"CUDA_VISIBLE_DEVICES": ""}, [{"GL_RIS_CORES": "4"}] * 2),
        (3, {"CUDA_VISIBLE_DEVICES": "7"}, [{"GL_RIS_CORES": "2"}] * 3),
        (9, {"CUDA_VISIBLE_DEVICES": ""}, [{"GL_RIS_CORES": "1"}] * 9),
        (2, {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}, [{}] * 2),
        # of a command for which nobody has said anything
        (
            2,
            {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "GL_RIS_CORES": "0"},
            [{"GL_RIS_CORES": "4"}] * 2,
        ),
        (
            2,
            {"CUDA_VISIBLE_DEVICES": "4,5,6", "OMP_NUM_THREADS": "1"},
            [{"CUDA_VISIBLE_DEVICES": "4,6"}, {"CUDA_VISIBLE_DEVICES": "5"}],
        ),
        (
            3,
            {"CUDA_VISIBLE_DEVICES": "4,5", "OMP_NUM_THREADS": "1"},
            [{"CUDA_VISIBLE_DEVICES": name} for name in "454"],
        ),
    ],
)
def test_shares_of_the_machine(
    at_once: int,
    environment: dict[str, str],
    expected: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("experiments.grid.runner.available", lambda: 8)
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert shares(at_once) == expected


@pytest.mark.parametrize(
    ("options", "devices", "count", "expected"),
    [
        ([], "0,1,2", 8, 3),
        ([], "0,1,2,3,4", 8, 4),
        ([], "", 8, 2),
        ([], "", 1, 1),
        (["--trainer.devices=3"], "0,1,2", 8, 1),
        (["trainer.devices=2"], "", 8, 1),
    ],
)
def test_how_many_go_side_by_side_by_themselves(
    options: list[str], devices: str, count: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "available", lambda: count)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    cells = [Cell("a", []), Cell("b", options), Cell("c", []), Cell("d", [])]
    finished = Cell("e", [], done={"created": "today"})
    assert runner.usual_jobs([*cells, finished]) == expected


def test_of_what_is_finished_nothing_goes_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(runner, "available", lambda: 8)
    finished = Cell("a", [], done={"created": "today"})
    assert [runner.usual_jobs(cells) for cells in ([finished], [finished, Cell("b", [])])] == [1, 1]


@pytest.mark.parametrize(
    ("count", "jobs", "devices", "expected"),
    [
        (2, 2, "", ["4", "4"]),
        (3, 2, "", ["4", "4", None]),
        (5, 3, "", ["2", "2", "2", "4", "4"]),
        (2, 4, "", ["4", "4"]),
        (3, 1, "", [None, None, None]),
        (3, 2, "0,1", ["4", "4", "4"]),
    ],
)
def test_the_last_cells_have_more_cores_where_they_are_fewer_than_go_side_by_side(
    count: int,
    jobs: int,
    devices: str,
    expected: list[str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "available", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    cells = [Cell(str(number), [], str(number)) for number in range(count)]
    made = runner.Runner(cells, tmp_path, None, jobs, {}, False)  # type: ignore[arg-type]
    given: dict[str, str | None] = {}

    def record(cell: Cell, slot: dict[str, str]) -> Any:
        given[cell.name] = slot.get("GL_RIS_CORES")
        assert ("CUDA_VISIBLE_DEVICES" in slot) == bool(devices)
        return start([sys.executable, "-c", ""], {})

    monkeypatch.setattr(made, "_start", record)
    assert len(list(made._ended(cells.copy()))) == count
    assert list(given.values()) == expected
