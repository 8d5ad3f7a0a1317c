from __future__ import annotations

import json
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from datamodules.refer import read_refs, read_split, write_refer
from gl_ris.errors import UserError

RefMaker = Callable[..., dict[str, Any]]


def test_a_python_2_file_is_read(refcoco_root: Path) -> None:
    records = read_split(refcoco_root / "refcoco", "unc", "val")
    (record,) = records
    assert (record.image_id, record.file_name) == (7, "COCO_train2014_000000000007.jpg")
    assert (record.height, record.width) == (6, 10)
    assert [r.ref_id for r in record.referents] == [4, 9]
    assert [r.sentences for r in record.referents] == [("狗 dog",), ("left dog", "café dog")]
    assert [r.sent_ids for r in record.referents] == [(102,), (100, 101)]
    assert [r.category for r in record.referents] == ["dog", "dog"]
    assert record.instances == ()


def test_polygon_and_run_length_targets(refcoco_root: Path) -> None:
    (record,) = read_split(refcoco_root / "refcoco", "unc", "val")
    runs, square = (r.mask(6, 10, "union").numpy() for r in record.referents)
    wanted = np.zeros((6, 10), dtype=bool)
    wanted[:2, :2] = True
    np.testing.assert_array_equal(runs, wanted)
    wanted = np.zeros((6, 10), dtype=bool)
    wanted[1:4, 2:6] = True
    np.testing.assert_array_equal(square, wanted)


def test_an_empty_sentence_is_kept(refcoco_root: Path) -> None:
    (record,) = read_split(refcoco_root / "refcoco", "unc", "testA")
    assert record.referents[0].sentences == ("",)


def test_all_instances_but_crowds_are_kept_when_asked(refcoco_root: Path) -> None:
    (record,) = read_split(refcoco_root / "refcoco", "unc", "val", all_instances=True)
    areas = [int(s.mask(6, 10).sum()) for s in record.instances]
    assert areas == [1, 12, 4]  # in the file's order: 72, 70, 71, not the crowd 73, not 50 of the other image


def test_compressed_run_lengths_agree_with_pycocotools(
    tmp_path: Path, make_ref: RefMaker, instances: dict[str, Any]
) -> None:
    mask = np.random.default_rng(0).random((6, 10)) < 0.4
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    instances["annotations"][1]["segmentation"] = {"size": [6, 10], "counts": packed["counts"].decode()}
    write_refer(tmp_path, "unc", [make_ref(1, 70, 7, "val")], instances)
    (record,) = read_split(tmp_path, "unc", "val")
    np.testing.assert_array_equal(record.referents[0].mask(6, 10, "union").numpy(), mask)


def test_the_two_rules_for_overlapping_polygons(
    tmp_path: Path, make_ref: RefMaker, instances: dict[str, Any]
) -> None:
    polygons = [[0, 0, 6, 0, 6, 6, 0, 6], [4, 0, 10, 0, 10, 6, 4, 6]]
    instances["annotations"][1]["segmentation"] = polygons
    write_refer(tmp_path, "unc", [make_ref(1, 70, 7, "val")], instances)
    (record,) = read_split(tmp_path, "unc", "val")
    layers = coco.decode(coco.frPyObjects(polygons, 6, 10)).astype(int)
    union, once = (record.referents[0].mask(6, 10, rule).numpy() for rule in ("union", "sum_equals_one"))
    np.testing.assert_array_equal(union, layers.sum(axis=2) > 0)
    np.testing.assert_array_equal(once, layers.sum(axis=2) == 1)
    assert union.sum() == 60
    assert once.sum() == 48


def test_what_is_written_is_read_back(tmp_path: Path, make_ref: RefMaker, instances: dict[str, Any]) -> None:
    refs = [make_ref(2, 70, 7, "val", "the 狗", ""), make_ref(1, 50, 5, "val"), make_ref(3, 71, 7, "test")]
    write_refer(tmp_path / "set", "umd", refs, instances)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["instances.json", "refs(umd).p"]
    assert pickle.loads((tmp_path / "set" / "refs(umd).p").read_bytes()) == refs
    assert [ref.ref_id for ref in read_refs(tmp_path / "set", "umd")] == [2, 1, 3]
    assert json.loads((tmp_path / "set" / "instances.json").read_text()) == instances
    five, seven = read_split(tmp_path / "set", "umd", "val")
    assert (five.image_id, seven.image_id) == (5, 7)
    assert seven.referents[0].sentences == ("the 狗", "")


