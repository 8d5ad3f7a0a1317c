"""Scenes spread over processes: each exactly once, in Lightning's hands too."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer

from datamodules import RefCOCO, Scene
from datamodules.shards import share_out
from gl_ris.errors import UserError
from toy_images import LeftHalf, many, scenes


@pytest.mark.parametrize(("world_size", "fine"), [(1, True), (7, True), (8, False)])
def test_every_process_needs_an_image(many_images: Path, world_size: int, fine: bool) -> None:
    data = many(many_images)
    if fine:
        data.check_world_size(world_size)
        return
    with pytest.raises(
        UserError, match=r"7 images cannot be spread over 8 processes; use --trainer.devices=7"
    ):
        data.check_world_size(world_size)


def process(data: RefCOCO, rank: int, world_size: int, first: Any = None) -> RefCOCO:
    """Let data be those of one process; of another one than the first, ``first`` is what that one says."""
    said = (lambda own: own) if first is None else (lambda _: first)
    strategy = SimpleNamespace(broadcast=said)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=world_size, num_devices=world_size, global_rank=rank, strategy=strategy
    )
    return data


def indices(data: RefCOCO) -> list[int]:
    return [scene.index for scene in scenes(data)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_shards_are_disjoint_and_whole(many_images: Path, world_size: int) -> None:
    shards = [indices(process(many(many_images), rank, world_size)) for rank in range(world_size)]
    assert sorted(index for shard in shards for index in shard) == list(range(7))
    assert all(shards)
    assert all(shard == sorted(shard) for shard in shards)


STORED = {3: 40, 6: 2, 9: 2, 12: 38, 15: 2, 18: 40, 21: 2}  # by the id of the image


@pytest.mark.parametrize(
    ("options", "work", "expected"),
    [
        # an image more per proposal of the ground truth: it has one on each image
        ({"proposals": "ground_truth"}, None, [[0, 2, 4, 6], [1, 3, 5]]),
        # expressions: 1 to 7 of them
        ({}, None, [[2, 3, 6], [0, 1, 4, 5]]),
        ({}, (STORED,), [[0, 3], [1, 2, 4, 5, 6]]),
        # what is not known counts as what is known does in the mean: 40
        ({}, ({3: 40, 18: 40},), [[0, 2, 4, 6], [1, 3, 5]]),
        ({}, ({3: 0, 6: 0, 9: 0, 12: 0}, 20), [[4, 6], [0, 1, 2, 3, 5]]),
    ],
)
def test_processes_get_equal_work(
    many_images: Path, options: dict[str, Any], work: Any, expected: list[list[int]]
) -> None:
    shards = []
    for rank in range(2):
        data = process(many(many_images, **options), rank, 2)
        if work is not None:
            data.share_by(*work)
        shards.append(indices(data))
    assert shards == expected


def test_the_work_is_what_the_first_process_says(many_images: Path) -> None:
    """Another one may have looked into the store a moment later."""
    first, second = (process(many(many_images), rank, 2, [41, 3, 3, 39, 3, 41, 3]) for rank in range(2))
    second.share_by({})
    assert [indices(first), indices(second)] == [[0, 3], [1, 2, 4, 5, 6]]


def test_a_run_that_goes_on_shares_what_is_left(many_images: Path) -> None:
    shards = []
    for rank in range(3):
        data = process(many(many_images), rank, 3)
        data.leave_out([0, 2, 3, 5, 6], 3)
        shards.append(indices(data))
    # 1 and 4 are left, and each process needs an image
    assert sorted(shards) == [[0], [1], [4]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 4))
def test_shares_are_close_to_the_best(work: list[int], count: int) -> None:
    shares = share_out(work, count)
    assert sorted(place for share in shares for place in share) == list(range(len(work)))
    assert len(work) < count or all(shares)
    heaviest = max(sum(work[place] for place in share) for share in shares)
    assert heaviest <= (4 / 3) * best(tuple(sorted(work, reverse=True)), (0,) * count)


@functools.cache
def best(work: tuple[int, ...], loads: tuple[int, ...]) -> int:
    """Try every way of sharing."""
    if not work:
        return max(loads)
    tried = {tuple(sorted([*loads[:k], loads[k] + work[0], *loads[k + 1 :]])) for k in range(len(loads))}
    return min(best(work[1:], after) for after in tried)


class Collect(LightningModule):
    """Keeps what it is given; with a folder, writes it there, one file per process."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.seen: list[Scene] = []

    def predict_step(self, scene: Scene, batch_idx: int) -> None:
        self.seen.append(scene)

    def on_predict_end(self) -> None:
        if self.folder is not None:
            lines = [json.dumps([s.index, s.image_id, s.expressions]) for s in self.seen]
            (self.folder / str(self.global_rank)).write_text("\n".join(lines))


QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def test_lightning_predicts_one_scene_a_step(many_images: Path) -> None:
    module = Collect()
    Trainer(devices=1, **QUIET).predict(module, datamodule=many(many_images, proposals=LeftHalf()))
    assert [type(s) for s in module.seen] == [Scene] * 7
    assert [s.index for s in module.seen] == list(range(7))


@pytest.mark.ddp
def test_two_processes_share_the_scenes_exactly(many_images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    trainer = Trainer(devices=2, strategy="ddp_fork", **QUIET)
    trainer.predict(Collect(out), datamodule=many(many_images), return_predictions=False)
    shards = [[json.loads(line) for line in (out / rank).read_text().splitlines()] for rank in ("0", "1")]
    assert [[index for index, _, _ in shard] for shard in shards] == [[2, 3, 6], [0, 1, 4, 5]]
    texts = [text for _, _, texts in sorted(shards[0] + shards[1]) for text in texts]
    assert texts == many(many_images).expressions()
