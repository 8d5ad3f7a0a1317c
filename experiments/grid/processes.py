"""Child processes, one or several side by side, that end with this process whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.cli.command import ROOT

PATIENCE = 20.0
_PAUSE = 0.1


class Pool:
    """Processes that run side by side; made by `pool`, which ends what is left of them."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(
        self,
        name: str,
        command: Sequence[str],
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a command in a process group of its own.

        Args:
            name: What `next_ended` calls it.
            command: Program and arguments.
            log: File that its output is added to; None leaves it that of this process.
            environment: Variables beside those of this process.
        """
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        every = {**os.environ, "PYTHONPATH": path, **(environment or {})}
        if log is None:
            self._running[name] = subprocess.Popen(command, env=every, process_group=0)
            return
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._running[name] = subprocess.Popen(
                command,
                env=every,
                process_group=0,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def next_ended(self) -> tuple[str, int]:
        """Wait until a process ends, and return its name and exit code.

        Raises:
            ValueError: There is none to wait for.
        """
        if not self._running:
            raise ValueError("No process is running.")
        while True:
            for name, process in self._running.items():
                code = process.poll()
                if code is not None:
                    del self._running[name]
                    return name, code
            time.sleep(_PAUSE)

    def end_all(self) -> None:
        """End what is running: first the chance to clean up, then the end, also of what it may have left."""
        left = list(self._running.values())
        for process in left:
            process.send_signal(signal.SIGINT)
        with suppress(BaseException):
            until = time.monotonic() + PATIENCE
            for process in left:
                process.wait(max(0.0, until - time.monotonic()))
        for process in left:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._running.clear()


@contextmanager
def pool() -> Iterator[Pool]:
    """Give a `Pool`; when the block is left, by SIGINT and SIGTERM too, its processes are ended."""
    with _termination_raises():
        running = Pool()
        try:
            yield running
        finally:
            running.end_all()


def wait_for(command: Sequence[str]) -> int:
    """Run a command to its end and return its exit code; what ends this process ends it and its children."""
    with pool() as running:
        running.start("", command)
        return running.next_ended()[1]


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Let SIGTERM raise inside the block, in place of leaving at once and the children alone."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
