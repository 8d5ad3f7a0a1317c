"""Small jobs of the benchmark, each a process of its own: threads, start-up, memory and several processes."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments.grid.cells import RESULTS, read_results
from experiments.grid.runner import children, start
from experiments.run.measuring import in_turns, times_as_fast
from gl_ris.cores import CORES, THREADS
from gl_ris.errors import EvaluationError, UserError
from gl_ris.signals import Ended

FLAT = (50, 200, 1000)  # numbers of images at which time and memory of a job are measured

_ON_CPU, _COUNTS = ("data.num_workers=0", "trainer.accelerator=cpu"), (("two", 2), ("one", 1))
PAIRS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "threads": ("default_to_one_thread", {"default": (), "one_thread": ("data.num_workers=0",)}),
    "processes": ("two_to_one", {name: (*_ON_CPU, f"trainer.devices={count}") for name, count in _COUNTS}),
}
"""What is compared by its stages: the name of the ratio, and the words of either job; without workers a
process has one thread."""

_LOOK = 0.01
_IMPORT = re.compile(r"^import time: +(\d+) \| +\d+ \| +([\w.]+)", re.MULTILINE)
_OWN = ("gl_ris", "datamodules", "experiments")
_PACKAGES = 8
_CPU = torch.device("cpu")

scratch = partial(tempfile.TemporaryDirectory, prefix="gl-ris-benchmark-")


class Job(NamedTuple):
    """What one run of the main job took."""

    # from its start to its end, and to its first prediction
    seconds: float
    first: float
    stages: float  # of its stages, as its results say
    rss_mb: float  # the largest memory of its main process
    # seconds of imports up to the first prediction by package; empty unless asked for
    imports: Mapping[str, float] = {}


def run_job(*words: str, store: str | Path = "false", imports: bool = False) -> Job:
    """Run the main job, with more ``words`` on its command line, in a folder that is removed again.

    A new folder for the ``store`` of proposals makes a cold job, one that a job has filled a warm one.
    Without workers it computes by one thread; ``imports`` says what is imported. `UserError` if the job says
    that something has to be mended, `EvaluationError` if it failed.
    """
    with scratch() as name, children() as processes:
        run, log = Path(name) / "run", Path(name) / "log.txt"
        line = [sys.executable, *(["-X", "importtime"] if imports else []), "-m", "experiments.zero_shot"]
        line += [f"run_dir={run}", f"store={store}", "wandb=disabled", "trainer.enable_progress_bar=false"]
        threads = dict.fromkeys(THREADS, "1") if "data.num_workers=0" in words else {}
        began = time.perf_counter()
        with log.open("wb") as output:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output}
            # whatever the shell says of threads, default settings are those of a shell that says nothing
            without = (*THREADS, CORES)
            processes.append(start([*line, *words], threads, without, stderr=subprocess.STDOUT, **options))
        first, at_first, memory = _watch(processes[0], run, log, began)
        seconds = time.perf_counter() - began
        _check(processes[0], log)
        stages = read_results(run / RESULTS)["seconds"]["total"]
        packages = _imports(log.read_bytes()[:at_first].decode(errors="replace")) if imports else {}
        return Job(seconds, first, stages, memory, packages)


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


def measure_start_up(job: Callable[..., Job] = run_job) -> dict[str, Any]:
    """Measure how long a warm main job takes to its first prediction, and what that is made of."""
    with scratch() as store:
        again = partial(job, "limit=4", store=store)
        # the first fills the store, and draws RefShapes where it is not yet
        jobs = in_turns({"jobs": [again, again, partial(again, imports=True)]}, _CPU, "start-up")["jobs"]
    _, warm, looked_into = jobs.results
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    interpreter = time.perf_counter() - began
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


def measure_pair(part: str, images: int, repeats: int, job: Callable[..., Job] = run_job) -> dict[str, Any]:
    """Time the stages of cold main jobs A B A B, in the two ways that `PAIRS` names for a part."""
    ratio, ways = PAIRS[part]
    turns = {name: [partial(_cold, job, images, *words)] * repeats for name, words in ways.items()}
    timed = in_turns(turns, _CPU, part)
    found = {name: [job.stages for job in one.results] for name, one in timed.items()}
    return {ratio: times_as_fast(*found.values()), "images": images, "seconds": found}


def measure_flat(job: Callable[..., Job] = run_job) -> dict[str, Any]:
    """Measure time per image and peak memory of cold main jobs of more and more images."""
    works = {str(count): [partial(_cold, job, count, "data.split=train")] for count in FLAT}
    found = {count: timed.results[0] for count, timed in in_turns(works, _CPU, "flat").items()}
    return {
        "ms_per_image": {count: 1e3 * one.stages / int(count) for count, one in found.items()},
        "rss_mb": {count: one.rss_mb for count, one in found.items()},
    }


def _cold(job: Callable[..., Job], images: int, *words: str) -> Job:
    with scratch() as store:
        return job(f"limit={images}", *words, store=store)
