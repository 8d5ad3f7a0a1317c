"""The processes of one run: whatever ends one of them ends all, in good order."""

import os
import subprocess
import threading
import time

from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher, subprocess_script

from gl_ris.signals import Ended, end

_POLL = 0.2
_SEEN_LATER = 1.0


def take_over(trainer: Trainer, title: str) -> None:
    """Let signals, and the end of a process, be answered by this project rather than by Lightning.

    Its bar says ``title`` in place of "Predicting".

    Its handler of SIGTERM waits, inside, for other processes that may wait for this one; what watches its
    processes kills the first one without a word.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    subprocess_script._launch_process_observer = watch
    if (shown := trainer.progress_bar_callback) is not None:
        shown.__class__ = type("Bar", (type(shown),), {"predict_description": title})


def as_launched() -> dict[str, int]:
    """Return the trainer's options for processes that torchrun or srun has started; none without them."""
    if TorchElasticEnvironment.detect():
        every, here = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return {"devices": here, "num_nodes": every // here}
    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return {"devices": int(os.environ["SLURM_NTASKS"]) // nodes, "num_nodes": nodes}
    return {}


def watch(child_processes: list[subprocess.Popen[bytes]]) -> None:
    """End this process as soon as one of those that it has started fails, until the list is emptied."""
    threading.Thread(target=_watch, args=(child_processes,), daemon=True).start()


def _watch(processes: list[subprocess.Popen[bytes]]) -> None:
    while any(process.poll() is None for process in processes):
        if cause := _lost(processes):
            end(cause)
            return
        time.sleep(_POLL)
    if cause := _lost(processes):
        end(cause)


def _lost(processes: list[subprocess.Popen[bytes]]) -> Ended | None:
    for rank, process in enumerate(processes, start=1):
        if code := process.poll():
            return Ended.with_child(f"process {rank} of the run", code)
    return None


def end_ranks(trainer: Trainer, error: BaseException) -> Ended | None:
    """End the processes started for a trainer; return the loss of one if ``error`` comes of it."""
    launcher = trainer.strategy.launcher
    watched = launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []
    processes = watched.copy()
    cause = _cause(error, processes)
    watched.clear()  # those that are ended here are not lost
    for process in processes:
        process.kill()
    return cause


def _cause(error: BaseException, processes: list[subprocess.Popen[bytes]]) -> Ended | None:
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid"):
        return Ended(
            1, "a process that reads images was killed, perhaps for lack of memory (data.num_workers)"
        )
    until = time.monotonic() + _SEEN_LATER
    while isinstance(error, RuntimeError) and processes and time.monotonic() < until:
        if cause := _lost(processes):
            return cause
        time.sleep(_POLL / 2)
    return None
