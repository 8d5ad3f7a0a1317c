"""The store: what goes in comes out, nothing is mixed up, and damage is noticed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gl_ris.errors import UserError
from gl_ris.masks import encode_rle
from gl_ris.proposals import SLIC, CutLER, Felzenszwalb, FreeSOLO, Proposals
from gl_ris.proposals.store import (
    FIRST_PATHS,
    ImageKey,
    ProposalStore,
    StoreKey,
    find_stores,
    pack,
    read_index,
    unpack,
)

KEY = StoreKey("toy", "unc", "val", "made", "tests.Made", 1, {"a": 1, "b": [0.5, None]}, None)
IMAGE = ImageKey(7, 5, 6, "aa")


class OwnSLIC(SLIC):
    """One of a user's own."""


def some(count: int = 3, height: int = 5, width: int = 6, seed: int = 0) -> Proposals:
    rng = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, height, width, generator=rng) > 0.5
    return Proposals(masks, torch.randn(count, 4, generator=rng), torch.randn(count, generator=rng))


def same(a: Proposals | None, b: Proposals) -> bool:
    pairs = [] if a is None else [(a.masks, b.masks), (a.boxes, b.boxes), (a.scores, b.scores)]
    return bool(pairs) and all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_proposals_come_out_as_they_went_in(count: int, height: int, width: int, seed: int) -> None:
    proposals = some(count, height, width, seed)
    assert same(unpack(pack(proposals)), proposals)


@pytest.mark.parametrize("cut", [0, 4, 11, 12, 30, -1])
def test_a_record_that_is_cut_off_is_an_error(cut: int) -> None:
    content = pack(some())
    with pytest.raises(UserError, match="Damaged record"):
        unpack(content[: cut if cut >= 0 else len(content) + cut])


def test_what_was_put_is_read_by_whoever_opens_the_store(tmp_path: Path) -> None:
    store = ProposalStore(tmp_path, KEY)
    assert not store.folder.exists()
    others = [IMAGE._replace(image_id="7"), IMAGE._replace(image_id="ö\ud800"), IMAGE._replace(pixels="bb")]
    images = [IMAGE, *others]
    for seed, image in enumerate(images):
        store.put(image, some(seed, seed=seed), seconds=0.25)
    for reader in (store, ProposalStore(tmp_path, KEY), ProposalStore.at(store.folder)):
        for seed, image in enumerate(images):
            assert same(reader.get(image), some(seed, seed=seed))
        assert reader.get(IMAGE._replace(height=9)) is None
        assert reader.image_ids == {7, "7", "ö\ud800"}
        assert [(entry.count, entry.seconds) for entry in reader.entries] == [(n, 0.25) for n in range(4)]
    assert store.size == sum(path.stat().st_size for path in store.folder.iterdir())


def test_reading_one_image_reads_its_record_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ProposalStore(tmp_path, KEY)
    images = [IMAGE._replace(image_id=n) for n in range(50)]
    for image in images:
        store.put(image, some(20))
    store = ProposalStore(tmp_path, KEY)
    (records,) = store.folder.glob("*.masks")
    asked: list[int] = []
    path_open = Path.open

    class Counting:
        def __init__(self, file: Any) -> None:
            self.file, self.seek = file, file.seek

        def read(self, length: int) -> bytes:
            asked.append(length)
            return self.file.read(length)

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

    monkeypatch.setattr(Path, "open", lambda *args, **kwargs: Counting(path_open(*args, **kwargs)))
    assert same(store.get(images[30]), some(20))
    assert asked == [records.stat().st_size // 50]


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "toy+"},
        {"partition": None},
        {"split": "testA"},
        {"generator": "other"},
        {"generator_class": "tests.Other"},
        {"version": 2},
        {"settings": {"a": 1, "b": [0.5]}},
        {"settings": {"a": 1, "b": [0.5, None], "c": None}},
        {"weights": "00ff"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_differs_leads_to_another_store(change: dict[str, Any], tmp_path: Path) -> None:
    ProposalStore(tmp_path, KEY).put(IMAGE, some())
    assert ProposalStore(tmp_path, replace(KEY, **change)).get(IMAGE) is None
    assert same(ProposalStore(tmp_path, KEY).get(IMAGE), some())


def test_how_a_setting_is_written_does_not_matter(tmp_path: Path) -> None:
    ProposalStore(tmp_path, KEY).put(IMAGE, some())
    again = replace(KEY, settings={"b": (0.5, None), "a": 1.0})
    assert same(ProposalStore(tmp_path, again).get(IMAGE), some())


def test_stores_of_before_classes_moved_are_found_again(tmp_path: Path) -> None:
    assert StoreKey.of(SLIC(), "refshapesg", "shapes", "val").path == Path(
        "refshapesg-shapes-val/slic-9eb8573bc080"
    )
    moved = (SLIC, Felzenszwalb, CutLER, FreeSOLO)
    assert {f"{made.__module__}.{made.__qualname__}" for made in moved} == set(FIRST_PATHS)
    assert StoreKey.of(OwnSLIC(), "toy", None, "val").generator_class == f"{__name__}.OwnSLIC"


def test_the_manifest_says_in_clear_what_is_stored(tmp_path: Path) -> None:
    generator = Felzenszwalb(scale=300)
    key = StoreKey.of(generator, "ref/../coco", "unc", "val")
    store = ProposalStore(tmp_path, key, generator.league)
    store.put(IMAGE, some())
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert manifest["settings"] == generator.settings()
    assert [manifest[name] for name in ("dataset", "generator", "league")] == [
        "ref/../coco",
        "felzenszwalb",
        "unsupervised",
    ]
    assert store.folder.parent.parent == tmp_path
    assert [found.folder for found in find_stores(tmp_path, "ref/../coco", "unc", "val")] == [store.folder]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 1}', "FOREIGN"], ids=["empty", "list", "bare", "foreign"]
)
def test_a_folder_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    store = ProposalStore(tmp_path, KEY)
    store.put(IMAGE, some())
    manifest = store.folder / "manifest.json"
    if content == "FOREIGN":
        content = json.dumps({**json.loads(manifest.read_text()), "version": 5})
    manifest.write_text(content)
    with pytest.raises(UserError, match=r"manifest.*remove (its|the) folder to have them made anew"):
        ProposalStore(tmp_path, KEY)


