"""Which cores a process may keep busy, and how: one thread for each operation, several things at a time."""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gl_ris.errors import UserError

# Thousands of small operations, each on all cores, wait for one another's threads: on an idle machine that
# gains nothing, and with a neighbour on one core it takes several times as long.
CORES = "GL_RIS_CORES"
"""Variable of commands: how many cores each process may keep busy; 0 where nobody has said so."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables that libraries read when they are loaded, and start so many threads for an operation."""


def one_thread_per_operation() -> None:
    """Let operations of this process and its children have one thread each; before numpy is imported.

    What the user had set for threads is from now on how many cores each process may keep busy.
    """
    if not in_command():
        os.environ[CORES] = str(told())
    os.environ.update(dict.fromkeys(THREADS, "1"))


def share_cores(processes: int) -> None:
    """Give this process of a command, one of so many on this machine, its share of the cores."""
    if in_command():
        os.environ[CORES] = str(cores(processes))


def in_command() -> bool:
    """Say whether this process began with `one_thread_per_operation`."""
    return CORES in os.environ


def cores(processes: int = 1) -> int:
    """Return how many cores this process, one of so many on this machine, may keep busy."""
    return told() or max(1, available() // processes)


def told() -> int:
    """Return how many cores each process may keep busy as the user said; 0 if nobody did.

    `UserError` if `CORES` is no such number.
    """
    if in_command():
        if not re.fullmatch(r"\d{1,5}", os.environ[CORES]):
            raise UserError(f"{CORES}={os.environ[CORES]:.60} must be a number of cores, or 0 for all.")
        return int(os.environ[CORES])
    for name in THREADS:
        # OpenMP takes a list, too: a number for each level
        found = re.match(r"\s*([1-9]\d{0,4})\b", os.environ.get(name, ""))
        # torchrun sets 1 where nobody has said anything
        if found and not (found[1] == "1" and "TORCHELASTIC_RUN_ID" in os.environ):
            return int(found[1])
    return 0


def available(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores affinity and container leave to this process."""
    # macOS has no affinity
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(count, _quota(cgroup)))


def _quota(cgroup: Path) -> float:
    """Return how many cores' time a container is given."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        # no limit is "max", which is no number, or -1
        with suppress(OSError, ValueError):
            quota, period = (int(word) for name in names for word in (cgroup / name).read_text().split())
            if quota > 0 and period > 0:
                return quota / period
    return math.inf


@contextmanager
def all_cores() -> Iterator[None]:
    """Let each operation inside have all cores that this process may keep busy, as a training wants."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(before, cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)
