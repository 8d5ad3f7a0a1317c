"""Workers of data loaders: no room in shared memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from datamodules.workers import MOST, _Handover, usual_workers
from gl_ris.cores import CORES, THREADS

ROOT = Path(__file__).parents[2]
# Docker has 64 MB, whatever the machine has; this is a hundred kilobytes.
SMALL = "mount -t tmpfs -o size=100k tmpfs /dev/shm && exec "
LOADS = """
import torch
from torch.utils.data import DataLoader
from datamodules.workers import LoaderWorker

images = [torch.full((3, 300, 400), value, dtype=torch.uint8) for value in range(5)]
loader = DataLoader(images, batch_size=None, num_workers=2, worker_init_fn=LoaderWorker.of_this_process())
print(sum(torch.equal(image, wanted) for image, wanted in zip(loader, images, strict=True)))
"""


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32, torch.int64])
@pytest.mark.parametrize("room", [True, False])
def test_tensors_are_handed_over_with_and_without_room(
    room: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def share(tensor: Tensor) -> Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    if not room:
        monkeypatch.setattr(Tensor, "share_memory_", share)
    hand_over = _Handover(0)
    for wanted in (torch.arange(6).reshape(2, 3).to(dtype).T, torch.zeros(0, 4).to(dtype)):
        make, parts = hand_over(wanted)
        assert torch.equal(make(*parts), wanted)
    assert len(caplog.records) == (0 if room else 1)


def test_a_small_shared_memory_stops_nobody() -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("needs a mount namespace of its own")
    answer = subprocess.run(
        [*unshare, "sh", "-c", SMALL + '"$@"', "sh", sys.executable, "-c", LOADS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert answer.stdout == "5\n"
    assert answer.stderr.count("--shm-size") == 1


@pytest.mark.parametrize(
    ("cores", "devices", "platform", "expected"),
    [
        (1, 1, "linux", 0),
        (2, 1, "linux", 2),
        (8, 2, "linux", 4),
        (3, 2, "linux", 0),
        (96, 1, "linux", MOST),
        (8, 1, "darwin", 0),
        (8, None, "linux", 0),
    ],
)
def test_usual_workers_are_as_many_as_cores_of_this_process(
    cores: int, devices: int | None, platform: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gl_ris.cores.available", lambda: cores)
    monkeypatch.setattr("sys.platform", platform)
    for name in (*THREADS, CORES):
        monkeypatch.delenv(name, raising=False)
    trainer = None if devices is None else SimpleNamespace(num_devices=devices)
    assert usual_workers(trainer) == expected
