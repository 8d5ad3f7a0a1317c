"""gRefCOCO's format: refs about one annotation, several or none, and files that contradict themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from datamodules import GRefCOCO
from datamodules.checking.run import Options, check, find_targets
from datamodules.grefcoco import GREFER
from datamodules.refer import write_refer
from gl_ris.errors import UserError

HEIGHT, WIDTH = 10, 12


def square(x: int, y: int, side: int = 3) -> list[list[int]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def pixels(*corners: tuple[int, int], side: int = 3) -> torch.Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for x, y in corners:
        mask[y : y + side, x : x + side] = True
    return mask


INSTANCES: dict[str, Any] = {
    "images": [{"id": n, "file_name": f"{n}.jpg", "height": HEIGHT, "width": WIDTH} for n in (1, 2)],
    "annotations": [
        {"id": 11, "image_id": 1, "category_id": 1, "segmentation": square(0, 0), "iscrowd": 0},
        {"id": 12, "image_id": 1, "category_id": 1, "segmentation": square(5, 0), "iscrowd": 0},
        {"id": 13, "image_id": 1, "category_id": 2, "segmentation": square(5, 5), "iscrowd": 0},
        {"id": 14, "image_id": 1, "category_id": 2, "segmentation": square(0, 5), "iscrowd": 1},
        {"id": 15, "image_id": 1, "category_id": 2, "segmentation": "damaged", "iscrowd": 0},
        {"id": 21, "image_id": 2, "category_id": 1, "segmentation": square(2, 2), "iscrowd": 0},
    ],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
}


def gref(ref_id: int, ann_id: Any, image_id: int = 1, **changes: Any) -> dict[str, Any]:
    none = ann_id in (-1, [-1])
    kinds = {one["id"]: one["category_id"] for one in INSTANCES["annotations"]}
    categories = [kinds.get(one, -1) for one in (ann_id if isinstance(ann_id, list) else [ann_id])]
    sentence = {"sent_id": 100 + ref_id, "sent": f"thing {ref_id}", "raw": f"Thing {ref_id}", "tokens": []}
    ref = {"ref_id": ref_id, "ann_id": ann_id, "image_id": image_id, "category_id": categories}
    more = {"split": "val", "file_name": "x", "sent_ids": [100 + ref_id], "sentences": [sentence]}
    return {**ref, **more, "no_target": none, **changes}


def module(root: Path, *refs: dict[str, Any], **options: Any) -> GRefCOCO:
    write_refer(root / "grefcoco", "unc", refs, INSTANCES, GREFER)
    (root / "grefcoco" / "images").mkdir(exist_ok=True)
    for image in INSTANCES["images"]:
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / "grefcoco" / "images" / image["file_name"])
    return GRefCOCO(root, **options)


@pytest.mark.parametrize(
    ("ann_id", "target", "subsets", "category"),
    [
        ([11], pixels((0, 0)), ("single",), "dog"),
        (11, pixels((0, 0)), ("single",), "dog"),
        ([11, 11], pixels((0, 0)), ("single",), "dog"),
        ([11, 12], pixels((0, 0), (5, 0)), ("multi",), "dog"),
        ([11, 13], pixels((0, 0), (5, 5)), ("multi",), None),
        ([11, 14], pixels((0, 0)), ("multi",), None),
        ([14], pixels(), ("single",), "cat"),
    ],
)
def test_a_target_is_the_union_of_its_annotations_without_crowds(
    ann_id: Any, target: torch.Tensor, subsets: tuple[str, ...], category: str | None, tmp_path: Path
) -> None:
    (record,) = module(tmp_path, gref(1, ann_id)).records
    (referent,) = record.referents
    assert torch.equal(referent.mask(HEIGHT, WIDTH, "union"), target)
    assert (referent.subsets, referent.category) == (subsets, category)
    assert (referent.targeted, referent.absent) == (True, False)


@pytest.mark.parametrize("ann_id", [[-1], -1])
@pytest.mark.parametrize("changes", [{}, {"no_target": None}])
def test_an_expression_without_a_target(ann_id: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    data = module(tmp_path, gref(1, ann_id, **changes), gref(2, [21], 2))
    (referent,) = data.records[0].referents
    assert (referent.targeted, referent.absent, referent.subsets) == (False, True, ())
    scenes = list(data.predict_dataloader())
    assert scenes[0].absent.tolist() == [True]
    assert scenes[0].targeted.tolist() == [False]
    assert not scenes[0].targets.any()
    assert scenes[1].absent is None
    assert data.subset_sizes == {"single": 1, "multi": 0}
    assert scenes[0].raw == ["Thing 1"]


@pytest.mark.parametrize(
    ("ann_id", "changes", "said"),
    [
        ([11], {"no_target": True}, "contradiction"),
        ([-1], {"no_target": False}, "contradiction"),
        ([-1, 11], {}, "contradiction"),
        ([11, 15], {}, "the segmentation is str"),
    ],
)
def test_a_ref_that_cannot_be_believed_fails_alone(
    ann_id: Any, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (scene,) = module(tmp_path, gref(1, ann_id, **changes), gref(2, [12])).predict_dataloader()
    assert said in str(scene.faults[0])
    assert scene.faults[1] is None
    assert scene.absent is None


@pytest.mark.parametrize(
    ("refs", "said"),
    [
        ([gref(1, [11, 99])], r"1 annotations that the refs name are not in the instances \(ids 99\)"),
        ([gref(1, [11, 21])], r"1 refs name an annotation of another image than their own \(ids 1\)"),
        ([gref(1, [-1], 7)], r"1 images that the refs name are not in the instances \(ids 7\)"),
        ([gref(1, [11]), gref(1, [12])], "ref 1 has the 'ref_id' of ref 0, 1"),
        ([gref(1, [])], r"length >= 1 - at `\$\[0\].ann_id`"),
        ([gref(1, [11.5])], r"at `\$\[0\].ann_id"),
        ([gref(1, [*range(1001)])], r"length <= 1000"),
    ],
)
def test_damaged_files_are_refused(refs: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    folder = tmp_path / "grefcoco"
    folder.mkdir()
    (folder / "grefs(unc).json").write_text(json.dumps(refs))
    (folder / "instances.json").write_text(json.dumps(INSTANCES))
    with pytest.raises(UserError, match=said):
        _ = GRefCOCO(tmp_path).records


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"grefcoco/grefs\(\.\.\.\)\.json.*datamodules.download grefcoco"):
        GRefCOCO(tmp_path / "nowhere").require_files()
    data = module(tmp_path, gref(1, [11]), split_by="umd")
    with pytest.raises(UserError, match=r"partition .*'umd'.*unc"):
        data.require_files()
    assert sorted(module(tmp_path, gref(1, [11])).input_files()) == ["grefs(unc).json", "instances.json"]


def test_the_check_counts_refs_and_draws_what_they_mean(tmp_path: Path) -> None:
    module(tmp_path, gref(1, [11, 12]), gref(2, [-1]), gref(3, [21], 2, split="testA"))
    (target,) = find_targets("grefcoco", tmp_path)
    report = check(target, Options(images="none", progress=False))
    assert {s: [c.found for c in counts.values()] for s, counts in report.splits.items()} == {
        "val": [2, 1, 2],
        "testA": [1, 1, 1],
    }
    assert set(report.problems.counts) == {"count", "split missing", "mask tiny"}
    assert "val: no image looked at, 1 masks drawn" in report.looked
