"""Runs whose processes torchrun has started, on one machine and on two: the bytes of one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import zero_shot

ROOT = Path(__file__).parents[2]
PROPOSALS = ["proposals=felzenszwalb", "proposals.scale=20"]


def torchrun(folder: Path, options: list[str], words: list[str]) -> subprocess.Popen[str]:
    """Start torchrun in a folder, as a user would."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, "-m", "experiments.zero_shot", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_torchrun_gives_the_bytes_of_one_process(
    run_command: Callable[..., tuple[int, str, str]], toy: list[str], tmp_path: Path, nodes: int
) -> None:
    """Three processes on one machine; one on each of two, the second of which works in another folder."""
    words = [word for word in toy if not word.startswith(("methods=", "proposals="))] + PROPOSALS
    words += ["methods=[global_local,random]", f"store={tmp_path / 'store'}", "wandb=disabled"]
    assert run_command(zero_shot, *words, f"run_dir={tmp_path / 'one'}")[0] == 0
    meeting = ["--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{free_port()}", "--nnodes=2"]
    options = ["--nproc_per_node=3", "--standalone"] if nodes == 1 else ["--nproc_per_node=1", *meeting]
    folders = [tmp_path / f"machine{number}" for number in range(nodes)]
    for folder in folders:
        folder.mkdir()
    started = [torchrun(folder, options, [*words, "run_dir=many"]) for folder in folders]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * nodes, said
    (many,) = tmp_path.glob("machine?/many")
    assert (many / "predictions.jsonl").read_bytes() == (tmp_path / "one" / "predictions.jsonl").read_bytes()
    assert (many / "table.csv").read_bytes() == (tmp_path / "one" / "table.csv").read_bytes()
    assert sum(text.count("Upper bound") for text in said) == 1
