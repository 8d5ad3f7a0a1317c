from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor

from datamodules import PhraseCut, RefCOCO, Scene
from gl_ris.errors import UserError
from gl_ris.proposals import Felzenszwalb, ProposalGenerator, Proposals


def many(root: Path, **options: Any) -> RefCOCO:
    return RefCOCO(root, "many", "toy", "val", **options)


def scenes(data: RefCOCO | PhraseCut) -> list[Scene]:
    return list(data.predict_dataloader())


class LeftHalf(ProposalGenerator):
    name = "left half"

    def settings(self) -> dict[str, Any]:
        return {}

    def __call__(self, image: Tensor) -> Proposals:
        mask = torch.zeros(image.shape[1:], dtype=torch.bool)
        mask[:, : image.shape[2] // 2] = True
        return Proposals.from_masks(mask[None])


def test_a_scene_holds_all_that_is_asked_of_its_image(refcoco_root: Path) -> None:
    (scene,) = scenes(RefCOCO(refcoco_root))
    assert scene.expressions == ["狗 dog", "left dog", "café dog"]
    assert (scene.ref_ids, scene.sent_ids) == ([4, 9, 9], [102, 100, 101])
    assert scene.referents.tolist() == [0, 1, 1]
    assert scene.referents.dtype == torch.int64
    assert (scene.image_id, scene.index, scene.error, scene.proposals) == (7, 0, None, None)
    assert scene.image.dtype == torch.uint8
    assert scene.targets.dtype == torch.bool
    assert scene.targets.sum(dim=(1, 2)).tolist() == [4, 12]
    values = np.arange(180).reshape(6, 10, 3) * 7 % 251  # as the fixture paints it
    np.testing.assert_array_equal(scene.image.numpy(), values.transpose(2, 0, 1))


def test_scenes_come_in_order_and_the_text_agrees_with_them(many_images: Path) -> None:
    data = many(many_images)
    all_scenes = scenes(data)
    assert [s.image_id for s in all_scenes] == [3, 6, 9, 12, 15, 18, 21]
    assert [s.index for s in all_scenes] == list(range(7))
    assert data.expressions() == [text for s in all_scenes for text in s.expressions]
    assert (data.n_images, data.n_expressions) == (7, 28)
    assert data.expressions()[:3] == ["thing 100", "thing 200", "thing 201"]


def test_expressions_need_no_image(many_images: Path) -> None:
    for image in (many_images / "images").iterdir():
        image.unlink()
    assert len(many(many_images).expressions()) == 28


def test_making_a_data_module_reads_nothing(tmp_path: Path) -> None:
    data = RefCOCO(tmp_path / "none", "refcocog", "umd", "test", proposals="ground_truth")
    assert (data.dataset_name, data.partition, data.split) == ("refcocog", "umd", "test")
    assert data.proposals_name == "ground_truth"


def test_annotations_are_read_once(many_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = many(many_images)
    assert data.n_images == 7
    monkeypatch.setattr(data, "read_records", lambda all_instances: pytest.fail("read again"))
    data.setup()
    data.setup("predict")
    assert len(scenes(data)) == data.n_images == 7


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"limit": 3}, [3, 6, 9]),
        ({"limit": 7}, [3, 6, 9, 12, 15, 18, 21]),
        ({"limit": 100}, [3, 6, 9, 12, 15, 18, 21]),
        ({"limit": 100, "limit_seed": 1}, [3, 6, 9, 12, 15, 18, 21]),
    ],
    ids=["first", "all", "more", "more-seeded"],
)
def test_limit_takes_the_first_images(many_images: Path, options: dict[str, int], ids: list[int]) -> None:
    data = many(many_images, **options)
    assert [s.image_id for s in scenes(data)] == ids
    assert [s.index for s in scenes(data)] == list(range(len(ids)))
    assert data.n_expressions == sum(i // 3 for i in ids)


def test_a_seeded_limit_is_a_sample_in_order(many_images: Path) -> None:
    samples = [
        [record.image_id for record in many(many_images, limit=3, limit_seed=seed).records]
        for seed in range(20)
    ]
    assert all(len(set(sample)) == 3 and sample == sorted(sample) for sample in samples)
    assert len({tuple(sample) for sample in samples}) > 5
    assert samples[4] == [record.image_id for record in many(many_images, limit=3, limit_seed=4).records]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(tmp_path: Path, limit: int) -> None:
    with pytest.raises(UserError, match=f"limit is {limit}"):
        RefCOCO(tmp_path, limit=limit)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(many_images: Path, workers: int) -> None:
    got = scenes(many(many_images, num_workers=workers, proposals=LeftHalf()))
    assert [s.image_id for s in got] == [3, 6, 9, 12, 15, 18, 21]
    assert all(s.proposals is not None and s.proposals.masks.sum() == 32 for s in got)
    assert [len(s.expressions) for s in got] == [1, 2, 3, 4, 5, 6, 7]


def test_ground_truth_proposals(refcoco_root: Path) -> None:
    data = RefCOCO(refcoco_root, proposals="ground_truth")
    (scene,) = scenes(data)
    assert scene.proposals is not None
    assert scene.proposals.masks.sum(dim=(1, 2)).tolist() == [1, 12, 4]
    assert scene.proposals.boxes.tolist() == [[8, 0, 9, 1], [2, 1, 6, 4], [0, 0, 2, 2]]
    assert scene.proposals.scores.tolist() == [1, 1, 1]
    for target in scene.targets:
        assert any(torch.equal(target, mask) for mask in scene.proposals.masks)


def test_empty_instances_are_no_proposals(refcoco_root: Path, instances: dict[str, Any]) -> None:
    for annotation in instances["annotations"]:
        annotation["segmentation"] = [[1, 1, 2, 2]]
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (scene,) = scenes(RefCOCO(refcoco_root, proposals="ground_truth"))
    assert scene.proposals is not None
    assert scene.proposals.masks.shape == (0, 6, 10)
    assert scene.error is None
    assert not scene.targets.any()


@pytest.mark.parametrize(
    ("proposals", "name"),
    [
        (None, None),
        ("ground_truth", "ground_truth"),
        ("felzenszwalb", "felzenszwalb"),
        (LeftHalf(), "left half"),
    ],
    ids=["none", "ground-truth", "by-name", "generator"],
)
def test_proposals_have_a_name(proposals: Any, name: str | None) -> None:
    assert RefCOCO(proposals=proposals).proposals_name == name


@pytest.mark.parametrize("proposals", ["felzenswalb", "", 3, Felzenszwalb, ["ground_truth"]], ids=str)
@pytest.mark.parametrize("module", [RefCOCO, PhraseCut])
def test_unknown_proposals_are_refused_at_once(module: Any, proposals: Any) -> None:
    with pytest.raises(UserError, match=r"Unknown proposals .* Available: None, felzenszwalb, ground_truth"):
        module(proposals=proposals)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "image cannot be read"),
        (lambda path: path.write_bytes(b"<html>"), "image cannot be read"),
    ],
    ids=["truncated", "web-page"],
)
def test_an_unreadable_image_costs_its_scene_alone(many_images: Path, damage: Any, error: str) -> None:
    damage(many_images / "images" / "6.png")
    got = scenes(many(many_images, proposals=LeftHalf()))
    bad = got[1]
    assert bad.error is not None
    assert bad.error.startswith(error)
    assert bad.image.shape == (3, 8, 8)
    assert not bad.image.any()
    assert bad.targets.sum(dim=(1, 2)).tolist() == [9, 9]
    assert bad.proposals is None
    assert bad.expressions == ["thing 200", "thing 201"]
    assert [s.error for s in got if s is not bad] == [None] * 6


