"""Scenes spread over processes: each exactly once, in Lightning's hands too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler

from datamodules import Scene
from gl_ris.errors import UserError
from toy_images import LeftHalf, many


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


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_shards_are_disjoint_and_whole(many_images: Path, world_size: int) -> None:
    data = many(many_images)
    dataset: Any = data.predict_dataloader().dataset
    shards = [
        list(UnrepeatedDistributedSampler(dataset, num_replicas=world_size, rank=rank, shuffle=False))
        for rank in range(world_size)
    ]
    assert sorted(index for shard in shards for index in shard) == list(range(7))
    assert shards[0] == list(range(0, 7, world_size))


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
    assert [[index for index, _, _ in shard] for shard in shards] == [[0, 2, 4, 6], [1, 3, 5]]
    texts = [text for _, _, texts in sorted(shards[0] + shards[1]) for text in texts]
    assert texts == many(many_images).expressions()
