"""Numbers that do not depend on how many processor cores a process may use.

Matrix products on a CPU split their sums differently for different numbers of threads, which changes the
last bits of a feature and, once in a while, a choice between two equal proposals. So features on a CPU are
computed by operations of one thread each, and cores are kept busy by working on several batches at the same
time instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")

_workers: ContextVar[int] = ContextVar("workers", default=0)


@contextmanager
def one_thread_per_operation(device: torch.device) -> Iterator[None]:
    """Run operations on one thread each inside the block, on a CPU; elsewhere nothing changes.

    `map_batches` inside the block uses as many workers as there were threads before. Blocks nest.

    Args:
        device: Where the block computes.
    """
    if device.type != "cpu" or _workers.get():
        yield
        return
    threads = torch.get_num_threads()
    token = _workers.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _workers.reset(token)


def map_batches(function: Callable[[_Batch], _Result], batches: Sequence[_Batch]) -> list[_Result]:
    """Apply a function to every batch, several at a time inside `one_thread_per_operation`.

    Args:
        function: Must not depend on the order in which batches are worked on.
        batches: Its arguments.

    Returns:
        The results in the order of the batches.
    """
    workers = min(_workers.get(), len(batches))
    if workers < 2:
        return [function(batch) for batch in batches]
    call = _with_modes_of_this_thread(function)
    # Not kept between calls: idle threads are lost in a forked process, and the pool would wait for them.
    # OpenMP keeps the number of threads per thread, and a new one takes it from the environment. torch sets
    # it before its own loops only: oneDNN's convolutions and products would still split their sums.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(call, batches))


def _with_modes_of_this_thread(function: Callable[[_Batch], _Result]) -> Callable[[_Batch], _Result]:
    """Carry inference mode, gradients and autocast over: each thread of torch has its own."""
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def call(batch: _Batch) -> _Result:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", dtype=dtype, enabled=autocast),
        ):
            return function(batch)

    return call
