"""How the benchmark measures: in turns, against the best matrix rate, with a verdict or none."""

import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from gl_ris.clip.kernels import OVERRIDE, kernels_here, this_processor
from gl_ris.cores import CORES

DRIFT = 0.15
"""By how much the best matrix rate may differ before and after, or there is no verdict."""

# rows, inputs and outputs of products: a batch of 8 crops in the MLP of ViT-B/32, and a large square one
SHAPES = ((400, 768, 3072), (1536, 1536, 1536))
_LARGER = ((3200, 768, 3072), (8192, 8192, 8192))  # a GPU needs more to be busy
_PATIENCE = 0.3  # seconds for one of them
_MATRIX = re.compile(r"mm\b|addmm|linear|conv|attention|gemm|matmul|einsum")

Work = Callable[[], Any]


@dataclass(frozen=True)
class Control:
    """The matrix rates of a machine before and after a measurement, in GFLOP/s by the way they were had.

    Example:
        >>> Control({"F.linear": 100.0, "oneDNN packed": 200.0}, {"F.linear": 150.0}).drift
        0.25
    """

    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def best(self) -> float:
        """The best rate of all."""
        return max([*self.before.values(), *self.after.values()])

    @property
    def drift(self) -> float:
        """Share by which the best rates before and after differ, of the larger one."""
        first, second = (max(rates.values()) for rates in (self.before, self.after))
        return abs(first - second) / max(first, second)

    def verdict(self, figure: float) -> float | None:
        """Return a figure, or None where the machine was not the same before and after."""
        return figure if self.drift <= DRIFT else None

    def document(self) -> dict[str, Any]:
        """Return all of it as it is written down."""
        return {**asdict(self), "best": self.best, "drift": self.drift, "steady": self.drift <= DRIFT}


class Timed(NamedTuple):
    """What a piece of work gave each time, and how many seconds it took."""

    results: list[Any]
    seconds: list[float]


def in_turns(works: Mapping[str, Sequence[Work]], device: torch.device, what: str) -> dict[str, Timed]:
    """Time several works A B A B: the first piece of each, then the second of each; a bar says ``what``."""
    from tqdm import tqdm

    found = {name: Timed([], []) for name in works}
    turns = [turn for pieces in zip(*works.values(), strict=True) for turn in zip(works, pieces, strict=True)]
    for name, piece in tqdm(turns, what, unit="step", disable=None):
        result, seconds = timed_once(piece, device)
        found[name].results.append(result)
        found[name].seconds.append(seconds)
    return found


def timed_once(work: Work, device: torch.device) -> tuple[Any, float]:
    """Return what a work gives and how many seconds it takes, all that it started on a GPU included."""
    _wait_for(device)
    start = time.perf_counter()
    result = work()
    _wait_for(device)
    return result, time.perf_counter() - start


def times_as_fast(own: Sequence[float], other: Sequence[float]) -> float:
    """Return how many times as fast as another a work is, by their seconds: the median of pairs.

    Example:
        >>> times_as_fast([1.0, 2.0, 4.0], [2.0, 6.0, 16.0])
        3.0
    """
    return statistics.median(b / a for a, b in zip(own, other, strict=True))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside, also where a command would work on several batches at a time."""
    before, told = torch.get_num_threads(), os.environ.get(CORES)
    torch.set_num_threads(1)
    if told is not None:
        os.environ[CORES] = "1"
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if told is not None:
            os.environ[CORES] = told


def has_bf16(device: torch.device) -> bool:
    """Say whether the processor has instructions for bfloat16; others would do it by way of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(this_processor().abilities & {"avx512_bf16", "amx_bf16", "bf16", "arm_bf16"})


@torch.no_grad()
def matrix_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Measure the best rate of matrix products in GFLOP/s, in each way that there is on a device."""
    ways: dict[str, Callable[..., Work]] = {"F.linear": _linear}
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        ways["oneDNN packed"] = _packed
    shapes = SHAPES if device.type == "cpu" else (*SHAPES, *_LARGER)
    return {name: max(_rate(way, shape, device, dtype) for shape in shapes) for name, way in ways.items()}


def _rate(way: Callable[..., Work], shape: tuple[int, int, int], device: torch.device, dtype: Any) -> float:
    rows, inputs, outputs = shape
    tensors = [torch.randn(size, device=device).to(dtype) for size in ((rows, inputs), (outputs, inputs))]
    work, fastest = way(*tensors), float("inf")
    work()
    until = time.perf_counter() + _PATIENCE
    while time.perf_counter() < until:
        fastest = min(fastest, timed_once(work, device)[1])
    return 2e-9 * rows * inputs * outputs / fastest


def _linear(inputs: torch.Tensor, weight: torch.Tensor) -> Work:
    return lambda: F.linear(inputs, weight)


def _packed(inputs: torch.Tensor, weight: torch.Tensor) -> Work:
    operations = torch.ops.mkldnn
    packed = operations._reorder_linear_weight(weight, len(inputs))
    return lambda: operations._linear_pointwise(inputs, packed, None, "none", [], "")


def gigaflops(work: Work) -> float:
    """Count the floating-point work of products, convolutions and attention, in 10**9, in this thread."""
    from torch.utils.flop_counter import FlopCounterMode

    with _plain_kernels(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Compute inside by those of torch's kernels that it has formulas for; the others do the same work."""
    fused, asked = torch.backends.mha.get_fastpath_enabled(), os.environ.get(OVERRIDE, "")
    torch.backends.mha.set_fastpath_enabled(False)
    os.environ[OVERRIDE] = "torch"
    kernels_here.cache_clear()
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        os.environ[OVERRIDE] = asked
        kernels_here.cache_clear()


def not_matrix_work(work: Work, device: torch.device, count: int = 5) -> list[dict[str, Any]]:
    """Name the largest things that a work does beside matrix products, with milliseconds and share of it."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would tell of its own start and end
    from torch.profiler import ProfilerActivity, profile

    field = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        seconds = timed_once(work, device)[1]
    spent = {event.key: getattr(event, field) / 1e3 for event in profiler.key_averages()}
    spent["outside of torch"] = max(0.0, 1e3 * seconds - sum(spent.values()))
    rest = {name: ms for name, ms in spent.items() if not _MATRIX.search(name)}
    largest = sorted(rest, key=lambda name: -rest[name])[:count]
    return [{"name": name, "ms": rest[name], "share": rest[name] / (1e3 * seconds)} for name in largest]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
