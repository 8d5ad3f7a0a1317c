"""REFER files that are damaged, hostile or both: scenes or one sentence come out, nothing else."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules import RefCOCO
from datamodules.refer import read_split
from gl_ris.errors import UserError

RefMaker = Callable[..., dict[str, Any]]
ODD = st.sampled_from(
    [
        *(0, -1, 2**31, 2**64, 10**30, 1e308, float("nan"), float("inf"), True, None),
        *("", "\ud800", "a" * 2000, "../x", "a\0b", "\u72d7" * 300),
        *([], {}, [[]], [[1, 2]], [[0, 0, 1e7, 1e7, 3, 4]], {"size": [6, 10], "counts": "PPYo0"}),
        *(
            {"counts": [0, 60]},
            {"size": [-6, 10], "counts": [0, 60]},
            {"size": [6, 10], "counts": [2**31 - 1] * 2},
        ),
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to everything in a tree of lists and dicts."""
    yield path
    if isinstance(value, list | dict):
        for key in range(len(value)) if isinstance(value, list) else list(value):
            yield from places(value[key], (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value


def outcome(root: Path, proposals: str | None) -> None:
    """Read everything there is to read; only a `UserError` of one line that prints may come out."""
    told = ""
    try:
        data = RefCOCO(root, proposals=proposals, allow_missing_images=True)
        scenes = list(data.predict_dataloader())
        assert data.n_expressions == sum(len(scene.expressions) for scene in scenes) > 0
        for scene in scenes:
            told += " ".join([*scene.expressions, str(scene.error)])
            assert scene.error is None or not scene.image.any()
    except UserError as error:
        told = str(error)
        assert_one_line(told)
    told.encode()


def assert_one_line(message: str) -> None:
    assert "\n" not in message
    assert len(message) < 2000


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_odd_values_anywhere(
    refcoco_root: Path, make_ref: RefMaker, instances: dict[str, Any], data: st.DataObject
) -> None:
    refs = [
        make_ref(9, 70, 7, "val", "left dog", "caf\udce9"),
        make_ref(4, 71, 7, "val"),
        make_ref(5, 50, 5, "testA"),
    ]
    files = {"refs": refs, "instances": instances}
    for _ in range(data.draw(st.integers(1, 3))):
        files = replaced(files, data.draw(st.sampled_from(list(places(files))[3:])), data.draw(ODD))
    (refcoco_root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(files["refs"], 2))
    (refcoco_root / "refcoco" / "instances.json").write_text(json.dumps(files["instances"]))
    outcome(refcoco_root, data.draw(st.sampled_from([None, "ground_truth"])))


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_odd_bytes_anywhere(refcoco_root: Path, data: st.DataObject) -> None:
    path = refcoco_root / "refcoco" / data.draw(st.sampled_from(["refs(unc).p", "instances.json"]))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 50)))
    try:
        path.write_bytes(whole[:start] + data.draw(st.binary(max_size=12)) + whole[end:])
        outcome(refcoco_root, None)
    finally:
        path.write_bytes(whole)


def write(folder: Path, refs: Any, instances: Any) -> None:
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    (folder / "instances.json").write_text(json.dumps(instances))


def test_more_sentences_than_the_file_can_hold(tmp_path: Path, make_ref: RefMaker, instances: Any) -> None:
    sentences = [{"sent_id": 1, "sent": "a"}] * 1000
    write(tmp_path, [make_ref(k, 70, 7, "val") | {"sentences": sentences} for k in range(1000)], instances)
    with pytest.raises(UserError, match="there are more sentences than fit into the file"):
        read_split(tmp_path, "unc", "val")