def test_a_failure_is_kept_with_its_reason_until_it_works(tmp_path: Path) -> None:
    store = ProposalStore(tmp_path, KEY)
    store.put_failure(IMAGE, "RuntimeError: no luck")
    store.put_failure(IMAGE, "RuntimeError: no luck")
    reader = ProposalStore(tmp_path, KEY)
    assert reader.get(IMAGE) is None
    assert reader.failures == {IMAGE: "RuntimeError: no luck"}
    assert (len(reader), reader.image_ids) == (0, set())
    assert sum(1 for path in store.folder.glob("*.index") for _ in read_index(path)) == 1
    reader.put(IMAGE, some(0))
    store.refresh()
    assert store.failures == {}
    assert same(store.get(IMAGE), some(0))


def damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", ["masks", "index"])
def test_a_damaged_image_counts_as_not_stored_and_the_others_stay(suffix: str, tmp_path: Path) -> None:
    images = [IMAGE._replace(image_id=n) for n in range(3)]
    store = ProposalStore(tmp_path, KEY)
    for image in images:
        store.put(image, some())
    (path,) = store.folder.glob(f"*.{suffix}")
    damage(path, path.stat().st_size // 2)
    store = ProposalStore(tmp_path, KEY)
    assert [store.get(image) is None for image in images] == [False, True, False]
    store.put(images[1], some())
    store = ProposalStore(tmp_path, KEY)
    assert all(same(store.get(image), some()) for image in images)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[",
        b"[" * 10_000,
        b'{"image": 3, "count": 1, "seconds": 0}',
        b'{"image": [8, 5, 6], "count": 1, "seconds": 0}',
        b'{"image": [8, 5, 6, {}], "count": 1, "seconds": 0}',
        b'{"image": [8, 5, 6, "aa"], "count": 1, "seconds": 0, "offset": []}',
        b'{"image": [8, 5, 6, "aa"], "count": 1, "seconds": 0, "offset": -5}',
        b'{"image": [8, 5, 6, "aa"], "count": ' + b"9" * 5000 + b', "seconds": 0}',
    ],
    ids=["empty", "half", "deep", "number", "short", "dict", "list", "negative", "long"],
)
def test_a_line_that_is_odd_in_spite_of_its_checksum_is_passed_over(line: bytes, tmp_path: Path) -> None:
    store = ProposalStore(tmp_path, KEY)
    store.put(IMAGE, some())
    store.close()
    (path,) = store.folder.glob("*.index")
    path.write_bytes(b"%08x %s\n" % (zlib.crc32(line), line) + path.read_bytes())
    store = ProposalStore(tmp_path, KEY)
    assert len(store) == 1
    assert same(store.get(IMAGE), some())


@pytest.mark.parametrize(
    "head",
    [(1, 2**32 - 1, 2**32 - 1), (0, 2**32 - 1, 2**32 - 1), (1, 2**16, 2**16), (1, 10_000, 10_000)],
    ids=str,
)
def test_a_record_of_masks_of_absurd_size_is_an_error(head: tuple[int, ...]) -> None:
    code = encode_rle(torch.ones(5, 6, dtype=torch.bool))["counts"].encode()
    length = [len(code)] * head[0]
    content = np.array([*head, *length], "<u4").tobytes() + bytes(20 * head[0]) + code * head[0]
    with pytest.raises(UserError, match="Damaged"):
        unpack(content)


