"""Runs cases of a target and judges them: a value that an oracle has, or one sentence; nothing else."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import pickle
import resource
import signal
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
TOGETHER = 3000  # cases of a process


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
        parts = ", ".join(
            f"{self.outcomes[kind]:,} {kind}"
            for kind in ("read", "failed", "refused", "lost")
            if self.outcomes[kind]
        )
        return f"{self.target:12} {cases:9,} cases: {parts}; {len(self.finds):,} finds"


def run_here(target: Target, numbers: Iterable[int], seed: int) -> Tally:
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
    """Run cases in processes that are watched: what crashes one, or does not end, is a find, too."""
    total, last = Tally(target.name), first + cases
    while first < last and time.monotonic() < until:
        found, first = _watched(target, range(first, min(last, first + TOGETHER)), seed, until)
        total.outcomes += found.outcomes
        total.finds += found.finds
    return total


def _watched(target: Target, numbers: range, seed: int, until: float) -> tuple[Tally, int]:
    """Run cases until one brings the process down; return their tally, and the number to go on with."""
    with mmap.mmap(-1, 8) as shared, tempfile.NamedTemporaryFile() as answer:
        shared[:] = numbers[0].to_bytes(8)

        def alive() -> Iterable[int]:
            for number in numbers:
                if time.monotonic() > until:
                    return
                shared[:] = number.to_bytes(8)
                yield number

        if not (child := os.fork()):
            try:
                Path(answer.name).write_bytes(pickle.dumps(run_here(target, alive(), seed)))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        find = _end_of(child, shared)
        if content := answer.read():
            return pickle.loads(content), numbers[-1] + 1
        number = int.from_bytes(shared[:])
    # the outcomes of those before it are lost with the process
    return Tally(target.name, Counter({"lost": number - numbers[0] + 1}), [(number, find)]), number + 1


def _end_of(child: int, shared: mmap.mmap) -> str:
    """Wait for a process, and end it where it stays with one case; return how that case ended."""
    last, since = b"", time.monotonic()
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.05)
        if shared[:] != last:
            last, since = shared[:], time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"did not end in {PATIENCE:.0f} s"
    return "the process came to its end"