@pytest.mark.parametrize("key", ["sent", "raw"])
def test_more_characters_than_the_file_can_hold(
    key: str, tmp_path: Path, make_ref: RefMaker, instances: Any
) -> None:
    text = "a" * 9_999
    refs = [make_ref(k, 70, 7, "val") for k in range(500)]
    for ref in refs:
        ref["sentences"] = [{"sent_id": 20 * ref["ref_id"] + k, "sent": "a", key: text} for k in range(20)]
    write(tmp_path, refs, instances)
    assert (tmp_path / "refs(unc).p").stat().st_size < 1_000_000
    with pytest.raises(UserError, match="there are more characters than fit into the file"):
        read_split(tmp_path, "unc", "val")


def test_refs_that_went_through_pandas_are_the_same(
    tmp_path: Path, make_ref: RefMaker, instances: Any
) -> None:
    refs = [make_ref(9, 70, 7, "val", "left dog", "dog"), make_ref(4, 71, 7, "val", "cat")]
    write(tmp_path, refs, instances)
    expected = read_split(tmp_path, "unc", "val")
    for ref in refs:
        for name in ("ref_id", "ann_id", "image_id", "category_id"):
            ref[name] = np.int64(ref[name])
        for sentence in ref["sentences"]:
            sentence["sent_id"] = np.int32(sentence["sent_id"])
        ref["sentences"] = np.array(ref["sentences"], dtype=object)
        ref["sent_ids"] = np.array(ref["sent_ids"])
    write(tmp_path, refs, instances)
    assert read_split(tmp_path, "unc", "val") == expected


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ref_id": 2}, "ref 1 has the 'ref_id' of ref 0, 2"),
        ({"ref_id": 2**63}, r"Expected `int` <= 9223372036854775807 - at `\$\[1\]\.ref_id`"),
        ({"image_id": "7" * 1001}, r"Expected `str` of length <= 1000 - at `\$\[1\]\.image_id`"),
        ({"sentences": [{"sent_id": 1, "sent": "a" * 10_001}]}, "Expected `str` of length <= 10000"),
        ({"image_id": 5}, "1 refs name an annotation of another image than their own .ids 1"),
    ],
    ids=["twice", "large", "long", "endless", "stray"],
)
def test_refs_that_cannot_be(
    tmp_path: Path, make_ref: RefMaker, instances: Any, change: dict[str, Any], match: str
) -> None:
    write(tmp_path, [make_ref(2, 71, 7, "val"), make_ref(1, 70, 7, "val") | change], instances)
    with pytest.raises(UserError, match=match):
        read_split(tmp_path, "unc", "val")


def test_an_image_of_too_many_pixels(tmp_path: Path, make_ref: RefMaker, instances: Any) -> None:
    instances["images"][0] |= {"height": 20_000, "width": 20_000}
    write(tmp_path, [make_ref(1, 70, 7, "val")], instances)
    with pytest.raises(UserError, match=r"it is said to be 20000 x 20000 pixels - at `\$\.images\[0\]`"):
        read_split(tmp_path, "unc", "val")


def test_a_split_where_nothing_is_asked(tmp_path: Path, make_ref: RefMaker, instances: Any) -> None:
    (tmp_path / "refcoco").mkdir()
    write(tmp_path / "refcoco", [make_ref(1, 70, 7, "val") | {"sentences": []}], instances)
    with pytest.raises(UserError, match=r"Split 'val' of refcoco \(unc\) has no expression"):
        RefCOCO(tmp_path).setup()


def test_a_split_of_an_endless_name(tmp_path: Path, make_ref: RefMaker, instances: Any) -> None:
    write(tmp_path, [make_ref(1, 70, 7, "a\nb" * 3000)], instances)
    with pytest.raises(UserError, match="Unknown split") as raised:
        read_split(tmp_path, "unc", "val")
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def test_lone_surrogates_in_a_pickle_are_told_in_words_that_print(refcoco_root: Path) -> None:
    (refcoco_root / "refcoco" / "refs(unc).p").write_bytes(b"c\xed\xa0\x80\nx\n.")
    outcome(refcoco_root, None)
    (refcoco_root / "refcoco" / "refs(unc).p").write_bytes(b"](S'\\xff'\nS'\\xff'\n\x93.")
    outcome(refcoco_root, None)
