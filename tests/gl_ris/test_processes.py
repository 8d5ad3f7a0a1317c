"""Processes that end with their parent, and workers whose end is that of all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from processes import SOON, is_gone, numbers, start, until

POOL = """
import os, pathlib, time
from gl_ris.command_line import leave
from gl_ris.processes import pool

def work(number):
    pathlib.Path(f"worker-{number}").write_text(str(os.getpid()))
    time.sleep(600)

def main():
    with pool(2, METHOD) as workers:
        list(workers.map(work, range(2)))

if __name__ == "__main__":
    leave(main)
"""
STARTS_ANOTHER = """
import os, pathlib, subprocess, sys, time
from gl_ris.command_line import leave

def main():
    me = "second" if len(sys.argv) > 1 else "first"
    process = None if len(sys.argv) > 1 else subprocess.Popen([sys.executable, __file__, "again"])
    pathlib.Path(me).write_text(str(os.getpid()))
    time.sleep(600)

leave(main)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("number", "worker", "code", "said"),
    [
        (signal.SIGKILL, None, -signal.SIGKILL, ""),
        (signal.SIGTERM, None, 143, "ended by SIGTERM.\n"),
        (signal.SIGTERM, 0, 143, "ended by SIGTERM.\n"),
        (signal.SIGKILL, 0, 1, "error: A worker process was killed"),
        (signal.SIGKILL, 1, 1, "error: A worker process was killed"),
    ],
    ids=["kill", "term", "term-to-worker", "kill-to-worker", "kill-to-the-other"],
)
def test_workers_end_with_their_parent(
    number: signal.Signals, worker: int | None, code: int, said: str, method: str, tmp_path: Path
) -> None:
    (tmp_path / "pool.py").write_text(POOL.replace("METHOD", repr(method)))
    process = start(["pool.py"], tmp_path)
    workers = numbers(process, tmp_path / "worker-0", tmp_path / "worker-1")
    os.kill(process.pid if worker is None else workers[worker], number)
    _, error = process.communicate(timeout=SOON)
    assert process.returncode == code
    assert error.startswith(said)
    assert "Traceback" not in error
    until(lambda: all(map(is_gone, workers)))


def test_a_command_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(STARTS_ANOTHER)
    process = start(["both.py"], tmp_path)
    _, second = numbers(process, tmp_path / "first", tmp_path / "second")
    process.kill()
    process.communicate(timeout=SOON)
    until(lambda: is_gone(second))


def test_a_command_whose_starter_is_gone_does_not_begin(tmp_path: Path) -> None:
    gone = start(["-c", ""], tmp_path)
    gone.communicate(timeout=SOON)
    code = "from gl_ris.command_line import leave; leave(lambda: print('begun'))"
    for starter, output in ((str(gone.pid), ""), (str(os.getpid()), "begun\n"), ("", "begun\n")):
        process = start(["-c", f"import os; os.environ['GL_RIS_STARTER'] = '{starter}'; {code}"], tmp_path)
        assert process.communicate(timeout=SOON) == (output, "")
