"""Outlines that stay in their file: what is read of it by whom, and when somebody changes it meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from datamodules import RefCOCO, Scene
from datamodules.annotated import Annotation, Columns
from datamodules.files import read_mapped
from datamodules.objects import Outlines
from datamodules.records import ImageRecord
from datamodules.refer import read_split
from gl_ris.errors import EvaluationError


def record_of(root: Path) -> ImageRecord:
    (record,) = read_split(root / "refcoco", "unc", "val", all_instances=True)
    return record


def areas(record: ImageRecord) -> list[list[int]]:
    outlines = Outlines(record, "union")
    masks = (outlines.targets()[0], outlines.objects().masks, outlines.proposals())
    return [found.sum(dim=(1, 2)).tolist() for found in masks]


AREAS = [[4, 12], [1, 12, 4, 60], [1, 12, 4]]


def test_places_are_those_that_a_search_for_the_text_finds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        '[{"id": 1, "image_id": 7, "segmentation": [[1, 2]]}, {"id": "b", "image_id": 7},'
        ' {"segmentation" :  {"size": [1, 2]} ,"id": 3, "image_id": 8, "category_id": 4, "iscrowd": 1}]'
    )
    found, file = read_mapped(path, list[Annotation])
    columns = Columns(found, file, {8, 7, 9}, ["b", 3])
    outlines = {key: [*columns.outlines(columns.images[key])] for key in (7, 8, 9)}
    texts = {key: [bytes(one.json or b"") for one in own] for key, own in outlines.items()}
    assert texts == {7: [b"[[1, 2]]", b"null"], 8: [b'{"size": [1, 2]}'], 9: []}
    assert [columns.categories[row] for key in (7, 8) for row in columns.images[key]] == [None, None, 4]
    start = path.read_bytes().index(b'{"size"')
    assert [one.place for one in columns.outlines([columns.rows[3]])] == [(file, start)]
    assert [len(columns.outlines(columns.rows.values(), crowds)) for crowds in (True, False)] == [2, 1]


@pytest.mark.parametrize("nan", [False, True])
def test_a_record_is_pickled_as_places_and_read_again(
    nan: bool, refcoco_root: Path, instances: dict[str, Any]
) -> None:
    path = refcoco_root / "refcoco" / "instances.json"
    # with a bare NaN in front of all places the file is read from a copy
    path.write_text(json.dumps({"info": [float("nan")] * nan, "text": "x" * 5000} | instances))
    record = record_of(refcoco_root)
    packed = pickle.dumps(record)
    assert len(packed) < 2000
    again = pickle.loads(packed)
    assert again == record
    assert areas(again) == areas(record) == AREAS


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same(method: str, refcoco_root: Path) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork on this system")
    data = RefCOCO(refcoco_root, proposals="ground_truth")
    loader = DataLoader[Scene](data.scenes, batch_size=None, num_workers=1, multiprocessing_context=method)
    (scene,) = loader
    assert scene.objects is not None
    assert scene.proposals is not None
    found = [
        masks.sum(dim=(1, 2)).tolist() for masks in (scene.targets, scene.objects, scene.proposals.masks)
    ]
    assert found == AREAS


def test_a_file_that_another_takes_the_name_of_is_still_read(refcoco_root: Path, tmp_path: Path) -> None:
    path = refcoco_root / "refcoco" / "instances.json"
    record = record_of(refcoco_root)
    packed = pickle.dumps(record)
    (tmp_path / "new.json").write_bytes(b"[" * path.stat().st_size)
    os.replace(tmp_path / "new.json", path)
    assert areas(record) == AREAS
    with pytest.raises(EvaluationError, match=r"instances\.json' was changed while it was being used"):
        areas(pickle.loads(packed))
    path.unlink()
    with pytest.raises(EvaluationError, match=r"instances\.json' was changed while it was being used"):
        areas(pickle.loads(packed))


def test_a_file_that_is_cut_short_ends_the_run_with_a_sentence(refcoco_root: Path) -> None:
    record = record_of(refcoco_root)
    (refcoco_root / "refcoco" / "instances.json").write_bytes(b"{}")
    with pytest.raises(EvaluationError, match="was changed while it was being used; start again"):
        areas(record)


def test_an_outline_that_the_file_lacks_is_a_fault_of_its_own(
    refcoco_root: Path, instances: dict[str, Any]
) -> None:
    del instances["annotations"][1]["segmentation"]
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    outlines = Outlines(record_of(refcoco_root), "union")
    fault = "target: the segmentation is NoneType, not polygons or a run-length code"
    assert outlines.targets()[1] == [None, fault]
    assert outlines.objects().meant == [(1,), None]
