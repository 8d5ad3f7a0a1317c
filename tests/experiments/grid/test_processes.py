"""Child processes that end with their parent, one and several."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from experiments.grid.processes import pool, wait_for

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
    monkeypatch.setattr("experiments.grid.processes.PATIENCE", 0.3)
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
    with pool() as processes:
        for name in names:
            last = name == names[-1]
            script = _HANGS + (_WAITS_FOR_OTHERS + _KILLS if last else "") + "time.sleep(60)\n"
            processes.start(name, [sys.executable, "-c", script, name, str(int(number)), *names])
        processes.next_ended()


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


def test_the_exit_code_is_that_of_the_process() -> None:
    assert wait_for([sys.executable, "-c", "raise SystemExit(7)"]) == 7


def test_processes_run_side_by_side_and_write_to_their_files(tmp_path: Path) -> None:
    """Each waits for the other's file, so one after the other would never end."""
    script = (
        "import os, sys, time\n"
        "open(sys.argv[1], 'w').close()\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.02)\n"
        "print(os.environ['PART'], flush=True)\n"
        "print('said to the error output', file=sys.stderr)\n"
        "sys.exit(int(sys.argv[3]))\n"
    )
    files = [str(tmp_path / name) for name in "ab"]
    with pool() as processes:
        for number, name in enumerate("ab"):
            own, other = files[number], files[1 - number]
            command = [sys.executable, "-c", script, own, other, str(number)]
            processes.start(name, command, tmp_path / f"{name}.txt", {"PART": f"part {name}"})
        assert len(processes) == 2
        ended = dict([processes.next_ended(), processes.next_ended()])
        with pytest.raises(ValueError, match="No process"):
            processes.next_ended()
    assert ended == {"a": 0, "b": 1}
    for name in "ab":
        text = (tmp_path / f"{name}.txt").read_text()
        assert sorted(text.splitlines()) == [f"part {name}", "said to the error output"]


def test_an_error_in_the_block_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.grid.processes.PATIENCE", 60.0)
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
    with pool() as processes:
        processes.start("long", command)
        while not ready.exists():
            time.sleep(0.02)
        raise RuntimeError("mine")
