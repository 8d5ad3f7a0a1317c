"""Whatever stands in the files of PhraseCut: a clear error, or scenes that say what is wrong with them."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from datamodules.phrasecut import PhraseCut
from datamodules.scene import SceneDataset, read_from_folder
from gl_ris.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


numbers = st.one_of(
    st.integers(-3, 12),
    st.floats(-3, 12),
    st.sampled_from([float("nan"), float("inf"), 1e308, -1e308, 10**19, 10**400, 2**31, 60, 79, True, None]),
)
texts = st.one_of(
    st.sampled_from(["dog", "", "man", "../x", "a/b", "\0", "\ud800", "x" * 300, "狗"]), st.text()
)
anything = st.recursive(
    st.one_of(numbers, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values as they should be, and one in eight as they should not."""
    return st.integers(0, 7).flatmap(lambda draw: strategy if draw else anything)


points = mostly(st.lists(mostly(numbers), min_size=2, max_size=2))
polygons = mostly(st.lists(mostly(st.lists(points, max_size=6)), max_size=3))
ids = st.one_of(
    st.just(1), st.integers(1, 3), st.sampled_from([-1, 10**300, "a/b", "\0", "\ud800", "x" * 300])
)
structures = st.fixed_dictionaries(
    {"name": mostly(texts)}, optional={"attributes": mostly(st.lists(texts, max_size=2)), "type": anything}
)
tasks = st.fixed_dictionaries(
    {
        "task_id": mostly(ids),
        "image_id": mostly(ids),
        "phrase": mostly(texts),
        "Polygons": mostly(st.lists(polygons, max_size=3)),
    },
    optional={"phrase_structure": mostly(structures), "ann_ids": anything, "instance_boxes": anything},
)
sizes = mostly(st.integers(0, 12))
images = st.fixed_dictionaries(
    {"image_id": mostly(ids), "width": sizes, "height": sizes}, optional={"split": anything}
)
PLAIN = [{"image_id": number, "width": 8, "height": 6} for number in (1, 2, 3)]


def check(tasks_file: bytes, images_file: bytes) -> None:
    """Read two files as a data set; anything but a scene or a `UserError` is a failure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "refer_test.json").write_bytes(tasks_file)
        (folder / "image_data_split.json").write_bytes(images_file)
        data = PhraseCut(folder, allow_missing_images=True)
        try:
            records = data.records
        except UserError:
            return
        with pytest.raises(UserError):  # there is not one image
            data.setup()
        assert set(data.subset_sizes) == {"unseen_names", "unseen_synonyms"}
        dataset = SceneDataset(
            records, partial(read_from_folder, folder), data.rule, "ground_truth", data.subset_names
        )
        for record, scene in zip(records, (dataset[i] for i in range(len(records))), strict=True):
            assert scene.error
            assert scene.targets.shape == (len(record.referents), record.height, record.width)
            assert scene.targets.dtype == torch.bool
            assert all(members.shape == (len(scene.expressions),) for members in scene.subsets.values())
            " ".join(scene.expressions).encode()  # no lone surrogate is left


@given(
    st.lists(mostly(tasks), min_size=1, max_size=4),
    st.one_of(st.just(PLAIN), st.lists(mostly(images), max_size=4).map(lambda more: PLAIN + more)),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_values_are_read_or_refused(found: list[Any], listed: list[Any]) -> None:
    try:
        files = json.dumps(found).encode(), json.dumps(listed).encode()
    except ValueError:  # a number of so many digits that JSON itself refuses it
        assume(False)
    check(*files)


TASK = {
    "task_id": "1__2",
    "image_id": 1,
    "ann_ids": [2],
    "phrase": "black dog",
    "phrase_structure": {"name": "dog", "attributes": ["black"], "relation_ids": [], "type": "attribute"},
    "instance_boxes": [[0, 0, 4, 4]],
    "Polygons": [[[[0.5, 0], [4, 0], [4, 4]]]],
}
WHOLE = json.dumps([TASK, dict(TASK, task_id="1__3", phrase="caf\u00e9")]).encode()


@given(
    st.integers(0, len(WHOLE)), st.integers(0, 12), st.one_of(st.binary(max_size=6), st.just(b"[" * 100_000))
)
@settings(max_examples=80, deadline=None)
def test_any_damage_is_refused_or_read(start: int, length: int, patch: bytes) -> None:
    check(WHOLE[:start] + patch + WHOLE[start + length :], json.dumps(PLAIN).encode())
