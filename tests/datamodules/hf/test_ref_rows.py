from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import RefCOCO, RefCOCORows, Scene
from datamodules.refer import write_refer
from gl_ris.errors import UserError

Row = dict[str, Any]
Write = Callable[..., Path]
NAME = "jxu124/refcoco/data/validation-00000-of-00001-bfeafdc84ca37aa2.parquet"


@pytest.fixture
def root(
    tmp_path: Path,
    refer: tuple[list[Row], Row],
    pictures: dict[int, np.ndarray],
    ref_rows: list[Row],
    write: Write,
) -> Path:
    """The same refs as REFER files and as parquet files, and the images once."""
    write_refer(tmp_path / "data" / "refcoco", "unc", *refer)
    for split, name in (("val", NAME), ("testA", NAME.replace("validation", "test"))):
        write(tmp_path / "data" / name, "rows", [row for row in ref_rows if row["split"] == split])
    (tmp_path / "data" / "coco" / "train2014").mkdir(parents=True)
    for image_id, pixels in pictures.items():
        # lossless inside, as Pillow goes by content
        Image.fromarray(pixels).save(
            tmp_path / "data" / "coco" / "train2014" / f"COCO_train2014_{image_id:012d}.jpg", format="PNG"
        )
    return tmp_path / "data"


def scenes(data: RefCOCO | RefCOCORows) -> list[Scene]:
    return list(data.predict_dataloader())


def rewrite(root: Path, write: Write, rows: list[Row]) -> None:
    write(root / NAME, "rows", [row for row in rows if row["split"] == "val"])


@pytest.mark.parametrize("overlap", ["union", "sum_equals_one"])
@pytest.mark.parametrize("split", ["val", "testA"])
def test_scenes_are_those_of_the_refer_files(root: Path, split: str, overlap: Any) -> None:
    wanted = scenes(RefCOCO(root, "refcoco", "unc", split, overlap=overlap))
    found = scenes(RefCOCORows(root, "refcoco", split, overlap=overlap))
    assert len(found) == len(wanted) == {"val": 2, "testA": 1}[split]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.error is None
        for name in ("expressions", "image_id", "ref_ids", "sent_ids", "index", "error", "proposals"):
            assert getattr(ours, name) == getattr(theirs, name), name
        for name in ("image", "targets", "referents"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_scenes_by_hand(root: Path, pictures: dict[int, np.ndarray]) -> None:
    first, second = scenes(RefCOCORows(root))
    assert (first.image_id, first.expressions, first.sent_ids) == (5, ["left thing"], [40])
    assert (second.image_id, second.ref_ids) == (7, [12, 12, 12, 30, 30])
    assert second.expressions == ["dog in two parts", "the other", "third of it", "狗 dog", ""]
    assert second.targets.sum(dim=(1, 2)).tolist() == [9 + 9, 4]
    assert first.targets.sum() == 36
    np.testing.assert_array_equal(second.image.numpy().transpose(1, 2, 0), pictures[7])


def test_refs_without_a_sentence_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = RefCOCORows(root)
    assert (data.n_images, data.n_expressions) == (2, 6)
    assert "1 of 4 refs have no sentence and are left out" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "split", "partition", "repository", "file_split"),
    [
        ("refcoco", "testA", "unc", "jxu124/refcoco", "test"),
        ("refcoco+", "testB", "unc", "jxu124/refcocoplus", "testB"),
        ("refcoco+", "val", "unc", "jxu124/refcocoplus", "validation"),
        ("refcocog", "test", "umd", "jxu124/refcocog", "test"),
        ("refcocog", "train", "umd", "jxu124/refcocog", "train"),
    ],
)
def test_names_of_splits(dataset: str, split: str, partition: str, repository: str, file_split: str) -> None:
    data = RefCOCORows("nowhere", dataset, split)
    assert (data.dataset_name, data.split, data.partition) == (dataset, split, partition)
    assert (data.repository.name, data.file_split) == (repository, file_split)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dataset": "refcocoplus"}, r"Unknown data set of jxu124 'refcocoplus'\. Did you mean"),
        (
            {"split": "test"},
            r"Unknown split of refcoco \(unc\) 'test'\. .* Available: testA, testB, train, val",
        ),
        ({"dataset": "refcocog", "split": "testA"}, r"Available: test, train, val\."),
        ({"proposals": "ground_truth"}, r"referred ones only; use datamodules.RefCOCO with instances.json"),
        ({"proposals": "felzenswalb"}, r"Did you mean 'felzenszwalb'"),
    ],
    ids=["dataset", "split", "split-of-g", "ground-truth", "proposals"],
)
def test_wrong_options(options: dict[str, str], match: str) -> None:
    with pytest.raises(UserError, match=match):
        RefCOCORows("nowhere", **options)