def test_the_written_pickle_is_of_protocol_2(
    tmp_path: Path, make_ref: RefMaker, instances: dict[str, Any]
) -> None:
    write_refer(tmp_path, "umd", [make_ref(1, 70, 7, "val")], instances)
    data = (tmp_path / "refs(umd).p").read_bytes()
    assert next(pickletools.genops(data))[:2] == (pickletools.code2op["\x80"], 2)
    assert all(opcode.proto <= 2 for opcode, _, _ in pickletools.genops(data))


def test_an_image_split_by_object_comes_with_the_refs_of_the_split_alone(
    tmp_path: Path, make_ref: RefMaker, instances: dict[str, Any]
) -> None:
    refs = [make_ref(1, 70, 7, "train"), make_ref(2, 71, 7, "val"), make_ref(3, 72, 7, "train")]
    write_refer(tmp_path, "google", refs, instances)
    assert [[r.ref_id for r in i.referents] for i in read_split(tmp_path, "google", "val")] == [[2]]
    assert [[r.ref_id for r in i.referents] for i in read_split(tmp_path, "google", "train")] == [[1, 3]]


def test_the_splits_of_a_partition_by_object_share_images_and_no_refs(
    tmp_path: Path, make_ref: RefMaker, instances: dict[str, Any]
) -> None:
    refs = [
        make_ref(k, (70, 71, 72, 50)[k % 4], (7, 7, 7, 5)[k % 4], "train" if k % 3 else "val")
        for k in range(24)
    ]
    write_refer(tmp_path, "google", refs, instances)
    found = {split: read_split(tmp_path, "google", split) for split in ("train", "val")}
    for split, records in found.items():
        ids = {(r.image_id, ref.ref_id) for r in records for ref in r.referents}
        assert ids == {(ref["image_id"], ref["ref_id"]) for ref in refs if ref["split"] == split}
    assert [r.image_id for r in found["val"]] == [r.image_id for r in found["train"]] == [5, 7]


