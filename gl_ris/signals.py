"""What ends a command from outside: signals and lost processes; what is said then, and the end itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""What schedulers, terminals and people end a process by."""

PATIENCE = 3.0
"""Seconds that a process has to leave in good order; what waits in a library for others never would."""


class Ended(BaseException):
    """The command has to end; no `Exception`, so that nobody takes it for the failure of one image.

    ``code`` is the exit code, and ``reason`` why, as the beginning of a sentence.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason
        self.kept: str | None = None  # what is kept and how to go on

    @classmethod
    def by(cls, number: int) -> Ended:
        """Make that of a signal, with the code that a shell gives it.

        Example:
            >>> str(Ended.by(signal.SIGTERM)), Ended.by(signal.SIGINT).code
            ('ended by SIGTERM.', 130)
        """
        return cls(128 + number, f"ended by {signal.Signals(number).name}")

    @classmethod
    def with_child(cls, name: str, code: int) -> Ended:
        """Make that of a child process, of a code other than 0: a signal to one is a signal to all.

        Example:
            >>> str(Ended.with_child("process 1", -9)), str(Ended.with_child("process 1", 143))
            ('process 1 was killed by SIGKILL.', 'ended by SIGTERM.')
        """
        number = -code if code < 0 else code - 128
        if number in ENDING:
            return cls.by(number)
        if code < 0:
            return cls(1, f"{name} was killed by {signal.Signals(number).name}")
        return cls(code, f"{name} ended with code {code}")

    def __str__(self) -> str:
        return f"{self.reason}{f'; {self.kept}' if self.kept else ''}."


class _State:
    """Of this process; there is one main thread, and one end."""

    ended: Ended | None = None
    raised = said = False
    before: dict[int, Any] | None = None  # handlers of before, while `endable`
    part = False  # another process started this one for its work, and says what is to be said
    kept: tuple[tuple[Callable[[], str | None], float], ...] = ()  # the innermost says what is kept


_state = _State()


def ended() -> Ended | None:
    """Return what ends this process, if something does."""
    return _state.ended


def endable_here() -> bool:
    """Say whether signals end this process in good order."""
    return _state.before is not None


def end(cause: Ended) -> None:
    """Let this process end, from any thread; the first cause counts."""
    _state.ended = _state.ended or cause
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def leave_the_telling() -> None:
    """Have another process, which started this one for its work, say why that ends."""
    _state.part = True


def left_to_another() -> bool:
    """Say whether another process, which started this one for its work, does the telling."""
    return _state.part


def say(cause: Ended) -> None:
    """Print once why the process ends; of several processes that a signal ends, the first one says it."""
    _state.ended = _state.ended or cause
    part = _state.part or int(os.environ.get("LOCAL_RANK", "0")) > 0
    if not _state.said and not (part and cause.code > 128):
        _state.said = True
        print(cause, file=sys.stderr, flush=True)


@contextmanager
def kept_if_ended(what: Callable[[], str | None], patience: float = PATIENCE) -> Iterator[None]:
    """Say, if the work inside is ended, what is kept of it and how to go on.

    ``what`` gives the second half of a sentence, called once, then; leaving the block in good order may take
    ``patience`` seconds.
    """
    outer, _state.kept = _state.kept, (*_state.kept, (what, patience))
    try:
        yield
    except BaseException:
        _note_what_is_kept()
        raise
    finally:
        _state.kept = outer


def _note_what_is_kept() -> None:
    if _state.ended is not None and _state.ended.kept is None and _state.kept:
        _state.ended.kept = _state.kept[-1][0]()


@contextmanager
def endable() -> Iterator[None]:
    """Let signals end the work inside: by `Ended`, raised in the main thread, or else by the process's end.

    What this process was started to ignore (``nohup``) stays ignored. After an end by a signal, others are
    ignored, and whatever hangs on the way out is cut short.
    """
    wanted = [n for n in ENDING if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]
    read, write = os.pipe()
    os.set_blocking(write, False)
    # Python's own handlers wait for the main thread; this tells a thread of it at once
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_see_to_the_end, args=(read,), daemon=True).start()
    _state.before = {number: signal.signal(number, _raise) for number in wanted}
    try:
        yield
    finally:
        if _state.ended is None:
            _restore()
            os.close(write)


def _raise(number: int, frame: object) -> None:
    if not _state.raised:
        _state.raised = True
        _state.ended = _state.ended or Ended.by(number)
        raise _state.ended


def _see_to_the_end(read: int) -> None:
    """Wait for a signal, give the main thread its time, then end the process."""
    while numbers := os.read(read, 64):
        if number := next((n for n in numbers if n in ENDING), None):
            time.sleep(_state.kept[-1][1] if _state.kept else PATIENCE)
            _state.ended = _state.ended or Ended.by(number)
            with suppress(Exception):
                _note_what_is_kept()
                say(_state.ended)
            os._exit(_state.ended.code)
    os.close(read)


def _restore() -> None:
    signal.set_wakeup_fd(-1)
    for number, handler in (_state.before or {}).items():
        signal.signal(number, handler)
    _state.before = None


def _forget() -> None:
    # a forked process has a main thread of its own, and nobody who reads the pipe
    if _state.before is not None:
        _restore()
        _state.kept = ()


os.register_at_fork(after_in_child=_forget)
