"""One Scene per image: order, limits, names, workers."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

import datamodules
from datamodules import PhraseCut, RefCOCO
from gl_ris.errors import UserError
from gl_ris.proposals import Felzenszwalb, Proposals
from toy_images import LeftHalf, many, scenes


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


class ByNumber(LeftHalf):
    """Serves the images that it was prepared for, each with one mask of as many columns as its place says."""

    def prepare(self, image_ids: Sequence[int | str]) -> None:
        self.known = list(image_ids)

    def for_image(self, image_id: int | str, image: Tensor) -> Proposals:
        mask = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
        mask[..., : 1 + self.known.index(image_id)] = True
        return Proposals.from_masks(mask)


def test_a_generator_is_told_the_images_before_and_each_by_its_id(many_images: Path) -> None:
    generator = ByNumber()
    data = many(many_images, proposals=generator)
    masks = [scene.proposals.masks for scene in scenes(data) if scene.proposals is not None]
    assert generator.known == data.image_ids() == [3, 6, 9, 12, 15, 18, 21]
    assert [int(mask[0, 0].sum()) for mask in masks] == [1, 2, 3, 4, 5, 6, 7]


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
    with pytest.raises(
        UserError, match=r"Unknown proposals .* Available: None, .*felzenszwalb, .*ground_truth"
    ):
        module(proposals=proposals)


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


def test_a_split_without_expressions_is_told(many_images: Path) -> None:
    path = many_images / "many" / "refs(toy).p"
    path.write_bytes(pickle.dumps([{**ref, "sentences": []} for ref in pickle.loads(path.read_bytes())]))
    with pytest.raises(UserError, match=r"Split 'val' of many \(toy\) has no expression; choose another"):
        many(many_images).setup()


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"No folder '.*nowhere/refcoco': data\.root=.*nowhere should hold 'refcoco/refs.*download",
    ):
        RefCOCO(tmp_path / "nowhere").setup()


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
    assert {name: members.tolist() for name, members in scene.subsets.items()} == {
        "unseen_names": [True],
        "unseen_synonyms": [True],
    }
    assert {members.device.type for members in scene.to("meta").subsets.values()} == {"meta"}


def test_a_scene_moves_whole(refcoco_root: Path) -> None:
    (scene,) = scenes(RefCOCO(refcoco_root, proposals="ground_truth"))
    moved = scene.to("meta")
    assert moved.proposals is not None
    tensors = [moved.image, moved.targets, moved.referents, moved.proposals.masks, moved.proposals.boxes]
    assert {t.device.type for t in [*tensors, moved.proposals.scores]} == {"meta"}
    assert moved.expressions == scene.expressions
    assert moved.subsets == {}
    assert scene.image.device.type == "cpu"


SHARED = {"proposals": None, "limit": None, "limit_seed": None, "num_workers": None, "pin_memory": False}
SHARED |= {"sentences": None, "without": None}
FOLDERS = {"image_root": None, "allow_missing_images": False}
OPTIONS = {
    "PhraseCut": SHARED | FOLDERS | {"root": "data/phrasecut", "split": "test"},
    "RefCOCO": SHARED
    | FOLDERS
    | {"root": "data", "dataset": "refcoco", "split_by": "unc", "split": "val"}
    | {"instances": None, "crowds": False, "overlap": "union"},
    "RefCOCOBenchmark": SHARED
    | {"root": "data", "dataset": "refcoco", "split_by": "unc", "split": "val", "overlap": "union"},
    "RefCOCOM": SHARED | {"root": "data", "split": "val"},
    "RefShapes": SHARED | {"dataset": "refshapesg", "split": "val", "seed": 0},
    "RefShapesPhrases": SHARED | {"split": "test", "seed": 0},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_command_line_sees_own_and_shared_options_and_no_others(name: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(getattr(datamodules, name), "data")
    assert parser.get_defaults().data.as_dict() == OPTIONS[name]
    assert "Evaluate only so many images" in parser.format_help()


def test_an_option_that_is_settled_cannot_be_given() -> None:
    with pytest.raises(TypeError, match="allow_missing_images"):
        datamodules.RefShapes(allow_missing_images=True)
    with pytest.raises(TypeError, match="limt"):
        RefCOCO(limt=3)
