"""Carries out the cells of a grid, so many side by side; whatever ends this process ends them too."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.cli.command import ROOT, Command, closing_words
from experiments.grid.cells import MANIFEST, RESULTS, Cell, Results, plan, read_results
from experiments.grid.settings import Grid
from gl_ris import signals
from gl_ris.cores import CORES, available, told
from gl_ris.errors import EvaluationError, UserError

LOG, GROUP = "log.txt", "WANDB_RUN_GROUP"
PATIENCE = 2 * signals.PATIENCE
_TAIL = 12


def carry_out(command: Command, kind: type[Grid]) -> None:
    """Run the cells of the grid on the command line, those that are not finished yet or all anew.

    What there is is written after each, and stays if the next one fails, which is an `EvaluationError`.
    """
    from experiments.run.evaluate import write_config
    from experiments.run.folder import RunFolder
    from experiments.run.wandb import log_run

    grid, run_dir, overwrite = kind.parse(command, sys.argv[1:])
    cells = grid.cells()
    place = RunFolder(command.name, run_dir, overwrite, command.program)
    print(f"Checking {len(cells):,} cells ...", flush=True)
    cells = plan(cells, place.given, overwrite)
    folder = place.create()
    write_config(folder / "config.yaml", asdict(grid), command.program)  # type: ignore[call-overload]
    kept = sum(cell.done is not None for cell in cells)
    print(f"{len(cells):,} cells: {kept:,} kept, {len(cells) - kept:,} to run, in {folder}", flush=True)
    group = os.environ.get(GROUP) or folder.resolve().name
    together = {} if grid.wandb is None else {GROUP: group}
    jobs = usual_jobs(cells) if grid.jobs is None else grid.jobs
    again = f"what is finished is kept, and the same command with run_dir={folder} goes on from there"
    try:
        with signals.kept_if_ended(lambda: again, 2 * PATIENCE):
            report = Runner(cells, folder, grid, jobs, together, overwrite).perform()
    finally:
        place.close()
    print(f"\n{report}\n", flush=True)
    closing_words(command.name, folder)
    if grid.wandb is not None:
        log_run(folder, grid.wandb, group)


@dataclass
class Runner:
    """Carries out cells in their order."""

    cells: Sequence[Cell]  # as `plan` returns them
    folder: Path  # for their folders
    grid: Grid  # writes what they amount to
    jobs: int  # how many side by side; the output of several goes to ``log.txt`` in the folder of each
    environment: Mapping[str, str]  # variables for all of them
    overwrite: bool  # whether a training that was cut off begins anew rather than going on

    def perform(self) -> str:
        """Carry out the cells that are not done, and return what the grid says in the end.

        When one fails, the others are ended; a `UserError` if it ended with code 2, having said why.
        """
        results = {cell.name: cell.done for cell in self.cells if cell.done is not None}
        for cell in self.cells:
            path = self.folder / cell.name
            if cell.anew:
                print(f"{cell.label}: begins anew, since {cell.anew}", flush=True)
            if cell.done is None:
                self._clear(cell)
            else:
                print(f"{cell.label}: finished on {cell.done['created']}, kept as it is in {path}")
                print(one_line(cell.label, cell.done), flush=True)
        waiting = [cell for cell in self.cells if cell.done is None]
        report, start = None, time.monotonic()
        # An error in here must end the other cells now, not when the generator is collected.
        with closing(self._ended(waiting)) as ended:
            for cell in ended:
                results[cell.name] = read_results(self.folder / cell.name / RESULTS)
                print(one_line(cell.label, results[cell.name]), flush=True)
                report = self._write(results)
                print(self._progress(results, time.monotonic() - start), flush=True)
        return self._write(results) if report is None else report

    def _clear(self, cell: Cell) -> None:
        """Remove what must not be taken for finished, or be gone on with, should this grid be cut off."""
        from experiments.run.folder import UNFINISHED
        from experiments.run.resuming import end

        path = self.folder / cell.name
        (path / RESULTS).unlink(missing_ok=True)
        if not cell.goes_on:
            end(path)
            shutil.rmtree(path / UNFINISHED, ignore_errors=True)

    def _write(self, results: Mapping[str, Results]) -> str:
        names = [cell.name for cell in self.cells if cell.name in results]
        return self.grid.write(self.folder, {name: results[name] for name in names})

    def _ended(self, waiting: list[Cell]) -> Generator[Cell]:
        """Carry out cells, and yield each when it has ended well."""
        slots, over = shares(self.jobs), len(waiting) % self.jobs
        running: dict[Future[int], tuple[Cell, dict[str, str], float]] = {}
        # The processes are ended before the threads that wait for them are.
        with ThreadPoolExecutor(self.jobs) as threads, children() as processes:
            while waiting or running:
                unfinished = {cell.name for cell in (*waiting, *(cell for cell, *_ in running.values()))}
                ready = [cell for cell in waiting if cell.after not in unfinished]
                for cell in ready[: len(slots)]:
                    waiting.remove(cell)
                    slot = slots.pop(0)
                    # the last ones, where they are fewer than run side by side, have more cores each
                    fewer = len(waiting) < over and "CUDA_VISIBLE_DEVICES" not in slot
                    processes.append(self._start(cell, shares(over)[0] if fewer else slot))
                    running[threads.submit(processes[-1].wait)] = cell, slot, time.monotonic()
                done = wait(running, return_when=FIRST_COMPLETED).done
                # of those that ended at once, what went well counts before what failed
                for ended in sorted(done, key=lambda future: bool(future.result())):
                    cell, slot, began = running.pop(ended)
                    if ended.result():
                        raise self._failure(cell, ended.result())
                    slots.append(slot)
                    if self.jobs > 1:
                        print(f"{cell.label}: ended after {time.monotonic() - began:,.0f} s", flush=True)
                    yield cell

    def _start(self, cell: Cell, slot: Mapping[str, str]) -> subprocess.Popen[bytes]:
        command, environment = cell.command(self.folder), {**self.environment, **slot}
        if self.jobs == 1:
            print(f"{cell.label}:", flush=True)
            return start(command, environment)
        log = self.folder / cell.name / LOG
        print(f"{cell.label}: begins, its output is in {log}", flush=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        # A bar that is drawn over and over would fill a file.
        command.append("trainer.enable_progress_bar=false")
        with log.open("ab") as file:
            output: dict[str, Any] = {"stdout": file, "stderr": subprocess.STDOUT}
            return start(command, environment, stdin=subprocess.DEVNULL, **output)

    def _failure(self, cell: Cell, code: int) -> BaseException:
        """Build the error for a cell that ended with a code other than 0."""
        if (cause := signals.Ended.with_child(cell.label, code)).code > 128:
            return cause
        log = self.folder / cell.name / LOG
        if self.jobs > 1 and log.is_file():
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
            print(f"The end of {log}:", *lines, sep="\n", file=sys.stderr, flush=True)
        kind = UserError if code == 2 else EvaluationError
        return kind(
            f"{cell.label} was not evaluated, see above. What is finished is in '{self.folder}'; the same "
            f"command with run_dir={self.folder} goes on from there."
        )

    def _progress(self, results: Mapping[str, Results], seconds: float) -> str:
        """Say how many cells are finished and, as soon as a training tells its refs, how many steps."""
        counted = f"{len(results):,} of {len(self.cells):,} cells are finished."
        trained = [self.folder / name for name in results if (self.folder / name / MANIFEST).is_file()]
        if not trained or len(results) == len(self.cells):
            return counted
        from tqdm import tqdm

        from experiments.reporting.fewshot_report import read_available

        refs = read_available(trained[0])
        steps = {cell.name: cell.steps(refs) for cell in self.cells}
        kept = sum(steps[cell.name] for cell in self.cells if cell.done is not None)
        done, total = sum(steps[name] for name in results), sum(steps.values())
        meter = tqdm.format_meter(done, total, seconds, prefix="steps", unit="step", initial=kept)
        return f"{counted} {meter}"


def one_line(label: str, results: Results) -> str:
    """Say in a line what came of a cell."""
    from experiments.reporting.frame import number

    figures = "; ".join(
        f"{method}: oIoU {number(row['oIoU'])}, mIoU {number(row['mIoU'])}"
        for method, row in results["methods"].items()
    )
    training = results.get("training")
    learnt = f" ({training['n_refs']:,} refs, {training['seconds']:,.0f} s of training)" if training else ""
    return f"{label}: {figures}{learnt}"


def start(
    command: Sequence[str], more: Mapping[str, str], without: Collection[str] = (), **options: Any
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, with variables added or left out (``without``)."""
    kept = {name: value for name, value in os.environ.items() if name not in without}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(command, env={**kept, "PYTHONPATH": path, **more}, process_group=0, **options)


