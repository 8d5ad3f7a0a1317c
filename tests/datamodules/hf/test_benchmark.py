from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import RefCOCO, RefCOCOBenchmark, Scene
from datamodules.refer import write_refer
from gl_ris.errors import UserError

Row = dict[str, Any]
Write = Callable[..., Path]
NAME = "jxu124/refcoco-benchmark/data/refcoco_unc_val-0000{}-of-00002-cb3a4fcb48837a43.parquet"


@pytest.fixture
def rows(benchmark_rows: list[Row]) -> list[Row]:
    """Those of val: images 7 and 5."""
    return benchmark_rows[1:]


@pytest.fixture
def root(tmp_path: Path, rows: list[Row], write: Write) -> Path:
    for number, row in enumerate(rows):
        write(tmp_path / NAME.format(number), "benchmark", [row])
    return tmp_path


def scenes(data: RefCOCO | RefCOCOBenchmark) -> list[Scene]:
    return list(data.predict_dataloader())


def test_scenes_by_hand(root: Path, pictures: dict[int, np.ndarray]) -> None:
    first, second = scenes(RefCOCOBenchmark(root))
    assert (first.image_id, first.index, second.image_id, second.index) == (7, 0, 5, 1)
    assert first.error is None
    assert {ref: fault for ref, fault in zip(first.ref_ids, first.faults, strict=True) if fault} == {
        30: "target: its annotation is damaged or has no segmentation"
    }
    assert first.targets.sum(dim=(1, 2)).tolist() == [18, 0]
    assert (second.error, second.expressions, second.sent_ids) == (None, ["left thing"], [40])
    assert second.targets.sum() == 36
    np.testing.assert_array_equal(second.image.numpy().transpose(1, 2, 0), pictures[5])


@pytest.mark.parametrize("overlap", ["union", "sum_equals_one"])
def test_scenes_are_those_of_the_refer_files(
    tmp_path: Path, refer: tuple[list[Row], Row], root: Path, pictures: dict[int, np.ndarray], overlap: Any
) -> None:
    refs, instances = refer
    write_refer(tmp_path / "refcoco", "unc", [ref for ref in refs if ref["ref_id"] != 30], instances)
    (tmp_path / "train2014").mkdir()
    for image_id, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / f"train2014/COCO_train2014_{image_id:012d}.jpg", format="PNG")
    wanted = {scene.image_id: scene for scene in scenes(RefCOCO(tmp_path, overlap=overlap))}
    for ours in scenes(RefCOCOBenchmark(root, overlap=overlap)):
        theirs = wanted.pop(ours.image_id)
        kept = len(theirs.expressions)  # in front of those of ref 30, whose outline the form cannot hold
        assert ours.expressions[:kept] == theirs.expressions
        assert (ours.ref_ids[:kept], ours.sent_ids[:kept]) == (theirs.ref_ids, theirs.sent_ids)
        assert torch.equal(ours.targets[: len(theirs.targets)], theirs.targets)
        assert torch.equal(ours.referents[:kept], theirs.referents)
        if ours.error is None:
            assert torch.equal(ours.image, theirs.image)
    assert wanted == {}


