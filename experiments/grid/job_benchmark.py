"""Small jobs of the benchmark, each a process of its own: threads, start-up, memory and several processes."""

import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from experiments.grid.cells import RESULTS, read_results
from experiments.grid.runner import children, start
from gl_ris.cores import CORES, THREADS
from gl_ris.errors import EvaluationError, UserError
from gl_ris.signals import Ended

FLAT = (50, 200, 1000)
"""Numbers of images at which time and memory of a job are measured."""

# whatever the shell says of threads, default settings are those of a shell that says nothing
_THREADS = (*THREADS, CORES)
_ONE_THREAD = dict.fromkeys(THREADS, "1")
_LOOK = 0.01
_IMPORT = re.compile(r"^import time: +(\d+) \| +\d+ \| +([\w.]+)", re.MULTILINE)
_OWN = ("gl_ris", "datamodules", "experiments")
_PACKAGES = 8


@dataclass(frozen=True)
class Job:
    """What one run of the main job took."""

    # from its start to its end, and to its first prediction
    seconds: float
    first: float
    stages: float  # of its stages, as its results say
    rss_mb: float  # the largest memory of its main process
    # seconds of imports up to the first prediction by package; empty unless asked for
    imports: Mapping[str, float] = field(default_factory=dict)


def run_job(*words: str, store: str | Path = "false", one_thread: bool = False, imports: bool = False) -> Job:
    """Run the main job, with more ``words`` on its command line, in a folder that is removed again.

    A new folder for the ``store`` of proposals makes a cold job, one that a job has filled a warm one.
    ``one_thread`` computes by one thread, without workers; ``imports`` says what is imported. `UserError` if
    the job says that something has to be mended, `EvaluationError` if it failed.
    """
    with tempfile.TemporaryDirectory(prefix="gl-ris-benchmark-") as name, children() as processes:
        run, log = Path(name) / "run", Path(name) / "log.txt"
        line = [sys.executable, *(["-X", "importtime"] if imports else []), "-m", "experiments.zero_shot"]
        line += [f"run_dir={run}", f"store={store}", "wandb=disabled", "trainer.enable_progress_bar=false"]
        line += [*words, *(["data.num_workers=0"] if one_thread else [])]
        began = time.perf_counter()
        with log.open("wb") as output:
            threads, streams = (
                _ONE_THREAD if one_thread else {},
                {"stdout": output, "stderr": subprocess.STDOUT},
            )
            processes.append(start(line, threads, _THREADS, stdin=subprocess.DEVNULL, **streams))
        first, at_first, memory = _watch(processes[0], run, log, began)
        seconds = time.perf_counter() - began
        _check(processes[0], log)
        results = read_results(run / RESULTS)
        packages = _imports(log.read_bytes()[:at_first].decode(errors="replace")) if imports else {}
        return Job(seconds, first, results["seconds"]["total"], memory, packages)


def _watch(process: subprocess.Popen[bytes], run: Path, log: Path, start: float) -> tuple[float, int, float]:
    """Wait for the end; return seconds and size of the log at the first prediction, and the memory in MB."""
    first: tuple[float, int] | None = None
    while True:
        if first is None and any(file.stat().st_size for file in run.glob("predictions*.jsonl")):
            first = time.perf_counter() - start, log.stat().st_size
        # not by `Popen.wait`, which does not tell the memory
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        time.sleep(_LOOK)
    process.returncode = os.waitstatus_to_exitcode(status)
    # in kilobytes, on macOS in bytes
    memory = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    return (*(first or (time.perf_counter() - start, log.stat().st_size)), memory)


def _check(process: subprocess.Popen[bytes], log: Path) -> None:
    if not process.returncode:
        return
    if (cause := Ended.with_child("a job of the benchmark", process.returncode)).code > 128:
        raise cause
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    kind = UserError if process.returncode == 2 else EvaluationError
    raise kind(f"A job of the benchmark failed: {''.join(last).removeprefix('error: ')}")