def test_an_image_of_another_size_is_an_error(refcoco_root: Path, instances: dict[str, Any]) -> None:
    for image in instances["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    instances["annotations"][2]["segmentation"]["size"] = [10, 6]
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (scene,) = scenes(RefCOCO(refcoco_root))
    assert scene.error == "image is 10 x 6, annotated as 6 x 10"
    assert scene.image.shape == (3, 10, 6)
    assert scene.targets.shape == (2, 10, 6)


def test_a_mask_of_another_size_is_an_error(refcoco_root: Path, instances: dict[str, Any]) -> None:
    instances["annotations"][2]["segmentation"] = {"size": [10, 6], "counts": [0, 60]}
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (scene,) = scenes(RefCOCO(refcoco_root))
    assert scene.error is not None
    assert scene.error.startswith("target of ref 4: ")
    assert scene.targets.sum(dim=(1, 2)).tolist() == [0, 12]
    assert not scene.image.any()
    (scene,) = scenes(RefCOCO(refcoco_root, proposals="ground_truth"))
    assert scene.error is not None


def test_a_faulty_ground_truth_proposal_is_an_error(refcoco_root: Path, instances: dict[str, Any]) -> None:
    instances["annotations"][0]["segmentation"] = "none"
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (scene,) = scenes(RefCOCO(refcoco_root, proposals="ground_truth"))
    assert (
        scene.error == "a ground-truth proposal: the segmentation is str, not polygons or a run-length code"
    )
    assert scene.targets.sum(dim=(1, 2)).tolist() == [4, 12]
    assert scene.proposals is None


def test_missing_images_are_listed_or_counted(many_images: Path) -> None:
    for name in ("9.png", "21.png"):
        (many_images / "images" / name).unlink()
    with pytest.raises(
        UserError, match=r"2 of 7 images are not in '.*images' \(the first: 9\.png, 21\.png\)"
    ):
        many(many_images).setup()
    got = scenes(many(many_images, allow_missing_images=True))
    missing = [s.image_id for s in got if s.error == "image file is missing"]
    assert (len(got), missing) == (7, [9, 21])


@pytest.mark.parametrize("name", ["../6.png", "/etc/passwd"])
def test_a_file_name_that_leads_out_stops_everything(many_images: Path, name: str) -> None:
    path = many_images / "many" / "instances.json"
    path.write_text(path.read_text().replace('"6.png"', json.dumps(name)))
    with pytest.raises(UserError, match="leads out of"):
        many(many_images).setup()


@pytest.mark.parametrize(
    "place",
    ["train2014", "images/mscoco/images/train2014", "coco/train2014", "images", "many/images", "elsewhere"],
)
def test_images_are_found_under_the_usual_layouts(many_images: Path, tmp_path: Path, place: str) -> None:
    files = sorted((many_images / "images").iterdir())
    (many_images / "parked").mkdir()
    for file in files:
        file.rename(many_images / "parked" / file.name)
    (many_images / place).mkdir(parents=True, exist_ok=True)
    for file in files:
        (many_images / "parked" / file.name).rename(many_images / place / file.name)
    root = many_images / place if place == "elsewhere" else None
    assert [s.error for s in scenes(many(many_images, image_root=root))] == [None] * 7


def test_no_image_folder_names_where_it_looked(many_images: Path) -> None:
    (many_images / "images").rename(many_images / "elsewhere")
    with pytest.raises(
        UserError, match=r"None of the images \(3\.png, \.\.\.\) is in .*train2014.*Set image_root"
    ):
        many(many_images).setup()
    with pytest.raises(UserError, match=r"is in '[^']*nowhere'\. Set image_root"):
        many(many_images, image_root=many_images / "nowhere").setup()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            ("manny", "toy", "val"),
            r"Unknown data set in '.*' 'manny'\. Did you mean 'many'\? Available: many\.",
        ),
        (("many", "unc", "val"), r"Unknown partition .* 'unc'\. Available: toy\."),
        (
            ("many", "toy", "va"),
            r"Unknown split of many \(toy\) 'va'\. Did you mean 'val'\? Available: val\.",
        ),
    ],
    ids=["dataset", "partition", "split"],
)
def test_unknown_names_list_what_is_there(
    many_images: Path, arguments: tuple[str, str, str], match: str
) -> None:
    with pytest.raises(UserError, match=match):
        RefCOCO(many_images, *arguments).setup()


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No folder '.*nowhere': root should hold 'refcoco/refs"):
        RefCOCO(tmp_path / "nowhere").setup()


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