@contextmanager
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Give a list for processes; when the block is left, by a signal too, those in it are ended."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        yield processes
    finally:
        _end([process for process in processes if process.poll() is None])


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes: first the chance to clean up, then the end, also of what they may have left."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    with suppress(Exception):
        until = time.monotonic() + PATIENCE
        for process in processes:
            process.wait(max(0.0, until - time.monotonic()))
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def shares(jobs: int) -> list[dict[str, str]]:
    """Return the variables that give each of several cells its part of the machine, GPUs and cores.

    What is set already stays. With fewer GPUs than cells, some are shared.
    """
    if jobs == 1:
        return [{}]  # all of the machine is its own
    threads, devices = {} if told() else {CORES: str(max(1, available() // jobs))}, gpus()
    if len(devices) < 2:
        return [threads] * jobs
    parts = [devices[slot::jobs] or [devices[slot % len(devices)]] for slot in range(jobs)]
    return [{**threads, "CUDA_VISIBLE_DEVICES": ",".join(part)} for part in parts]


def usual_jobs(cells: Sequence[Cell]) -> int:
    """Return how many cells go side by side when nobody says so: one per GPU; without any, two on two cores.

    No more than there are to run. Where a cell names devices, each takes all of those: one after the other.
    """
    options = [option.removeprefix("--") for cell in cells for option in cell.arguments]
    if any(option.startswith("trainer.devices") for option in options):
        return 1
    most = sum(cell.done is None for cell in cells)
    return max(1, min(len(gpus()) or min(2, available()), most))


def gpus() -> list[str]:
    """Return the names of the GPUs that this process may use."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
