"""Runs cases of a target and judges them: a value that an oracle has, or one sentence; nothing else."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import resource
import signal
import struct
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

Case = Callable[[Random], str]
"""Makes a file, reads it, checks it; says "read" or "failed" (a counted failure), or raises a UserError."""

SECONDS, MEMORY = 10.0, 500 << 20  # most of a case: of processor time, and of bytes beyond those before it
PATIENCE = 120.0  # seconds of wall time after which a case waits for something


class Wrong(AssertionError):
    """A value that is not the oracle's."""


@dataclass(frozen=True)
class Target:
    """A reader: what prepares its cases in a folder, and about how many milliseconds one takes."""

    name: str
    prepare: Callable[[Path], Case]
    milliseconds: float


@dataclass
class Tally:
    """What came of the cases of a target."""

    target: str
    outcomes: Counter[str] = field(default_factory=Counter)
    # number of the case, and what happened
    finds: list[tuple[int, str]] = field(default_factory=list)

    def line(self) -> str:
        cases = sum(self.outcomes.values())
        parts = ", ".join(f"{self.outcomes[kind]:,} {kind}" for kind in ("read", "failed", "refused"))
        return f"{self.target:12} {cases:9,} cases: {parts}; {len(self.finds):,} finds"


def run_here(
    target: Target, numbers: Iterable[int], seed: int, began: Callable[[int], None] = lambda _: None
) -> Tally:
    """Run cases in this process; each depends on target, seed and its number alone."""
    from fuzz.mutate import Hostile

    tally = Tally(target.name)
    before, warned = Path.cwd(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name).resolve()
        # where a pickle of `Hostile` would leave its mark
        (folder / "here").mkdir()
        os.chdir(folder / "here")
        try:
            case, limit = target.prepare(folder), _memory(reset=True) + MEMORY
            for number in numbers:
                began(number)
                kind, find = _judge(case, Random(f"{target.name}:{seed}:{number}"))
                if Path(Hostile.mark).exists():
                    Path(Hostile.mark).rmdir()
                    find = "code was run"
                if _memory() > limit:
                    find = find or f"took {(_memory() - limit + MEMORY) >> 20:,} MB"
                    limit = _memory(reset=True) + MEMORY
                tally.outcomes[kind] += 1
                tally.finds += [(number, find)] if find else []
        finally:
            os.chdir(before)
            logging.disable(warned)
    return tally


def _judge(case: Case, random: Random) -> tuple[str, str]:
    """Return what became of a case, and what is wrong with that."""
    from gl_ris.errors import UserError

    started = time.process_time()
    try:
        kind, find = case(random), ""
    except UserError as error:
        kind, find = "refused", _fault_of(str(error))
    except Exception:
        kind, find = "refused", traceback.format_exc(limit=-12, chain=False)
    if (spent := time.process_time() - started) > SECONDS:
        find = find or f"took {spent:.0f} s"
    return kind, find


def _fault_of(message: str) -> str:
    try:
        message.encode()
    except UnicodeError:
        return f"a message that cannot be printed: {message!r}"
    return f"a message of {len(message):,} characters: {message:.300}" if len(message) > 3000 else ""


def _memory(reset: bool = False) -> int:
    """Return the most bytes that this process has had in memory, since the last ``reset``."""
    if reset:
        gc.collect()
        with suppress(OSError):  # not Linux
            Path("/proc/self/clear_refs").write_text("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def run_apart(target: Target, cases: int, seed: int, until: float = float("inf"), first: int = 0) -> Tally:
    """Run cases in a process that is watched: what crashes it, or does not end, is a find, too."""
    total, last = Tally(target.name), first + cases
    while first < last and time.monotonic() < until:
        found, first = _watched(target, range(first, last), seed, until)
        total.outcomes += found.outcomes
        total.finds += found.finds
    return total


def _watched(target: Target, numbers: range, seed: int, until: float) -> tuple[Tally, int]:
    """Run cases until one brings the process down; return their tally, and the number to go on with."""
    import pickle

    now = struct.Struct("qdq")  # the case in hand, when it began, cases done
    shared, answer = mmap.mmap(-1, now.size), tempfile.NamedTemporaryFile()  # noqa: SIM115  ends with the call
    done = 0

    def began(number: int) -> None:
        nonlocal done
        if time.monotonic() > until:
            raise StopIteration
        now.pack_into(shared, 0, number, time.monotonic(), done)
        done += 1

    began(numbers[0])
    done = 0
    if not (child := os.fork()):
        with suppress(BaseException):
            found = _until_stopped(target, numbers, seed, began)
            Path(answer.name).write_bytes(pickle.dumps(found))
            os._exit(0)
        traceback.print_exc()
        os._exit(1)
    find = ""
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.05)
        number, start, _ = now.unpack_from(shared)
        if time.monotonic() - start > PATIENCE:
            os.kill(child, signal.SIGKILL)
            find = f"did not end in {PATIENCE:.0f} s"
    if content := Path(answer.name).read_bytes():
        return pickle.loads(content), numbers[-1] + 1
    number, _, done = now.unpack_from(shared)
    # those before it in this process are counted as read: their outcomes are lost with it
    tally = Tally(target.name, Counter({"lost": done}))
    return Tally(target.name, tally.outcomes, [(number, find or "the process came to its end")]), number + 1


def _until_stopped(target: Target, numbers: range, seed: int, began: Callable[[int], None]) -> Tally:
    def alive() -> Iterable[int]:
        for number in numbers:
            try:
                began(number)
            except StopIteration:
                return
            yield number

    return run_here(target, alive(), seed)
