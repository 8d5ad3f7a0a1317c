from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.phrasecut import PhraseCut, read_split, write_phrasecut
from gl_ris.errors import UserError


def box(x: int, y: int, x1: int, y1: int) -> list[list[int]]:
    return [[x, y], [x1, y], [x1, y1], [x, y1]]


def task(
    task_id: str, image_id: int, phrase: str, name: str, *polygons: list[list[list[int]]]
) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "image_id": image_id,
        "ann_ids": list(range(len(polygons))),
        "phrase": phrase,
        "phrase_structure": {
            "name": name,
            "attributes": ["black"],
            "relation_ids": [3],
            "relation_descriptions": [["on", "grass"]],
            "type": "attribute",
        },
        "instance_boxes": [[0, 0, 1, 1] for _ in polygons],
        "Polygons": list(polygons),
    }


# the form of the published file: two dogs, the second of two pieces; then a phrase for the first alone
TASKS = [
    task("20__b", 20, "black dogs", "dog", [box(0, 0, 2, 2)], [box(5, 0, 6, 1), box(8, 3, 9, 4)]),
    task("20__a", 20, "small dog", "dog", [box(0, 0, 2, 2)]),
    task("11__x", 11, "狗 on grass", "grass", [box(0, 0, 3, 1)]),
]
IMAGES = [
    {"image_id": 20, "width": 10, "height": 6, "url": "https://x/20.jpg", "split": "val"},
    {"image_id": 11, "width": 4, "height": 4, "url": "https://x/11.jpg", "split": "val"},
    {"image_id": 99, "width": 4, "height": 4, "url": "https://x/99.jpg", "split": "train"},
]


@pytest.fixture(params=["image_data_split.json", "image_data_split3000.json"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "refer_val.json").write_text(json.dumps(TASKS))
    (tmp_path / request.param).write_text(json.dumps(IMAGES))
    return tmp_path


def test_published_files_are_read(folder: Path) -> None:
    small, large = read_split(folder, "val")
    assert (small.image_id, small.file_name, small.height, small.width) == (11, "11.jpg", 4, 4)
    assert (large.image_id, large.height, large.width) == (20, 6, 10)
    assert [r.sentences for r in large.referents] == [("small dog",), ("black dogs",)]
    assert [r.ref_id for r in large.referents] == ["20__a", "20__b"]
    assert [r.sent_ids for r in large.referents] == [("20__a",), ("20__b",)]
    assert [r.category for r in large.referents] == ["dog", "dog"]
    assert small.referents[0].sentences == ("狗 on grass",)


def test_the_target_is_the_union_of_all_instances(folder: Path) -> None:
    _, large = read_split(folder, "val")
    wanted = np.zeros((6, 10), dtype=bool)
    wanted[0:3, 0:3] = True  # drawn with the outline: 0 to 2 in both directions
    wanted[0:2, 5:7] = True
    wanted[3:5, 8:10] = True
    np.testing.assert_array_equal(large.referents[1].mask(6, 10, "drawn").numpy(), wanted)


def test_ground_truth_proposals_are_the_distinct_instances(folder: Path) -> None:
    _, large = read_split(folder, "val", all_instances=True)
    assert [int(s.mask(6, 10, "drawn").sum()) for s in large.instances] == [9, 8]


@pytest.mark.parametrize(
    ("polygons", "fault"),
    [
        (None, "target: the phrase has no polygons"),
        ([None], "target: the polygons of an instance are NoneType, not a list"),
        ([[[[0, 0], [float("nan"), 3], [2, 2]]]], "target: a polygon has a coordinate that is not finite"),
        ([[[[0, 0], [1e400, 3], [2, 2]]]], "target: a polygon has a coordinate that is not finite"),
    ],
    ids=["none", "null", "nan", "infinite"],
)
def test_a_damaged_phrase_costs_itself_alone(
    folder: Path, polygons: Any, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "refer_val.json").write_text(json.dumps([dict(TASKS[0], Polygons=polygons), *TASKS[1:]]))
    for image in IMAGES[:2]:
        Image.new("RGB", (image["width"], image["height"])).save(folder / f"{image['image_id']}.jpg")
    small, large = PhraseCut(folder, "val", proposals="ground_truth").predict_dataloader()
    assert (large.error, large.ref_ids) == (None, ["20__a", "20__b"])
    assert [str(found).startswith(fault) for found in large.faults] == [False, True]
    assert large.proposals is not None
    assert large.proposals.masks.sum(dim=(1, 2)).tolist() == [9]
    assert ("Image 20: a ground-truth proposal is left out" in caplog.text) == (polygons is not None)
    assert small.faults == [None]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_phrasecut(tmp_path / "set", "val", TASKS, IMAGES[:2])
    assert json.loads((tmp_path / "set" / "refer_val.json").read_text()) == TASKS
    assert [i["image_id"] for i in json.loads((tmp_path / "set" / "image_data_split.json").read_text())] == [
        11,
        20,
    ]
    assert [r.image_id for r in read_split(tmp_path / "set", "val")] == [11, 20]


def test_a_second_split_keeps_the_first_ones_images(tmp_path: Path) -> None:
    write_phrasecut(tmp_path, "val", TASKS, IMAGES[:2])
    write_phrasecut(tmp_path, "train", [task("99__0", 99, "dog", "dog", [box(0, 0, 1, 1)])], IMAGES[2:])
    assert [r.image_id for r in read_split(tmp_path, "val")] == [11, 20]
    assert [r.image_id for r in read_split(tmp_path, "train")] == [99]


@pytest.mark.parametrize("structure", [None, {}, "absent"], ids=str)
def test_a_phrase_without_structure_has_no_category(folder: Path, structure: Any) -> None:
    tasks = [dict(TASKS[2], phrase_structure=structure)]
    if structure == "absent":
        del tasks[0]["phrase_structure"]
    (folder / "refer_val.json").write_text(json.dumps(tasks))
    assert read_split(folder, "val")[0].referents[0].category is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog", ()),
        ("Dog", ("unseen_names",)),  # the published rule compares strings
        ("dogs", ("unseen_names",)),
        ("man", ("unseen_names",)),
        ("table", ("unseen_names",)),
        ("tv", ()),
        ("grass", ("unseen_names", "unseen_synonyms")),
        ("glasses", ("unseen_names", "unseen_synonyms")),
    ],
)
def test_unseen_by_both_definitions(folder: Path, name: str, expected: tuple[str, ...]) -> None:
    (folder / "refer_val.json").write_text(json.dumps([task("20__0", 20, "a", name, [box(0, 0, 1, 1)])]))
    data = PhraseCut(folder, split="val")
    assert data.records[0].referents[0].subsets == expected
    assert data.subset_sizes == {n: int(n in expected) for n in ("unseen_names", "unseen_synonyms")}


