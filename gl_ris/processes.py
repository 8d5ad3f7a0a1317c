"""Processes that end with the one that started them, whatever ends that."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gl_ris.errors import EvaluationError
from gl_ris.signals import ENDING, endable_here, leave_the_telling

STARTER = "GL_RIS_STARTER"
"""Variable that names the process of the command that started this one."""

_PR_SET_PDEATHSIG = 1
_POLL = 0.5


def end_with(parent: int, by_its_main_thread: bool = True) -> None:
    """Have this process killed as soon as ``parent``, which started it, has ended.

    Linux does it, but takes the end of the thread that started a process for the end of the parent.
    """
    linux = by_its_main_thread and sys.platform == "linux"
    if not (linux and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    # it may have ended before anyone watched
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL)
    os.kill(os.getpid(), signal.SIGKILL)


def end_with_starter() -> None:
    """End with the command or the ``torchrun`` that started this command, if one did."""
    starter, parent = int(os.environ.get(STARTER) or 0), os.getppid()
    if starter and (parent in (starter, 1) or not is_alive(starter)):
        end_with(starter)
        leave_the_telling()
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        end_with(parent)
    os.environ[STARTER] = str(os.getpid())


def is_alive(pid: int) -> bool:
    """Say whether there is a process of this number here."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@dataclass(frozen=True)
class Worker:
    """Initialises worker processes: they end with their parent, and hand on to it what would end them."""

    parent: int  # the process whose workers they are; 0 where another one starts them for it
    by_its_main_thread: bool  # whether they are started by its main thread
    hands_on: bool  # whether a signal to one of them is one to all

    @classmethod
    def of_this_process(cls, method: str) -> Worker:
        """Make the initialiser for workers of this process, started by a method of `multiprocessing`."""
        parent = 0 if method == "forkserver" else os.getpid()
        main = threading.current_thread() is threading.main_thread()
        return cls(parent, main, parent > 0 and endable_here())

    def __call__(self, *_: object) -> None:
        """Initialise this process; a `DataLoader` gives the worker's number."""
        if self.parent:
            end_with(self.parent, self.by_its_main_thread)
        if self.hands_on and hasattr(signal, "sigwaitinfo"):
            signals = {number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN}
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            threading.Thread(target=self._hand_on, args=(signals,), daemon=True).start()

    def _hand_on(self, signals: set[signal.Signals]) -> None:
        while True:
            found = signal.sigwaitinfo(signals)
            if found.si_pid == self.parent:
                os._exit(128 + found.si_signo)
            # a terminal has told the parent, too; that one ends the workers
            if found.si_pid:
                os.kill(self.parent, found.si_signo)


@contextmanager
def pool(workers: int, method: str | None = None) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes that end with this one, and at once where the block is left by an error.

    As many as ``workers``, started by a ``method``, or the usual one. `EvaluationError` if one of them was
    killed.
    """
    context: Any = multiprocessing.get_context(method)
    before = set(multiprocessing.active_children())
    initialise = Worker.of_this_process(context.get_start_method())
    with ProcessPoolExecutor(workers, context, initialise) as made:
        try:
            # a pool watches only for the end of processes that were there when its last result came
            for _ in range(workers):
                made.submit(os.getpid)
            yield made
        except BaseException as error:
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
            # waits for its thread, which at the end of this process would meet closed files
            made.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise EvaluationError(
                    "A worker process was killed from outside, perhaps for lack of memory; run it again."
                ) from error
            raise
