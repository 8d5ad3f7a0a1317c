"""What is wrong with an image or its annotations costs that scene alone, and says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules import RefCOCO
from toy_images import LeftHalf, many, scenes


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


def test_a_mask_of_another_size_costs_its_ref(refcoco_root: Path, instances: dict[str, Any]) -> None:
    instances["annotations"][2]["segmentation"] = {"size": [10, 6], "counts": [0, 60]}
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (scene,) = scenes(RefCOCO(refcoco_root))
    assert (scene.error, scene.ref_ids) == (None, [4, 9, 9])
    assert str(scene.faults[0]).startswith("target: The mask encoding is of size [10, 6]")
    assert scene.faults[1:] == [None, None]
    assert scene.targets.sum(dim=(1, 2)).tolist() == [0, 12]
    assert scene.image.any()
    (scene,) = scenes(RefCOCO(refcoco_root, proposals="ground_truth"))
    assert scene.proposals is not None
    assert scene.proposals.masks.sum(dim=(1, 2)).tolist() == [1, 12]


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "leaves the image of 10 x 6 by far"),
        ([[x for k in range(20_000) for x in (60 * (-1) ** k, 3)]], "outline is 2399880 pixels long"),
        ({"size": [6, 10], "counts": "no"}, "Damaged mask encoding"),
        ({"size": [6, 10], "counts": [0, 2**31 - 1]}, "Damaged mask encoding"),
        ("polygon", "the segmentation is str"),
        (None, "the segmentation is NoneType"),
        ([[0, 0, float("nan"), 0, 4, 4]], "a polygon has a coordinate that is not finite"),
        ([[0, 0, float("-inf"), 0, 4, 4]], "a polygon has a coordinate that is not finite"),
        ({"size": [6, 10], "counts": "é"}, "Damaged mask encoding"),
    ],
    ids=["far", "endless", "letters", "runs", "text", "null", "nan", "infinite", "not-ascii"],
)
def test_a_hostile_outline_costs_its_ref_alone(
    refcoco_root: Path, instances: dict[str, Any], segmentation: Any, reason: str
) -> None:
    instances["annotations"][1]["segmentation"] = segmentation
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (scene,) = scenes(RefCOCO(refcoco_root))
    assert (scene.error, scene.ref_ids) == (None, [4, 9, 9])
    assert [reason in str(fault) for fault in scene.faults] == [False, True, True]
    assert scene.targets.sum(dim=(1, 2)).tolist() == [4, 0]
    assert scene.image.any()


def test_an_annotation_without_an_outline_costs_its_ref_alone(
    refcoco_root: Path, instances: dict[str, Any]
) -> None:
    del instances["annotations"][1]["segmentation"]
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (scene,) = scenes(RefCOCO(refcoco_root))
    assert scene.faults == [
        None,
        *["target: the segmentation is NoneType, not polygons or a run-length code"] * 2,
    ]


@pytest.mark.parametrize("polygons", [[], [[1, 1, 2, 2]], [[1, 1, 5, 1, 3, 1]]], ids=["none", "line", "flat"])
def test_a_target_without_area_stays_and_is_empty(
    refcoco_root: Path, instances: dict[str, Any], polygons: Any
) -> None:
    instances["annotations"][1]["segmentation"] = polygons
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (scene,) = scenes(RefCOCO(refcoco_root))
    assert scene.error is None
    assert (len(scene.expressions), scene.targets.sum(dim=(1, 2)).tolist()) == (3, [4, 0])
