"""How the processors and GPUs of a machine are shared out among runs side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence


def shares(at_once: int, environment: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """Return the variables that give each of several runs its part of the machine.

    A run alone gets none: all of the machine is its own. What is set already stays.

    Args:
        at_once: How many runs there are side by side.
        environment: Stands in for ``os.environ``.

    Returns:
        For each run, ``OMP_NUM_THREADS``, and ``CUDA_VISIBLE_DEVICES`` where there are several GPUs.
    """
    given = os.environ if environment is None else environment
    if at_once == 1:
        return [{}]
    threads = {} if "OMP_NUM_THREADS" in given else {"OMP_NUM_THREADS": str(max(1, cores() // at_once))}
    devices = gpus(given)
    parts = [share_of(devices, slot, at_once) for slot in range(at_once)]
    return [
        {**threads, **({"CUDA_VISIBLE_DEVICES": ",".join(part)} if len(devices) > 1 else {})}
        for part in parts
    ]


def usual_jobs(options: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Return how many runs go side by side when nobody says so: one per GPU; without any, two on two cores.

    Args:
        options: Of the runs; where they name devices, each run takes all of those.
        environment: Stands in for ``os.environ``.
    """
    if any(option.removeprefix("--").startswith("trainer.devices") for option in options):
        return 1
    return len(gpus(os.environ if environment is None else environment)) or min(2, cores())


def share_of(devices: Sequence[str], slot: int, at_once: int) -> list[str]:
    """Return the devices of one of several runs; with fewer devices than runs, some are shared.

    Example:
        >>> share_of(["0", "1", "2"], 1, 2), share_of(["0", "1"], 2, 3)
        (['1'], ['0'])
    """
    own = list(devices[slot::at_once])
    return own or ([devices[slot % len(devices)]] if devices else [])


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the GPUs that this process may use."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
