"""Cells side by side: processes that end with their parent, and their shares of the machine."""

from __future__ import annotations

import signal
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from experiments.grid import runner
from experiments.grid.cells import Cell
from experiments.grid.runner import children, shares, start

# The process and its child both ignore SIGINT, as a hanging run would.
_CHILD = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
_HANGS = (
    "import os, pathlib, signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    f"process = subprocess.Popen([sys.executable, '-c', {_CHILD!r}])\n"
    "name = sys.argv[1]\n"
    "pathlib.Path(name + '.part').write_text(f'{os.getpid()} {process.pid}')\n"
    "os.replace(name + '.part', name)\n"
)
_WAITS_FOR_OTHERS = "while not all(map(os.path.exists, sys.argv[3:])): time.sleep(0.02)\n"
_KILLS = "os.kill(os.getppid(), int(sys.argv[2]))\n"


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
    ids=["int", "term"],
)
@pytest.mark.parametrize("count", [1, 3])
def test_what_ends_the_parent_ends_all_processes(
    count: int, number: int, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.grid.runner.PATIENCE", 0.3)
    monkeypatch.chdir(tmp_path)
    names = [f"pids{i}" for i in range(count)]
    # A shell starts what runs in the background with SIGINT ignored, the tests too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(raised):
            hang(names, number)
    finally:
        signal.signal(signal.SIGINT, before)
    for name in names:
        for pid in map(int, Path(name).read_text().split()):
            assert _is_gone(pid)


def hang(names: list[str], number: int) -> None:
    """Start processes that hang, the last of which sends this one the signal when all are there."""
    with ThreadPoolExecutor() as threads, children() as processes:
        for name in names:
            last = name == names[-1]
            script = _HANGS + (_WAITS_FOR_OTHERS + _KILLS if last else "") + "time.sleep(60)\n"
            processes.append(start([sys.executable, "-c", script, name, str(int(number)), *names], {}))
        wait([threads.submit(process.wait) for process in processes], return_when=FIRST_COMPLETED)


def _is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_an_error_in_the_block_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.grid.runner.PATIENCE", 60.0)
    script = (
        "import signal, sys, time\n"
        # what a shell starts in the background ignores SIGINT, and so does what that starts
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    open(sys.argv[2], 'w').close()\n"
        "    time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "    open(sys.argv[1], 'w').close()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cleaned"), str(tmp_path / "ready")]
    with pytest.raises(RuntimeError, match="mine"):
        fail_beside(command, tmp_path / "ready")
    assert (tmp_path / "cleaned").exists()


def fail_beside(command: list[str], ready: Path) -> None:
    with children() as processes:
        processes.append(start(command, {}))
        while not ready.exists():
            time.sleep(0.02)
        raise RuntimeError("mine")


@pytest.mark.parametrize(
    ("at_once", "environment", "expected"),
    [
        (1, {"CUDA_VISIBLE_DEVICES": "0,1"}, [{}]),
        (2, {"CUDA_VISIBLE_DEVICES": ""}, [{"OMP_NUM_THREADS": "4"}] * 2),
        (3, {"CUDA_VISIBLE_DEVICES": "7"}, [{"OMP_NUM_THREADS": "2"}] * 3),
        (9, {"CUDA_VISIBLE_DEVICES": ""}, [{"OMP_NUM_THREADS": "1"}] * 9),
        (2, {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}, [{}] * 2),
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
    monkeypatch.setattr("experiments.grid.runner.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert shares(at_once) == expected


@pytest.mark.parametrize(
    ("options", "devices", "count", "expected"),
    [
        ([], "0,1,2", 8, 3),
        ([], "", 8, 2),
        ([], "", 1, 1),
        (["--trainer.devices=3"], "0,1,2", 8, 1),
        (["trainer.devices=2"], "", 8, 1),
    ],
)
def test_how_many_go_side_by_side_by_themselves(
    options: list[str], devices: str, count: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "cores", lambda: count)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    assert runner.usual_jobs([Cell("a", []), Cell("b", options)]) == expected