def test_phrasecut_scenes(tmp_path: Path) -> None:
    from PIL import Image

    from datamodules.phrasecut import write_phrasecut

    points = [[1, 1], [3, 1], [3, 3], [1, 3]]
    task = {"task_id": "4__1", "image_id": 4, "ann_ids": [1], "phrase": "red box", "Polygons": [[points]]}
    structure = {"name": "box", "attributes": ["red"], "relation_descriptions": [], "type": "name"}
    write_phrasecut(
        tmp_path / "VGPhraseCut_v0",
        "miniv",
        [task | {"phrase_structure": structure}],
        [{"image_id": 4, "width": 9, "height": 5, "url": "", "split": "miniv"}],
    )
    (tmp_path / "images").mkdir()
    Image.new("L", (9, 5), 130).save(tmp_path / "images" / "4.jpg")
    data = PhraseCut(tmp_path, "miniv", proposals="ground_truth")
    (scene,) = scenes(data)
    assert (scene.expressions, scene.ref_ids, scene.sent_ids) == (["red box"], ["4__1"], ["4__1"])
    assert scene.targets.sum() == 9
    assert scene.proposals is not None
    assert torch.equal(scene.proposals.masks, scene.targets)
    assert (scene.image == 130).all()


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


def test_a_scene_moves_whole(refcoco_root: Path) -> None:
    (scene,) = scenes(RefCOCO(refcoco_root, proposals="ground_truth"))
    moved = scene.to("meta")
    assert moved.proposals is not None
    tensors = [moved.image, moved.targets, moved.referents, moved.proposals.masks, moved.proposals.boxes]
    assert {t.device.type for t in [*tensors, moved.proposals.scores]} == {"meta"}
    assert moved.expressions == scene.expressions
    assert scene.image.device.type == "cpu"