@pytest.mark.parametrize("structure", [None, {}, {"name": ""}], ids=str)
def test_a_phrase_of_unknown_category_is_in_no_subset_and_told(
    folder: Path, structure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "refer_val.json").write_text(
        json.dumps([*TASKS[:2], dict(TASKS[2], phrase_structure=structure)])
    )
    data = PhraseCut(folder, split="val")
    assert [r.subsets for record in data.records for r in record.referents] == [(), (), ()]
    assert "1 of 3 phrases have no category" in caplog.text


def test_val_and_miniv_are_read_together(folder: Path) -> None:
    more = [task("99__0", 99, "a", "a", [box(0, 0, 1, 1)]), TASKS[1]]
    (folder / "refer_miniv.json").write_text(json.dumps(more))
    records = read_split(folder, "val_miniv")
    # a task that both files have is read once
    assert [(r.image_id, len(r.referents)) for r in records] == [(11, 1), (20, 2), (99, 1)]
    assert [r.image_id for r in read_split(folder, "val")] == [11, 20]
    with pytest.raises(UserError, match=r"Unknown split of PhraseCut 'mini'\. Did you mean 'miniv'"):
        read_split(folder, "val_mini")


def test_task_ids_that_are_used_again_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "refer_val.json").write_text(json.dumps([TASKS[0], dict(TASKS[0], phrase="the dogs")]))
    (record,) = read_split(folder, "val")
    assert [r.sentences for r in record.referents] == [("black dogs",), ("the dogs",)]
    assert "uses 1 task ids again" in caplog.text


def test_a_file_without_a_phrase(folder: Path) -> None:
    (folder / "refer_val.json").write_text("[]")
    with pytest.raises(UserError, match="has no phrase"):
        read_split(folder, "val")


def test_two_points_are_a_line_and_one_is_nothing(folder: Path) -> None:
    lines = [[[1, 1], [3, 1]], [[5, 5]], []]
    (folder / "refer_val.json").write_text(json.dumps([task("20__0", 20, "a", "a", lines)]))
    mask = read_split(folder, "val")[0].referents[0].mask(6, 10, "drawn")
    assert mask.nonzero().tolist() == [[1, 1], [1, 2], [1, 3]]


