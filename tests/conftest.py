"""What every test relies on: a seed, a working folder and a store of its own, nothing logged."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_collection_finish() -> None:
    """Leave what was imported out of what is looked through for garbage while tests run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for each test: `mktemp` would look at those of all others before it names one."""
    root = tmp_path_factory.mktemp("worlds")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_world(worlds: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import torch

    # `torch.manual_seed` would queue a call with its stack for each kind of device there might be
    torch.default_generator.manual_seed(0)
    world = next(worlds)
    folder, store = world / "cwd", world / "store"
    for made in (folder, store):
        made.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("GL_RIS_STORE", str(store))
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    yield
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    # `folder` is only where a test may be by chance; what it writes has a place of its own.
    assert not stray_files(folder), f"left in the working folder: {stray_files(folder)}"


@pytest.fixture(scope="session")
def drawn_refshapes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """RefShapes in the cache: one worker draws it where it is not, the others wait."""
    from filelock import FileLock

    from datamodules import RefShapes

    with FileLock(tmp_path_factory.getbasetemp().parent / "refshapes.lock"):
        RefShapes().prepare_data()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium, see `browser.chromium`; skips where there is none."""
    from browser import chromium, reason_not_to

    if reason := reason_not_to():
        pytest.skip(reason)
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def stray_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("runs", ".pytest_cache"))