@pytest.mark.parametrize(
    ("arguments", "file_split"),
    [
        (("refcoco", "unc", "testA"), "refcoco_unc_testA"),
        (("refcoco", "google", "test"), "refcoco_google_test"),
        (("refcoco+", "unc", "testB"), "refcoco_plus_unc_testB"),
        (("refcocog", "umd", "test"), "refcocog_umd_test"),
        (("refcocog", "google", "val"), "refcocog_google_val"),
    ],
)
def test_names_of_splits(arguments: tuple[str, str, str], file_split: str) -> None:
    data = RefCOCOBenchmark("nowhere", *arguments)
    assert (data.dataset_name, data.partition, data.split) == arguments
    assert data.file_split == file_split


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dataset": "refcoco+", "split_by": "google"}, r"'refcoco\+ \(google\)'\. .*Available: refcoco \("),
        ({"proposals": "felzenswalb"}, r"Did you mean 'felzenszwalb'"),
        ({"split": "train"}, r"Unknown split of refcoco \(unc\) 'train'\. Available: testA, testB, val"),
        ({"proposals": "ground_truth"}, "needs every instance"),
    ],
    ids=["partition", "proposals", "split", "ground-truth"],
)
def test_wrong_options(options: dict[str, str], match: str) -> None:
    with pytest.raises(UserError, match=match):
        RefCOCOBenchmark("nowhere", **options)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ref_list": None}, r"row 0 is damaged: Expected `array`, got `null` - at `\$\.ref_list`"),
        ({"ref_list": [None]}, r"row 0 is damaged: Expected `object`, got `null` - at `\$\.ref_list\[0\]`"),
        (
            {"image_info": {"id": 7, "file_name": "a", "height": None, "width": 5}},
            r"Expected `int`, got `null` - at `\$\.height`",
        ),
        (
            {"image_info": {"id": 8, "file_name": "a", "height": 6, "width": 10}},
            "of image 8, but the ref names",
        ),
    ],
    ids=["null", "null-ref", "no-size", "other-image"],
)
def test_a_row_that_cannot_be_used_is_named(
    root: Path, rows: list[Row], write: Write, change: Row, match: str
) -> None:
    write(root / NAME.format(0), "benchmark", [rows[0] | change])
    with pytest.raises(UserError, match=match):
        RefCOCOBenchmark(root).setup()


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (None, "damaged or has no segmentation"),
        ({"id": 50, "area": 9.0, "segmentation": []}, "damaged or has no segmentation"),
        ({"id": 51, "segmentation": [[0, 0, 1, 0, 1, 1]]}, "its annotation is 51, the ref names 50"),
        ({"id": 50, "segmentation": [[1, 2, float("nan"), 4, 5, 6]]}, "not finite"),
        ({"id": 50, "segmentation": [[0, 0, 1e9, 0, 1, 1]]}, "leaves the image"),
    ],
    ids=["none", "no-outline", "other", "nan", "far"],
)
def test_a_damaged_annotation_costs_its_ref(
    root: Path, rows: list[Row], write: Write, annotation: Row | None, reason: str
) -> None:
    rows[1]["ref_list"][0]["ann_info"] = annotation
    write(root / NAME.format(1), "benchmark", [rows[1]])
    first, second = scenes(RefCOCOBenchmark(root))
    (fault,) = second.faults
    assert re.match(f"target: .*{reason}", str(fault))
    assert (second.expressions, second.error, first.error) == (["left thing"], None, None)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ref_id": None}, r"ref 0 is damaged: Expected `int \| str`, got `null` - at `\$\.ref_id`"),
        ({"sentences": [{"sent_id": 1, "sent": None}]}, r"Expected `str`, got `null` - at `\$\.sentences"),
        ({"split": "testA"}, r"ref 0 is of split 'testA', not of 'val' as the file's name says"),
        ({"ref_id": 12}, r"'refcoco_unc_val' of jxu124/refcoco-benchmark has ref 12 twice"),
    ],
    ids=["no-id", "no-text", "split", "twice"],
)
def test_a_ref_that_cannot_be_used_is_named(
    root: Path, rows: list[Row], write: Write, change: Row, match: str
) -> None:
    rows[1]["ref_list"][0]["ref_info"] |= change
    write(root / NAME.format(1), "benchmark", [rows[1]])
    with pytest.raises(UserError, match=match):
        RefCOCOBenchmark(root).setup()


def test_refs_without_a_sentence_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = RefCOCOBenchmark(root)
    assert (data.n_images, data.n_expressions) == (2, 6)
    assert "1 of 4 refs have no sentence and are left out" in caplog.text


def test_a_split_that_is_not_whole(root: Path) -> None:
    (root / NAME.format(0)).unlink()
    with pytest.raises(UserError, match="lacks part 00000 of a split in 00002 parts"):
        RefCOCOBenchmark(root).setup()