@pytest.mark.parametrize(
    ("images", "match"),
    [
        ([dict(IMAGES[0], image_id="../20")], "cannot name a file"),
        ([dict(IMAGES[0], image_id=10**300)], "Expected `int` <= 9223372036854775807"),
        ([dict(IMAGES[0], image_id="\ud800")], r"image_data_split\.json' is no annotation file, or damaged"),
        ([IMAGES[0], dict(IMAGES[0], width=11)], "gives image 20 two sizes"),
        ([dict(IMAGES[0], width=0)], r"Expected `int` >= 1 - at `\$\[0\]\.width`"),
        ([[]], r"Expected `object`, got `array` - at `\$\[0\]`"),
    ],
    ids=["path", "long", "surrogate", "sizes", "zero", "list"],
)
def test_lists_of_images_that_cannot_be(tmp_path: Path, images: list[Any], match: str) -> None:
    (tmp_path / "refer_val.json").write_text(json.dumps(TASKS))
    (tmp_path / "image_data_split.json").write_text(json.dumps(images))
    with pytest.raises(UserError, match=match):
        read_split(tmp_path, "val")


def test_a_split_that_is_not_there(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"Unknown split of PhraseCut 'vall'\. Did you mean 'val'\? Available: val\."
    ):
        read_split(folder, "vall")


def test_a_missing_list_of_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "refer_val.json").write_text(json.dumps(TASKS))
    with pytest.raises(UserError, match=r"No image_data_split\.json or image_data_split3000\.json in"):
        read_split(tmp_path, "val")


def test_an_image_that_is_not_listed(folder: Path) -> None:
    (folder / "refer_val.json").write_text(json.dumps([*TASKS, task("5__0", 5, "a", "a", [box(0, 0, 1, 1)])]))
    with pytest.raises(
        UserError, match=r"split 'val' in .* is about image 5, which is not in the list of images"
    ):
        read_split(folder, "val")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"phrase": None}, r"refer_val\.json' .*Expected `str`, got `null` - at `\$\[0\]\.phrase`"),
        ({"Polygons": {}}, r"Expected `array . null`, got `object` - at `\$\[0\]\.Polygons`"),
        ({"task_id": 1.0}, r"Expected `int \| str`, got `float` - at `\$\[0\]\.task_id`"),
        (
            {"phrase_structure": {"name": 3}},
            r"Expected `str`, got `int` - at `\$.*phrase_structure\.name`",
        ),
        ({"phrase_structure": [1]}, r"Expected `object \| null`, got `array`"),
    ],
    ids=["phrase", "polygons", "id", "name", "structure"],
)
def test_tasks_of_another_shape_are_refused(folder: Path, change: dict[str, Any], match: str) -> None:
    (folder / "refer_val.json").write_text(json.dumps([dict(TASKS[0], **change)]))
    with pytest.raises(UserError, match=match):
        read_split(folder, "val")


@pytest.mark.parametrize("place", ["", "images", "elsewhere"])
def test_images_in_the_two_folders_of_visual_genome(folder: Path, place: str) -> None:
    for part, image_id, size in (("VG_100K", 11, (4, 4)), ("VG_100K_2", 20, (10, 6))):
        (folder / place / part).mkdir(parents=True)
        Image.new("RGB", size, (image_id, 0, 0)).save(folder / place / part / f"{image_id}.jpg", quality=100)
    root = folder / place if place == "elsewhere" else None
    data = PhraseCut(folder, split="val", image_root=root)
    scenes = list(data.predict_dataloader())
    assert [(scene.image_id, scene.error) for scene in scenes] == [(11, None), (20, None)]
    assert [abs(int(scene.image[0, 0, 0]) - scene.image_id) < 4 for scene in scenes] == [True, True]
    (folder / place / "VG_100K_2" / "20.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 2 images are not in .* \(the first: 20\.jpg\)"):
        PhraseCut(folder, split="val", image_root=root).setup()


@pytest.mark.parametrize("place", ["images", "VG_100K", "."])
def test_images_in_one_folder(folder: Path, place: str) -> None:
    (folder / place).mkdir(exist_ok=True)
    for image_id, size in ((11, (4, 4)), (20, (10, 6))):
        Image.new("RGB", size).save(folder / place / f"{image_id}.jpg")
    scenes = PhraseCut(folder, split="val").predict_dataloader()
    assert [scene.error for scene in scenes] == [None, None]


def test_making_the_data_module_reads_nothing(tmp_path: Path) -> None:
    data = PhraseCut(tmp_path / "none")
    assert (data.dataset_name, data.partition, data.split) == ("phrasecut", "official", "test")
    with pytest.raises(UserError, match=r"No refer_<split>\.json of PhraseCut; looked in .*VGPhraseCut_v0"):
        data.setup()