def test_refs_that_ask_nothing_are_told_of(
    tmp_path: Path, make_ref: RefMaker, instances: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    silent = make_ref(1, 50, 5, "val") | {"sentences": [], "sent_ids": []}
    write_refer(tmp_path, "unc", [silent, make_ref(2, 70, 7, "val"), make_ref(3, 70, 7, "test")], instances)
    read_split(tmp_path, "unc", "test")
    assert caplog.text == ""
    read_split(tmp_path, "unc", "val")
    assert "1 refs of" in caplog.text
    assert "val have no sentence and are left out" in caplog.text


def test_images_and_refs_are_ordered_by_id_whatever_the_file_says(many_images: Path) -> None:
    records = read_split(many_images / "many", "toy", "val")
    assert [r.image_id for r in records] == [3, 6, 9, 12, 15, 18, 21]
    for record in records:
        ids = [r.ref_id for r in record.referents]
        assert ids == sorted(ids)


def test_a_ref_without_sentences_asks_nothing(
    tmp_path: Path, make_ref: RefMaker, instances: dict[str, Any]
) -> None:
    silent = make_ref(1, 50, 5, "val") | {"sentences": [], "sent_ids": []}
    write_refer(tmp_path, "unc", [silent, make_ref(2, 70, 7, "val")], instances)
    assert [record.image_id for record in read_split(tmp_path, "unc", "val")] == [7]


@pytest.mark.parametrize(
    ("split_by", "split", "match"),
    [
        ("umd", "val", r"Unknown partition \(data\.split_by\) of '.*refcoco' 'umd'\..* Available: unc\."),
        (
            "unc",
            "vall",
            r"Unknown split of refcoco \(unc\) 'vall'\. Did you mean 'val'\? Available: testA, val\.",
        ),
    ],
    ids=["partition", "split"],
)
def test_unknown_names_list_what_is_there(refcoco_root: Path, split_by: str, split: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        read_split(refcoco_root / "refcoco", split_by, split)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No folder '.*none': it should hold refs"):
        read_split(tmp_path / "none", "unc", "val")


def test_missing_instances_are_named(refcoco_root: Path) -> None:
    (refcoco_root / "refcoco" / "instances.json").unlink()
    with pytest.raises(UserError, match=r"No annotation file at '.*instances\.json'"):
        read_split(refcoco_root / "refcoco", "unc", "val")


@pytest.mark.parametrize(
    ("part", "kept", "match"),
    [
        ("annotations", [70, 72], "1 annotations that the refs name"),
        ("images", [5], "1 images that the refs name"),
    ],
    ids=["annotation", "image"],
)
def test_files_of_two_downloads_are_told_apart(
    refcoco_root: Path, instances: dict[str, Any], part: str, kept: list[int], match: str
) -> None:
    instances[part] = [item for item in instances[part] if item["id"] in kept]
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    with pytest.raises(UserError, match=f"do not belong together: {match}.*Use both files of one download"):
        read_split(refcoco_root / "refcoco", "unc", "val")


@pytest.mark.parametrize(
    ("refs", "match"),
    [
        ({"ref_id": 1}, r"refs\(unc\)\.p' is damaged: Expected `array`, got `object`\. Fetch the file anew"),
        (["text"], r"Expected `object`, got `str` - at `\$\[0\]`"),
        ([{}], r"missing required field `ref_id` - at `\$\[0\]`"),
        ([{"ref_id": 1.5}], r"Expected `int \| str`, got `float` - at `\$\[0\]\.ref_id`"),
        ([{"ref_id": True}], r"Expected `int \| str`, got `bool` - at `\$\[0\]\.ref_id`"),
        ([{"ref_id": [1]}], r"Expected `int \| str`, got `array` - at `\$\[0\]\.ref_id`"),
    ],
    ids=["dict", "text", "empty", "float", "bool", "list"],
)
def test_refs_of_another_shape_are_refused(refcoco_root: Path, refs: Any, match: str) -> None:
    (refcoco_root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    with pytest.raises(UserError, match=match):
        read_split(refcoco_root / "refcoco", "unc", "val")


@pytest.mark.parametrize(
    ("sentences", "match"),
    [
        ("left dog", r"Expected `array`, got `str` - at `\$\[0\]\.sentences`"),
        (["left dog"], r"Expected `object`, got `str` - at `\$\[0\]\.sentences\[0\]`"),
        ([{"sent_id": 1}], "missing required field `sent`"),
        ([{"sent_id": 1, "sent": None}], "Expected `str`, got `null`"),
    ],
    ids=["text", "texts", "no-text", "none"],
)
def test_sentences_of_another_shape_are_refused(
    tmp_path: Path, make_ref: RefMaker, instances: dict[str, Any], sentences: Any, match: str
) -> None:
    with pytest.raises(UserError, match=match):
        write_refer(tmp_path, "unc", [make_ref(1, 70, 7, "val") | {"sentences": sentences}], instances)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "field", "value", "match"),
    [
        ("images", "height", 0, r"Expected `int` >= 1 - at `\$\.images\[0\]\.height`"),
        ("images", "width", 10**9, r"Expected `int` <= 65535 - at `\$\.images\[0\]\.width`"),
        ("images", "width", "10", r"Expected `int`, got `str` - at `\$\.images\[0\]\.width`"),
        ("images", "file_name", None, r"Expected `str`, got `null` - at `\$\.images\[0\]\.file_name`"),
        ("annotations", "id", [70], r"Expected `int \| str`, got `array` - at `\$\.annotations\[0\]\.id`"),
        ("annotations", "image_id", None, r"got `null` - at `\$\.annotations\[0\]\.image_id`"),
        ("categories", "name", 3, r"Expected `str`, got `int` - at `\$\.categories\[0\]\.name`"),
    ],
)
def test_instances_of_another_shape_are_refused(
    refcoco_root: Path, instances: dict[str, Any], part: str, field: str, value: Any, match: str
) -> None:
    instances[part][0][field] = value
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    with pytest.raises(UserError, match=rf"instances\.json' is no annotation file.* \(.*{match}.*anew"):
        read_split(refcoco_root / "refcoco", "unc", "val")


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_a_part_that_is_missing_is_named(refcoco_root: Path, instances: dict[str, Any], part: str) -> None:
    del instances[part]
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    with pytest.raises(UserError, match=rf"instances\.json' .*missing required field `{part}`"):
        read_split(refcoco_root / "refcoco", "unc", "val")
