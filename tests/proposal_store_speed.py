"""Size and speed of the store of proposals: ``python -m tests.proposal_store_speed FOLDER``.

Fills a store with synthetic proposals (wavy blobs of many sizes, as generators give on photographs) and
prints bytes per image, the time to pack, write, open and read at random, and the memory of an open store.
"""

import argparse
import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gl_ris.command_line import add_version
from gl_ris.proposals import Proposals
from gl_ris.proposals.store import Entry, ImageKey, ProposalStore, ShardWriter, StoreKey, pack, unpack

KEY = StoreKey("synthetic", None, "train", "blobs", "tests.Blobs", 1, {}, None)
# Only so many images are packed anew; the rest repeat their bytes, which changes none of the figures.
DISTINCT = 20


def blobs(count: int, height: int, width: int, seed: int) -> Proposals:
    """Draw wavy ellipses with radii from 1.5% to 25% of the width."""
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    masks = torch.empty(count, height, width, dtype=torch.bool)
    for mask in masks:
        u = torch.rand(6, generator=rng)
        dy, dx = y - u[0] * height, x - u[1] * width
        radii = width * 0.015 * (0.25 / 0.015) ** u[2:4]
        angle = torch.atan2(dy, dx)
        wave = 1 + 0.15 * torch.sin(7 * angle + 6 * u[4]) + 0.05 * torch.sin(31 * angle + 6 * u[5])
        mask[:] = (dx / radii[0]) ** 2 + (dy / radii[1]) ** 2 < wave**2
    return Proposals.from_masks(masks, torch.rand(count, generator=rng))


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return what ``work`` gives, and how long it takes."""
    start = time.perf_counter()
    return work(*arguments), time.perf_counter() - start


def memory() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def middle(values: Sequence[float]) -> str:
    """Say median and 95th percentile of times, in milliseconds."""
    ordered = sorted(1e3 * value for value in values)
    return f"median {statistics.median(ordered):.2f} ms, 95% below {ordered[int(0.95 * len(ordered))]:.2f} ms"


def measure(folder: Path, images: int, masks: int, height: int, width: int, processes: int) -> None:
    """Fill a store in ``folder`` and print the figures."""
    made = [blobs(masks, height, width, seed) for seed in range(DISTINCT)]
    records, packing = zip(*(timed(pack, p) for p in made), strict=True)
    del made
    keys = [ImageKey(number, height, width, f"{number:016x}") for number in range(images)]
    empty = ProposalStore(folder, KEY)
    empty.put(keys[0], unpack(records[0]))
    empty.close()
    writers = [ShardWriter(empty.folder) for _ in range(processes)]

    start = time.perf_counter()
    for number, key in enumerate(keys[1:], start=1):
        writers[number % processes].append(Entry(key, masks, 0.1), records[number % DISTINCT])
    writing, before = time.perf_counter() - start, memory()
    store, opening = timed(ProposalStore, folder, KEY)
    grown = memory() - before
    size = store.size
    chosen = random.Random(0).sample(keys, min(500, images))
    checking = [timed(store.__contains__, key)[1] for key in chosen]
    reading = [timed(store.get, key)[1] for key in chosen]
    print(f"{images:,} images of {height} x {width}, {masks} masks each, {processes} shards")
    print(f"size       {size / 1e6:,.0f} MB, {size / images:,.0f} bytes per image")
    print(f"pack       {middle(packing)} per image")
    print(f"write      {1e3 * writing / images:.3f} ms per image, {size / 1e6 / writing:,.0f} MB/s")
    print(f"open       {opening:.2f} s, {grown:,.0f} MB of memory")
    print(f"record     {middle(checking)} to find and check one at random")
    print(f"read       {middle(reading)} with all masks decoded")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_version(parser)
    parser.add_argument("folder", type=Path, help="an empty folder; the store stays in it")
    for option, default in (("images", 27000), ("masks", 100), ("height", 480), ("width", 640)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--processes", type=int, default=4, help="number of shards")
    measure(**vars(parser.parse_args()))
