"""How many processes test, and how many threads each of them computes with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything imports torch, and for the commands that tests start: processes side by side with a thread
# per core each get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A process that has run many tests takes two gigabytes.
MOST_WORKERS = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tell what ``-n auto`` means: a worker per core, none where the tests of a few files are asked for.

    Those are done before a worker has imported torch, and ``-s`` and breakpoints work as one expects.
    """
    if all(Path(argument.partition("::")[0]).suffix for argument in config.args):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)
