"""The annotated objects of an image in its scene: which, what they are called, and who means which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from datamodules import GRefCOCO, PhraseCut, RefCOCO, RefShapes, Scene
from datamodules.objects import Outlines
from datamodules.records import ImageRecord, Referent, Segmentation
from tests.datamodules.test_grefcoco import gref, module


def only(data: Any) -> Scene:
    (scene,) = data.predict_dataloader()
    return scene


def areas(scene: Scene) -> list[int]:
    assert scene.objects is not None
    return scene.objects.sum(dim=(1, 2)).tolist()


def test_refer_files_bring_every_instance_of_the_image(refcoco_root: Path) -> None:
    scene = only(RefCOCO(refcoco_root))
    assert areas(scene) == [1, 12, 4, 60]
    assert list(scene.categories) == ["person", "dog", "dog", "dog"]
    assert list(scene.meant) == [(2,), (1,)]
    for target, (row,) in zip(scene.targets, scene.meant, strict=True):
        assert torch.equal(target, scene.objects[row])


def test_a_damaged_other_instance_costs_no_expression(refcoco_root: Path, instances: dict[str, Any]) -> None:
    instances["annotations"][0] |= {"segmentation": "none", "category_id": [1]}
    instances["annotations"].append({**instances["annotations"][3], "segmentation": [[0, 0, 1, "x"]]})
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    scene = only(RefCOCO(refcoco_root))
    assert (areas(scene), list(scene.meant), scene.faults) == ([12, 4, 60], [(1,), (0,)], [None] * 3)


def test_a_damaged_target_is_not_known(refcoco_root: Path, instances: dict[str, Any]) -> None:
    instances["annotations"][1]["segmentation"] = "none"
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    scene = only(RefCOCO(refcoco_root))
    assert (areas(scene), list(scene.meant)) == ([1, 4, 60], [(1,), None])


def test_several_are_meant_or_nothing(tmp_path: Path) -> None:
    data: GRefCOCO = module(tmp_path, gref(1, [12, 11]), gref(2, [-1]), gref(3, [14, 13]), gref(4, [14]))
    scene = only(data)
    assert areas(scene) == [9, 9, 9, 9]
    assert list(scene.meant) == [(0, 1), (), (2,), None]  # the crowd is no part of a target


def test_refshapes_knows_all_of_its_objects(drawn_refshapes: None) -> None:
    scenes = list(RefShapes("refshapesg", limit=5).predict_dataloader())
    for scene in scenes:
        assert scene.objects is not None
        assert 3 <= len(scene.objects) <= 7
        assert len(scene.categories) == len(scene.objects)
        for target, meant in zip(scene.targets, scene.meant, strict=True):
            assert meant is not None
            assert torch.equal(target, scene.objects[list(meant)].any(dim=0))


def square(side: int) -> Segmentation:
    return Segmentation.from_json([[0, 0, side, 0, side, side, 0, side]])


def test_where_only_targets_are_known_they_are_the_objects_each_once() -> None:
    referents = (
        Referent(1, (square(2), square(3)), ("a",), (1,)),
        Referent(2, (square(2),), ("b",), (2,), "dog"),
        Referent(3, (Segmentation(fault="lost"),), ("c",), (3,)),
        Referent(4, (), ("d",), (4,), targeted=False),
        Referent(5, (), ("e",), (5,), targeted=False, absent=True),
    )
    found = Outlines(ImageRecord(1, "x", 5, 5, referents), "union").objects()
    assert found.masks.sum(dim=(1, 2)).tolist() == [4, 9]
    assert found.categories == ["dog", None]
    assert found.meant == [(0, 1), (0,), None, None, ()]


def test_alike_instances_stay_two_and_too_many_are_left_out() -> None:
    one, other = square(2), square(2)
    referents = (Referent(1, (other,), ("x",), (1,)),)
    few = Outlines(ImageRecord(1, "x", 5, 5, referents, (one, other), ("a", "b")), "union").objects()
    assert (few.categories, few.meant) == (["a", "b"], [(1,)])
    crowd, names = (one, other) * 20, ("a", "b") * 20
    many = Outlines(ImageRecord(1, "x", 8000, 8000, referents, crowd, names), "union").objects()
    assert (len(many.masks), many.meant) == (1, [(0,)])


def test_phrases_share_the_instance_that_both_name(tmp_path: Path) -> None:
    polygon = [[[0, 0], [3, 0], [3, 3], [0, 3]]]
    tasks = [
        {"task_id": f"1__{n}", "image_id": 1, "phrase": f"thing {n}", "Polygons": [polygon] * n}
        for n in (1, 2)
    ]
    (tmp_path / "refer_val.json").write_text(json.dumps(tasks))
    sizes = [{"image_id": 1, "width": 6, "height": 5}]
    (tmp_path / "image_data_split.json").write_text(json.dumps(sizes))
    (record,) = PhraseCut(tmp_path, split="val").records
    found = Outlines(record, "drawn").objects()
    assert (len(found.masks), found.meant) == (1, [(0,), (0,)])
