"""Workers of data loaders: they end with the process that they read for, and never wait for shared memory."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor

from gl_ris.cores import cores
from gl_ris.processes import Worker

MOST = 16
"""Workers of a loader, unless more are asked for."""

log = logging.getLogger(__name__)


def usual_workers(trainer: Any) -> int:
    """Return how many workers a loader has in a run by a trainer, or without one, when nobody says so."""
    # macOS has it, but not for processes with more than one thread
    forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    own = cores(trainer.num_devices) if trainer is not None and forks else 1
    return min(own, MOST) if own > 1 else 0


@dataclass(frozen=True)
class LoaderWorker:
    """The ``worker_init_fn`` of a `DataLoader`."""

    ends: Worker

    @classmethod
    def of_this_process(cls, method: str | None = None) -> LoaderWorker:
        """Make that of loaders of this process, whose workers are started by a method, or the usual one."""
        return cls(Worker.of_this_process(method or multiprocessing.get_start_method()))

    def __call__(self, number: int) -> None:
        """Initialise a worker."""
        self.ends()
        # without room for a tensor, torch's own way is to lose it, and who waits for it waits for ever
        ForkingPickler.register(Tensor, _Handover(number))


class _Handover:
    """Hands tensors over in shared memory, or by value where there is no room for them."""

    def __init__(self, number: int) -> None:
        self.warns = number == 0

    def __call__(self, tensor: Tensor) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        try:
            tensor.share_memory_()
        except RuntimeError as error:
            if self.warns:
                self.warns = False
                log.warning(
                    "There is too little shared memory (/dev/shm) for the workers' images: they come another "
                    "way, which is slower. In Docker, --shm-size=2g gives more. (%s)",
                    error,
                )
            return torch.from_numpy, (tensor.detach().numpy(),)
        reduced: tuple[Callable[..., Tensor], tuple[Any, ...]] = reduce_tensor(tensor)
        return reduced