def test_making_one_reads_nothing(tmp_path: Path) -> None:
    RefCOCORows(tmp_path / "nowhere", "refcocog", "test").prepare_data()
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_missing(root: Path) -> None:
    folder = root / "coco" / "train2014"
    (folder / "COCO_train2014_000000000007.jpg").unlink()
    with pytest.raises(UserError, match="1 of 2 images are not in"):
        RefCOCORows(root).setup()
    got = scenes(RefCOCORows(root, allow_missing_images=True))
    assert [scene.error for scene in got] == [None, "image file is missing"]
    (folder / "COCO_train2014_000000000005.jpg").unlink()
    with pytest.raises(UserError, match="Name their folder by data\.image_root=FOLDER"):
        RefCOCORows(root).setup()


def test_a_file_name_that_leads_out(root: Path, ref_rows: list[Row], write: Write) -> None:
    for row in ref_rows:
        info = json.loads(row["raw_image_info"])
        row["raw_image_info"] = json.dumps(info | {"file_name": f"../{info['file_name']}"})
    rewrite(root, write, ref_rows)
    with pytest.raises(UserError, match="leads out of"):
        RefCOCORows(root).setup()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("{", "damaged or has no segmentation"),
        ("[" * 100_000, "damaged or has no segmentation"),
        ("[]", "damaged or has no segmentation"),
        ('{"id": 50}', "damaged or has no segmentation"),
        ('{"id": 51, "segmentation": []}', "its annotation is 51, the ref names 50"),
        ('{"id": 50, "segmentation": [[1, 2, NaN, 4, 5, 6]]}', "not finite"),
        ('{"id": 50, "segmentation": {"size": [6, 11], "counts": [66]}}', r"size \[6, 11\]"),
        ('{"id": 50, "segmentation": [[0, 0, 1e9, 0, 1, 1]]}', "leaves the image"),
    ],
    ids=["cut", "deep", "list", "no-outline", "other", "nan", "size", "far"],
)
def test_a_damaged_annotation_costs_its_ref(
    root: Path, ref_rows: list[Row], write: Write, raw: str, reason: str
) -> None:
    ref_rows[1]["raw_anns"] = raw
    rewrite(root, write, ref_rows)
    first, second = scenes(RefCOCORows(root))
    (fault,) = first.faults
    assert re.match(f"target: .*{reason}", str(fault))
    assert (first.expressions, first.error, any(second.faults)) == (["left thing"], None, False)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"raw_image_info": "{"}, r"row 1, its raw_image_info is damaged: Expected `object`, got `null`"),
        (
            {"raw_image_info": '{"id": 5, "file_name": "a.jpg", "height": 0, "width": 4}'},
            r"Expected `int` >= 1 - at `\$\.height`",
        ),
        (
            {"raw_image_info": '{"id": 6, "file_name": "a.jpg", "height": 1, "width": 4}'},
            r"row 1, its raw_image_info is of image 6, but the ref names image 5",
        ),
        ({"ref_id": None}, r"row 1 is damaged: Expected `int \| str`, got `null` - at `\$\.ref_id`"),
        (
            {"sentences": [{"sent_id": 1, "sent": None}]},
            r"Expected `str`, got `null` - at `\$\.sentences\[0\]\.sent`",
        ),
        ({"split": "testA"}, r"row 1 is of split 'testA', not of 'val' as the file's name says"),
        ({"ref_id": 12}, r"'validation' of jxu124/refcoco has ref 12 twice"),
        (
            {"raw_image_info": '{"id": 7, "file_name": "a.jpg", "height": 1, "width": 4}', "image_id": 7},
            r"two names or sizes for image 7",
        ),
    ],
    ids=["json", "size", "other-image", "no-id", "no-text", "split", "twice", "two-sizes"],
)
def test_a_row_that_cannot_be_used_is_named(
    root: Path, ref_rows: list[Row], write: Write, change: Row, match: str
) -> None:
    ref_rows[1] |= change
    write(root / NAME, "rows", [row for row in ref_rows if row["ref_id"] != 5])
    with pytest.raises(UserError, match=match):
        RefCOCORows(root).setup()


def test_limit_takes_the_first_images(root: Path) -> None:
    data = RefCOCORows(root, limit=1)
    assert [scene.image_id for scene in scenes(data)] == [5]
    assert data.expressions() == ["left thing"]