def _imports(log: str) -> dict[str, float]:
    """Add up seconds of imports by package, the largest first; ours are one, and small ones together."""
    spent: Counter[str] = Counter()
    for micros, module in _IMPORT.findall(log):
        package = module.partition(".")[0]
        spent["gl-ris" if package in _OWN else package] += int(micros)
    largest = dict(spent.most_common(_PACKAGES))
    others = spent.total() - sum(largest.values())
    return {name: micros / 1e6 for name, micros in {**largest, "others": others}.items()}


def measure_start_up(step: Callable[[], Any], job: Callable[..., Job] = run_job) -> dict[str, Any]:
    """Measure how long a warm main job takes to its first prediction, and what that is made of."""
    with tempfile.TemporaryDirectory(prefix="gl-ris-benchmark-") as store:
        job("limit=4", store=store)  # fills the store, and draws RefShapes where it is not yet
        step()
        warm = job("limit=4", store=store)
        step()
        looked_into = job("limit=4", store=store, imports=True)
        step()
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    interpreter = time.perf_counter() - start
    imports = sum(looked_into.imports.values())
    return {
        "seconds_to_first_result": warm.first,
        # the parts are those of a job that writes down what it imports, which takes longer
        "seconds_to_first_result_traced": looked_into.first,
        "parts": {
            "interpreter": interpreter,
            "imports": imports,
            "settings, models, data, first image": max(0.0, looked_into.first - imports - interpreter),
            "after the first result": warm.seconds - warm.first,
        },
        "imports": dict(looked_into.imports),
    }


def measure_threads(
    images: int, repeats: int, step: Callable[[], Any], job: Callable[..., Job] = run_job
) -> dict[str, Any]:
    """Time the stages of a cold main job A B A B: default settings, and one thread without workers."""
    ways = {"default": False, "one_thread": True}
    found = _in_turns(
        {name: partial(_cold, job, images, one_thread=one) for name, one in ways.items()}, repeats, step
    )
    return {
        "default_to_one_thread": _ratio(found["default"], found["one_thread"]),
        "images": images,
        "seconds": found,
    }


def measure_flat(step: Callable[[], Any], job: Callable[..., Job] = run_job) -> dict[str, Any]:
    """Measure time per image and peak memory of cold main jobs of more and more images."""
    found = {}
    for count in FLAT:
        found[str(count)] = _cold(job, count, "data.split=train")
        step()
    return {
        "ms_per_image": {count: 1e3 * one.stages / int(count) for count, one in found.items()},
        "rss_mb": {count: one.rss_mb for count, one in found.items()},
    }


def measure_processes(
    images: int, repeats: int, step: Callable[[], Any], job: Callable[..., Job] = run_job
) -> dict[str, Any]:
    """Time the stages of a cold main job A B A B: one process and two, each by one thread."""
    cold = partial(_cold, job, images, "trainer.accelerator=cpu", one_thread=True)
    found = _in_turns(
        {name: partial(cold, f"trainer.devices={count}") for name, count in (("two", 2), ("one", 1))},
        repeats,
        step,
    )
    return {"two_to_one": _ratio(found["two"], found["one"]), "images": images, "seconds": found}


def _in_turns(
    ways: Mapping[str, Callable[[], Job]], repeats: int, step: Callable[[], Any]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _, (name, way) in itertools.product(range(repeats), ways.items()):
        found[name].append(way().stages)
        step()
    return found


def _cold(job: Callable[..., Job], images: int, *words: str, one_thread: bool = False) -> Job:
    with tempfile.TemporaryDirectory(prefix="gl-ris-benchmark-") as store:
        return job(f"limit={images}", *words, store=store, one_thread=one_thread)


def _ratio(own: list[float], other: list[float]) -> float:
    """Return how many times as fast the first is: the median of pairs."""
    return statistics.median(b / a for a, b in zip(own, other, strict=True))
