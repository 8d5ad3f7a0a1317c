"""One thread per operation, several batches at a time."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gl_ris.clip.tower import map_batches, one_thread_per_operation

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_worker_computes_on_one_thread_and_the_order_stays() -> None:
    with one_thread_per_operation(CPU):
        results = map_batches(lambda item: (item, torch.get_num_threads()), range(20))
    assert results == [(item, 1) for item in range(20)]
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux for the library in use")
def test_libraries_that_ask_openmp_themselves_find_one_thread_too() -> None:
    """oneDNN does, and split its sums by the number of threads on processors with AVX-512."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    libraries = {line.split(maxsplit=5)[-1] for line in lines if "omp" in line and ".so" in line}
    openmp = [ctypes.CDLL(path) for path in libraries if hasattr(ctypes.CDLL(path), "omp_get_max_threads")]
    assert openmp
    for library in openmp:
        library.omp_set_num_threads(2)
    with one_thread_per_operation(CPU):
        results = map_batches(lambda _: [library.omp_get_max_threads() for library in openmp], range(8))
    assert all(result[0] == 1 for result in results)


def test_as_many_batches_as_there_were_threads_are_worked_on_together() -> None:
    together = threading.Barrier(2, timeout=30)
    with one_thread_per_operation(CPU):
        map_batches(lambda _: together.wait(), range(4))


def test_outside_the_block_nothing_changes() -> None:
    here = threading.get_ident()
    assert map_batches(lambda _: (threading.get_ident(), torch.get_num_threads()), [1, 2]) == [(here, 2)] * 2
    with one_thread_per_operation(torch.device("cuda")):
        assert torch.get_num_threads() == 2
        assert map_batches(lambda _: threading.get_ident(), [1, 2]) == [here, here]


def test_blocks_nest_and_end_with_an_error() -> None:
    def fail() -> None:
        with one_thread_per_operation(CPU), one_thread_per_operation(CPU):
            map_batches(lambda item: 1 // item, [1, 0])

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == 2
    with one_thread_per_operation(CPU):
        with one_thread_per_operation(CPU):
            pass
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_workers_have_the_modes_of_their_caller(mode: type) -> None:
    def modes(_: int) -> tuple[bool, ...]:
        return (
            torch.is_inference_mode_enabled(),
            torch.is_grad_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu") == torch.bfloat16,
        )

    with mode(), torch.autocast("cpu", dtype=torch.bfloat16), one_thread_per_operation(CPU):
        assert map_batches(modes, range(4)) == [modes(0)] * 4
