"""Real processes for tests of how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOON = 60.0  # on a busy machine


def start(words: Sequence[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Start Python with some words in a folder, in a process group of its own."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    variables.pop("GL_RIS_STARTER", None)
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        # what a shell starts in the background ignores SIGINT, the tests too
        preexec_fn=_as_in_a_terminal,
    )


def _as_in_a_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def until(happens: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something; a process that ends before is a failure."""
    late = time.monotonic() + 5 * SOON
    while not happens():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()[1]}")
        assert time.monotonic() < late, "it never happened"
        time.sleep(0.05)


def numbers(process: subprocess.Popen[str], *files: Path) -> list[int]:
    """Read the process numbers that ``process`` and others leave in files, each as soon as it is there."""
    until(lambda: all(file.is_file() and file.read_text() for file in files), process)
    return [int(file.read_text()) for file in files]


def is_gone(pid: int) -> bool:
    """Say whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
