"""Every instance of an image as its proposals, from the data set's own file or from COCO's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import PhraseCut, RefCOCO, Scene
from gl_ris.errors import UserError


def scenes(data: RefCOCO | PhraseCut) -> list[Scene]:
    return list(data.predict_dataloader())


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


def test_a_faulty_ground_truth_proposal_is_left_out_and_told(
    refcoco_root: Path, instances: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    instances["annotations"][0]["segmentation"] = "none"
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (scene,) = scenes(RefCOCO(refcoco_root, proposals="ground_truth"))
    assert scene.error is None
    assert scene.targets.sum(dim=(1, 2)).tolist() == [4, 12]
    assert scene.proposals is not None
    assert scene.proposals.masks.sum(dim=(1, 2)).tolist() == [12, 4]
    assert "Image 7: a ground-truth proposal is left out (the segmentation is str" in caplog.text


def areas(data: RefCOCO) -> list[int]:
    (scene,) = scenes(data)
    assert scene.proposals is not None
    return scene.proposals.masks.sum(dim=(1, 2)).tolist()


def test_crowds_are_an_option(refcoco_root: Path) -> None:
    assert areas(RefCOCO(refcoco_root, proposals="ground_truth", crowds=True)) == [1, 12, 4, 60]


def coco(root: Path, instances: dict[str, Any]) -> Path:
    path = root / "instances_train2014.json"
    path.write_text(json.dumps(instances))
    return path


def test_proposals_from_another_file_of_instances(refcoco_root: Path, instances: dict[str, Any]) -> None:
    instances["images"].insert(0, {"id": 6, "file_name": "6.jpg", "height": 9, "width": 9})
    instances["annotations"] = [
        {"id": 1, "image_id": 6, "iscrowd": 0, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]},
        {"id": 2, "image_id": 7, "iscrowd": 0, "segmentation": [[0, 0, 5, 0, 5, 1, 0, 1]]},
        {"id": 3, "image_id": 7, "iscrowd": 1, "segmentation": {"size": [6, 10], "counts": [0, 7, 53]}},
    ]
    path = coco(refcoco_root, instances)
    assert areas(RefCOCO(refcoco_root, proposals="ground_truth", instances=path)) == [5]
    assert areas(RefCOCO(refcoco_root, proposals="ground_truth", instances=path, crowds=True)) == [5, 7]
    (scene,) = scenes(RefCOCO(refcoco_root, proposals="ground_truth", instances=path))
    assert scene.targets.sum(dim=(1, 2)).tolist() == [4, 12]  # those of the data set


def test_an_image_that_the_other_file_lacks_is_named(refcoco_root: Path, instances: dict[str, Any]) -> None:
    instances["images"] = instances["images"][1:]
    path = coco(refcoco_root, instances)
    with pytest.raises(UserError, match=r"train2014\.json' lacks 1 of the 1 images \(ids 7\)"):
        RefCOCO(refcoco_root, proposals="ground_truth", instances=path).setup()
    assert RefCOCO(refcoco_root, instances=path).n_images == 1  # nobody asks the file


def test_an_image_of_another_size_in_the_other_file_is_named(
    refcoco_root: Path, instances: dict[str, Any]
) -> None:
    instances["images"][0]["width"] = 11
    with pytest.raises(UserError, match=r"has 1 of the images in another size \(ids 7\)"):
        RefCOCO(refcoco_root, proposals="ground_truth", instances=coco(refcoco_root, instances)).setup()


def test_a_missing_other_file_is_named(refcoco_root: Path) -> None:
    data = RefCOCO(refcoco_root, proposals="ground_truth", instances=refcoco_root / "none.json")
    with pytest.raises(UserError, match=r"No annotation file at '.*none\.json'"):
        data.setup()


def test_an_instance_given_twice_is_one_proposal(refcoco_root: Path, instances: dict[str, Any]) -> None:
    instances["annotations"].append(dict(instances["annotations"][0]))
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    assert areas(RefCOCO(refcoco_root, proposals="ground_truth")) == [1, 12, 4]
    instances["annotations"][-1]["segmentation"] = []
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    with pytest.raises(UserError, match="annotation 72 is there twice, and not alike"):
        RefCOCO(refcoco_root, proposals="ground_truth").setup()
