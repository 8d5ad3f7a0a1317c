"""Runs of commands in processes forked from one that has imported everything, to be killed and resumed.

A start costs a second in place of ten. Two processes are started as a cluster would: each finds its rank in
its environment.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "experiments.zero_shot",
        "experiments.run.evaluate",
        "gl_ris.zero_shot",
        "datamodules",
        "open_clip",
        "spacy",
    ]
)
LIMIT = 120


def run_in_fork(arguments: Sequence[str], environment: dict[str, str], log: str) -> None:
    """Run a command; what a process of this kind is started with."""
    from lightning.pytorch.utilities import rank_zero_only

    from gl_ris.command_line import exit_code
    from gl_ris.visualize import draw_overlays

    os.environ.update(environment)
    rank_zero_only.rank = int(environment.get("LOCAL_RANK", "0"))
    draw_overlays.__kwdefaults__["count"] = 1
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = list(arguments)
    code = exit_code(import_module(f"experiments.{arguments[0]}").main)
    sys.stdout.flush()
    os._exit(code)


def start(arguments: Sequence[str], processes: int, log: Path) -> list[BaseProcess]:
    """Start a command in so many processes, a rank each."""
    own = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    environments = [own]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "NODE_RANK": "0"}
        own["WORLD_SIZE"] = str(processes)
        environments = [{**own, "LOCAL_RANK": str(rank)} for rank in range(processes)]
    line = [*arguments, f"trainer.devices={processes}"]
    started = [CONTEXT.Process(target=run_in_fork, args=(line, env, str(log))) for env in environments]
    for process in started:
        process.start()
    return started


def finish(arguments: Sequence[str], processes: int, log: Path) -> None:
    """Run a command to its end."""
    started = start(arguments, processes, log)
    for process in started:
        process.join(LIMIT)
    assert [process.exitcode for process in started] == [0] * processes, log.read_text()[-3000:]


def kill_at_random(
    arguments: Sequence[str], folder: Path, processes: int, seconds: tuple[float, float], log: Path
) -> bool:
    """Start a command, kill one of its processes at a random moment, and the others soon after.

    Half of the moments are taken from the whole run, the others from behind its first record; ``seconds``
    says how long both last. Returns whether there was something left to kill.
    """
    started = start(arguments, processes, log)
    victim = random.choice(started)
    whole, behind = seconds
    wait, early = random.uniform(0, whole), random.random() < 0.5
    if not early:
        until = time.monotonic() + LIMIT
        before = written(folder)
        while written(folder) == before and victim.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        wait = random.uniform(0, behind)
    victim.join(wait)
    alive = victim.is_alive()
    victim.kill()
    time.sleep(random.uniform(0, 0.1))
    for process in started:
        process.kill()
        process.join()
    return alive


def written(folder: Path) -> int:
    """Count the bytes of records and results in a run folder."""
    total = 0
    for path in _files(folder):
        with suppress(FileNotFoundError):  # merging has renamed it since it was listed
            total += path.stat().st_size
    return total


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.glob("*"):
        if path.name.startswith(("predictions", "results", "sweep.")):
            yield path


def outcome(folder: Path, name: str = "results.json") -> tuple[bytes, dict[str, Any]]:
    """Return predictions and document of a run, without what is about time and place."""
    text = (folder / name).read_text(encoding="utf-8").replace(str(folder), "RUN")
    document = json.loads(text)
    for key in ("seconds", "created", "versions", "git_commit"):
        document.pop(key, None)
    predictions = folder / "predictions.jsonl"
    return predictions.read_bytes() if predictions.exists() else b"", document


def kill_and_resume(
    arguments: Sequence[str], folder: Path, processes: Sequence[int], kills: int, seed: int
) -> int:
    """Kill runs so many times, resume each until it is done, and compare with one that nobody disturbs.

    Returns how many resumed runs took something over.
    """
    random.seed(seed)
    log, taken = folder / "log.txt", 0
    folder.mkdir()
    calm, times = {}, {}
    for count in sorted(set(processes)):
        for attempt in ("cold", "warm"):
            run, begun = folder / f"{attempt}{count}", time.monotonic()
            started = start(_line(arguments, run), count, log)
            while not written(run) and started[0].is_alive():
                time.sleep(0.005)
            first = time.monotonic()
            for process in started:
                process.join(LIMIT)
            calm[count], times[count] = outcome(run), (time.monotonic() - begun, time.monotonic() - first)
    number = done = 0
    while done < kills:
        number += 1
        run = folder / f"run{number}"
        first = random.choice(list(processes))
        for _ in range(random.randint(1, 4)):
            count = random.choice(list(processes))
            alive = kill_at_random(_line(arguments, run), run, count, times[count], log)
            done += alive
            print(f"{done} kills", flush=True)
            if done == kills or not alive:
                break
        mark = log.stat().st_size
        finish(_line(arguments, run), random.choice(list(processes)), log)
        taken += bool(re.search(r"going on: [1-9]", log.read_text()[mark:]))
        records, document = outcome(run)
        expected = calm[int(document["config"]["trainer"]["devices"])]
        assert records == expected[0], run
        assert document == expected[1], run
        assert not [path for path in run.iterdir() if path.name.startswith((".", "progress", "predictions_"))]
        shutil.rmtree(run)
    return taken


def _line(arguments: Sequence[str], run: Path) -> list[str]:
    return [*arguments, f"run_dir={run}", f"store={run}/store", "resume=true"]