def test_files_cut_off_at_any_byte_leave_what_was_whole(tmp_path: Path) -> None:
    images = [IMAGE._replace(image_id=n) for n in range(3)]
    whole = ProposalStore(tmp_path / "whole", KEY)
    ends = []
    for image in images:
        whole.put(image, some())
        ends.append(next(whole.folder.glob("*.index")).stat().st_size)
    for suffix, stops in (("index", ends), ("masks", [(n + 1) * len(pack(some())) for n in range(3)])):
        for length in {*range(0, stops[-1], 5), *stops, *(stop - 1 for stop in stops)}:
            shutil.rmtree(tmp_path / "cut", ignore_errors=True)
            shutil.copytree(tmp_path / "whole", tmp_path / "cut")
            os.truncate(next((tmp_path / "cut").rglob(f"*.{suffix}")), length)
            found = ProposalStore(tmp_path / "cut", KEY)
            assert len(found) == sum(stop <= length for stop in stops), (suffix, length)


def start_filling(folder: Path, made: dict[int, Proposals], puts: int = 0, seconds: float = 0) -> int:
    """Fork a process that stores what is missing; with ``seconds``, it is killed so long after some puts."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            store = ProposalStore(folder, KEY)
            images = {number: IMAGE._replace(image_id=number) for number in made}
            missing = [number for number, image in images.items() if image not in store]
            for done, number in enumerate(missing):
                if done == puts:
                    signal.setitimer(signal.ITIMER_REAL, seconds)
                store.put(images[number], made[number])
        finally:
            os._exit(0)
    return child


def test_a_store_killed_at_random_moments_ends_up_as_one_left_in_peace(tmp_path: Path) -> None:
    """Two processes at a time, their shares overlapping; killed without warning until the work is done."""
    made = {number: some(9, 30, 30, seed=number) for number in range(300)}
    shares = [{n: p for n, p in made.items() if n < 200}, {n: p for n, p in made.items() if n >= 100}]
    rng, killed, stored = random.Random(3), 0, 0
    for _ in range(100):
        # sooner than the work is done, however busy the machine
        children = [
            start_filling(tmp_path, share, rng.randint(1, 20), rng.uniform(0.0001, 0.001)) for share in shares
        ]
        for child in children:
            killed += os.waitpid(child, 0)[1] == signal.SIGALRM
        found = ProposalStore(tmp_path, KEY)
        assert len(found) >= stored
        stored = len(found)
        if stored == len(made):
            break
    assert killed >= 4
    assert os.waitpid(start_filling(tmp_path, made), 0)[1] == 0
    store = ProposalStore(tmp_path, KEY)
    assert store.image_ids == set(made)
    assert all(same(store.get(IMAGE._replace(image_id=n)), proposals) for n, proposals in made.items())


def test_a_forked_process_writes_files_of_its_own(tmp_path: Path) -> None:
    store = ProposalStore(tmp_path, KEY)
    store.put(IMAGE, some())
    child = os.fork()
    if child == 0:
        store.put(IMAGE._replace(image_id=8), some(seed=8))
        os._exit(0)
    store.put(IMAGE._replace(image_id=9), some(seed=9))
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(store.folder.glob("*.index"))) == 2
    store = ProposalStore(tmp_path, KEY)
    assert [same(store.get(IMAGE._replace(image_id=n)), some(seed=n)) for n in (8, 9)] == [True, True]


def test_a_full_disk_spoils_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ProposalStore(tmp_path, KEY)
    store.put(IMAGE, some())
    assert store._shard is not None
    half = type(
        "Half",
        (),
        {"write": lambda self, content: 3, "tell": lambda self: 0, "close": lambda self: 0, "closed": 1},
    )
    half.name = "disk"  # type: ignore[attr-defined]
    monkeypatch.setattr(store._shard, "_records", half())
    with pytest.raises(OSError, match="No space left"):
        store.put(IMAGE._replace(image_id=8), some())
    store.put(IMAGE._replace(image_id=9), some(seed=9))
    store = ProposalStore(tmp_path, KEY)
    assert store.image_ids == {7, 9}


def test_the_key_of_an_image_depends_on_id_size_and_every_pixel() -> None:
    image = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8)
    other = image.clone()
    other[2, 7, 8] ^= 1
    keys = [
        ImageKey.of(1, image),
        ImageKey.of("1", image),
        ImageKey.of(1, other),
        ImageKey.of(1, image.reshape(3, 9, 8)),
    ]
    assert len(set(keys)) == 4
    assert ImageKey.of(1, image.permute(0, 2, 1).contiguous().permute(0, 2, 1)) == keys[0]
