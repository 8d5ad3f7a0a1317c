"""How fast this program is on this machine, and against what: ``python -m experiments.benchmark``."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from experiments.cli.command import Command, closing_words, run

if TYPE_CHECKING:
    import torch

    from experiments.run.synthetic_scenes import Sizes

COMMAND = Command.documented("benchmark")


@dataclass
class Benchmark:
    """What is measured.

    Args:
        models: CLIP models, a list of open_clip's names (random weights), local-dir:FOLDER or shipped ones.
        precisions: Of the program, a list of fp32, bf16 and fp16; the plain loop is always in fp32.
        parts: What to measure, a list of clip, threads and startup.
        images: Scenes for each model, each measured once by all; they have 2 and 3 refs in turns.
        masks: Masks in each scene.
        size: Height and width of the scenes in pixels.
        job_images: Images of the small main jobs.
        repeats: How often each kind of job is run.
        full: Measure also time and memory at 50, 200 and 1,000 images, and one process against two.
        device: Where the models compute: cpu, cuda, or auto for a GPU where there is one. On a CPU by one
            thread.
        seed: Of weights and scenes.
        wandb: A benchmark is not logged; auto and disabled are the same.
    """

    models: list[str] | str = "ViT-B-32"
    precisions: list[Literal["fp32", "bf16", "fp16"]] | None = None
    parts: list[Literal["clip", "threads", "startup"]] | None = None
    images: int = 2
    masks: int = 40
    size: tuple[int, int] = (480, 640)
    job_images: int = 24
    repeats: int = 2
    full: bool = False
    device: str = "auto"
    seed: int = 0
    wandb: Literal["auto", "disabled"] = "auto"

    def check(self) -> None:
        """Raise a `UserError` for what cannot be measured, before anything is."""
        from gl_ris.clip import load_clip
        from gl_ris.errors import UserError

        counts = {name: getattr(self, name) for name in ("images", "masks", "job_images", "repeats")}
        counts |= dict(zip(("size (height)", "size (width)"), self.size, strict=True))
        for name, value in counts.items():
            if value < 1:
                raise UserError(f"{name}={value} must be 1 or more.")
        self.place()
        with warnings.catch_warnings():
            # of random weights, which are meant, and of weights that have no place on this device
            warnings.simplefilter("ignore")
            for model in self.names() if self.wanted("clip") else ():
                load_clip(model, device="meta")

    def wanted(self, part: str) -> bool:
        """Say whether a part is to be measured; without a list, all are."""
        return self.parts is None or part in self.parts

    def names(self) -> list[str]:
        """Return the models, each once."""
        return list(dict.fromkeys([self.models] if isinstance(self.models, str) else self.models))

    def kinds(self) -> list[str]:
        """Return the precisions, each once."""
        return list(dict.fromkeys(self.precisions or ("fp32", "bf16")))

    def sizes(self) -> Sizes:
        """Return the sizes of the scenes."""
        from experiments.run.synthetic_scenes import Sizes

        return Sizes(self.images, self.masks, *self.size)

    def place(self) -> torch.device:
        """Return the device; a `UserError` if it is not there."""
        import torch

        from gl_ris.clip.loading import load_clip

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        load_clip("refshapes-vit", device=self.device)  # says what is wrong with it
        return torch.device(self.device)


def measure(settings: Benchmark) -> dict[str, Any]:
    """Measure everything that is wanted, and return the document; see docs/performance.md."""
    from experiments.run.clip_benchmark import measure_model
    from gl_ris.program import git_commit, versions

    start, before = time.perf_counter(), _load()
    models = settings.names() if settings.wanted("clip") else ()
    options = settings.kinds(), settings.sizes(), settings.place(), settings.seed
    found = {name: measure_model(name, *options) for name in models}
    jobs, job_controls = _jobs(settings)
    load = None if before is None else {"before": before, "after": _load()}
    return {
        "schema": 1,
        "experiment": COMMAND.name,
        "machine": {**_machine(settings), "load": load},
        "controls": {name: controls for name, (_, controls) in found.items()} | job_controls,
        "clip": {name: figures for name, (figures, _) in found.items()},
        **jobs,
        "seconds": time.perf_counter() - start,
        "config": asdict(settings),
        "versions": versions(),
        "git_commit": git_commit(),
    }


def _jobs(settings: Benchmark) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure the small jobs that are wanted, between two looks at the matrix rate, and its control."""
    from experiments.grid import job_benchmark as jobs
    from experiments.run.measuring import Control

    nothing = dict.fromkeys(map(str, jobs.FLAT))
    pairs = {part: {ratio: None, "images": None, "seconds": None} for part, (ratio, _) in jobs.PAIRS.items()}
    found: dict[str, Any] = {
        "threads": pairs["threads"],
        "startup": None,
        "flat": {"ms_per_image": nothing, "rss_mb": nothing},
        "processes": pairs["processes"],
    }
    pair = partial(jobs.measure_pair, images=settings.job_images, repeats=settings.repeats)
    works: dict[str, tuple[bool, Callable[[], dict[str, Any]]]] = {
        "startup": (settings.wanted("startup"), jobs.measure_start_up),
        "threads": (settings.wanted("threads"), partial(pair, "threads")),
        "flat": (settings.full, jobs.measure_flat),
        "processes": (settings.full, partial(pair, "processes")),
    }
    if not any(wanted for wanted, _ in works.values()):
        return found, {}
    before = _rates()
    found |= {part: work() for part, (wanted, work) in works.items() if wanted}
    control = Control(before, _rates())
    for part, (ratio, _) in jobs.PAIRS.items():
        if works[part][0]:
            found[part][ratio] = control.verdict(found[part][ratio])
    return found, {"jobs": {"fp32": control.document()}}


def _rates() -> dict[str, float]:
    import torch

    from experiments.run.measuring import matrix_rates, one_thread

    with one_thread():
        return matrix_rates(torch.device("cpu"), torch.float32)


def _load() -> float | None:
    """Return the load average of the last minute, where the system has one."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _machine(settings: Benchmark) -> dict[str, Any]:
    import platform

    import torch

    from gl_ris.clip.kernels import from_cpuinfo
    from gl_ris.cores import available

    place = settings.place()
    return {
        "processor": from_cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": available(),
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        "system": platform.platform(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def main() -> None:
    """Measure what the command line describes."""
    from experiments.cli.parts import parse_settings
    from experiments.grid.runner import PATIENCE
    from experiments.reporting.benchmark_report import page_of
    from experiments.run.evaluate import write_config
    from experiments.run.folder import RunFolder
    from gl_ris.files import write_json
    from gl_ris.signals import kept_if_ended

    given, run_dir, overwrite = parse_settings(COMMAND, Benchmark, sys.argv[1:])
    settings = Benchmark(**given)
    place = RunFolder(COMMAND.name, run_dir, overwrite, resumable=False)
    settings.check()
    folder = place.create()

    try:
        with kept_if_ended(lambda: "a benchmark is measured in one go, nothing of it is kept", 2 * PATIENCE):
            document = measure(settings)
    except BaseException:
        place.discard_if_empty()
        raise
    write_config(folder / "config.yaml", asdict(settings), COMMAND.program)
    write_json(folder / "benchmark.json", document)
    place.close()
    print(f"\n{page_of(document)}\n")
    closing_words(COMMAND.name, folder)


if __name__ == "__main__":
    run(COMMAND, main)
