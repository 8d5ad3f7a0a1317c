"""REFER's and PhraseCut's files, against plain loops over what json and pickle read of them."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz.mutate import changed, damaged, json_file, parse
from fuzz.outlines import MOST_PIXELS, compare, drawn_mask, segmentation_mask
from fuzz.runner import Case, Wrong

OUTLINES: list[Any] = [
    [[1.0, 1.0, 5.5, 1.0, 5.5, 6.0]],
    [[0, 0, 4, 0, 4, 4, 0, 4], [6.5, 2, 9, 2, 9, 8]],
    {"size": [9, 12], "counts": [20, 5, 4, 5, 74]},
    [],
]


def _sentence(number: int, text: str) -> dict[str, Any]:
    return {"sent_id": number, "sent": text, "raw": text.upper(), "tokens": text.split()}


REFS: list[Any] = [
    {
        "ref_id": 10 + k,
        "ann_id": 70 + k,
        "image_id": 7 + k // 2,
        "category_id": 1 + k % 2,
        "split": "val" if k != 3 else "testA",
        "file_name": f"x_{k}.jpg",
        "sent_ids": [100 * k, 100 * k + 1],
        "sentences": [_sentence(100 * k, "left dog"), _sentence(100 * k + 1, "caf\u00e9")],
    }
    for k in range(4)
]
INSTANCES: dict[str, Any] = {
    "images": [{"id": 7 + k, "file_name": f"{7 + k}.jpg", "height": 9, "width": 12} for k in range(2)],
    "annotations": [
        {
            "id": 70 + k,
            "image_id": 7 + k // 2,
            "category_id": 1,
            "segmentation": outline,
            "iscrowd": 0,
            "area": 4.0,
        }
        for k, outline in enumerate(OUTLINES)
    ],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "caf\u00e9"}],
}
# one, both and none of an image's annotations
GREFS: list[Any] = [
    {**ref, "ann_id": ids, "category_id": [-1] if ids == [-1] else [1] * len(ids), "no_target": ids == [-1]}
    for ref, ids in zip(REFS, ([70], [70, 71], [-1], [72, 73]), strict=True)
]
TASKS: list[Any] = [
    {
        "task_id": f"{1 + k // 2}__{k}",
        "image_id": 1 + k // 2,
        "ann_ids": [k],
        "phrase": f"black dog {k}",
        "phrase_structure": {"name": "dog", "attributes": ["black"], "type": "attribute"},
        "instance_boxes": [[0, 0, 4, 4]],
        "Polygons": [[[[0.5, 0], [4, 0], [4, 4]]], [[[k, 2.5], [7, 2], [7, 8]], [[1, 1], [3, 3]]]],
    }
    for k in range(3)
]
IMAGES: list[Any] = [{"image_id": n, "width": 12, "height": 9, "url": "", "split": "test"} for n in (1, 2, 3)]


class _Plain(pickle._Unpickler):  # type: ignore[name-defined]  # the one in Python, independent of that in C
    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".")[0], name) not in {
            ("numpy", "scalar"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def unpickle(content: bytes) -> Any:
    return _Plain(io.BytesIO(content), encoding="utf-8", errors="surrogateescape").load()


def refer(folder: Path) -> Case:
    """A refs pickle and ``instances.json``, one of them or both damaged."""
    from datamodules.refer import read_split

    root = folder / "refer"
    root.mkdir()
    arrays = [{**ref, "ref_id": np.int64(ref["ref_id"]), "ann_id": np.int32(ref["ann_id"])} for ref in REFS]
    whole = {protocol: pickle.dumps(REFS, protocol) for protocol in range(5)}
    whole |= {5 + protocol: pickle.dumps(arrays, protocol) for protocol in range(5)}
    same = REFS[0]["sentences"]
    shared = [{**ref, "sentences": same * 3} for ref in REFS] * 3

    def pickled(random: Random) -> bytes:
        kind, protocol = random.random(), random.randrange(len(whole))
        if kind < 0.5:
            loop: list[Any] = []
            loop.append(loop)
            refs = changed(random, REFS, as_json=False)
            if kind < 0.02 and isinstance(refs, list):
                refs = random.choice(
                    (refs + loop, [loop, *refs], shared, [{**r, "sentences": loop} for r in REFS])
                )
            return pickle.dumps(refs, protocol % 5)
        return whole[protocol] if kind < 0.7 else damaged(random, whole[protocol], list(whole.values()))

    def case(random: Random) -> str:
        refs = pickled(random)
        both = random.random() < 0.3
        instances = (
            json_file(random, INSTANCES) if both or refs in whole.values() else json.dumps(INSTANCES).encode()
        )
        (root / "refs(unc).p").write_bytes(refs)
        (root / "instances.json").write_bytes(instances)
        records = read_split(root, "unc", "val", all_instances=random.random() < 0.3)
        try:
            found, listed = unpickle(refs), parse(instances)
        except Exception as error:
            if "numpy.dtype pickle" in str(error):  # of a version that numpy does not have, and nothing else
                return "read"
            raise Wrong(f"read what no oracle reads ({error!r:.200})") from error
        return _compare_refer(records, found, listed)

    return case


def _compare_refer(records: list[Any], refs: Any, instances: Any) -> str:
    images = {image["id"]: image for image in reversed(instances["images"])}
    targets = {item["id"]: item for item in reversed(instances["annotations"])}
    names = {item["id"]: item["name"] for item in instances["categories"]}
    own = [ref for ref in refs if ref["split"] == "val" and ref["sentences"]]
    wanted = sorted({ref["image_id"] for ref in own}, key=lambda key: (isinstance(key, str), key))
    _equal([record.image_id for record in records], wanted, "images")
    outcomes = set()
    for record in records:
        image = images[record.image_id]
        _equal((record.height, record.width), (image["height"], image["width"]), "size")
        _equal(record.file_name, clean(image["file_name"]), "file")
        mine = [ref for ref in own if ref["image_id"] == record.image_id]
        mine.sort(key=lambda ref: (isinstance(ref["ref_id"], str), ref["ref_id"]))
        for ref, found in zip(mine, record.referents, strict=True):
            _equal((found.ref_id, found.ann_id), (ref["ref_id"], ref["ann_id"]), "ids")
            _equal(list(found.sentences), [clean(s["sent"]) for s in ref["sentences"]], "sentences")
            _equal(list(found.sent_ids), [s["sent_id"] for s in ref["sentences"]], "ids of sentences")
            name = names.get(ref["category_id"])
            _equal(found.category, None if name is None else clean(name), "category")
            outline = targets[ref["ann_id"]].get("segmentation")
            outcomes.add(_mask(found, record, lambda *size, o=outline: segmentation_mask(o, *size)))
    return "failed" if "failed" in outcomes else "read"


def grefcoco(folder: Path) -> Case:
    """``grefs(unc).json`` and ``instances.json``, one of them or both damaged."""
    from datamodules.grefcoco import GREFER
    from datamodules.refer import read_split

    root = folder / "grefcoco"
    root.mkdir()

    def case(random: Random) -> str:
        which = random.randrange(3)
        refs = json_file(random, GREFS) if which != 1 else json.dumps(GREFS).encode()
        instances = json_file(random, INSTANCES) if which != 0 else json.dumps(INSTANCES).encode()
        (root / "grefs(unc).json").write_bytes(refs)
        (root / "instances.json").write_bytes(instances)
        records = read_split(root, "unc", "val", random.random() < 0.3, form=GREFER)
        try:
            found, listed = parse(refs), parse(instances)
        except Exception as error:
            raise Wrong(f"read what no oracle reads ({error!r:.200})") from error
        return _compare_grefcoco(records, found, {one["id"]: one for one in reversed(listed["annotations"])})

    return case


def _compare_grefcoco(records: list[Any], refs: Any, annotations: Any) -> str:
    own = {ref["ref_id"]: ref for ref in refs if ref["split"] == "val" and ref["sentences"]}
    found = {referent.ref_id: (record, referent) for record in records for referent in record.referents}
    _equal(found.keys(), own.keys(), "refs")
    outcomes = set()
    for key, (record, referent) in found.items():
        ref = own[key]
        ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
        _equal(record.image_id, ref["image_id"], "image")
        _equal(list(referent.sent_ids), [s["sent_id"] for s in ref["sentences"]], "ids of sentences")
        nothing, said = all(one == -1 for one in ids), ref.get("no_target")
        sound = (nothing or -1 not in ids) and said in (None, nothing)
        _equal(referent.absent, sound and nothing, "absent")
        if not referent.absent:
            parts = [annotations[one] for one in ids if one != -1] if sound else []
            outlines = [one.get("segmentation") for one in parts if not one.get("iscrowd")]
            outcomes.add(_mask(referent, record, lambda *size, o=outlines, s=sound: _all_of(o, s, *size)))
    return "failed" if "failed" in outcomes else "read"


def _all_of(outlines: list[Any], sound: bool, *size: int) -> np.ndarray | None:
    masks = [segmentation_mask(outline, *size) for outline in outlines]
    if not sound or any(mask is None for mask in masks):
        return None
    return np.any([np.zeros(size, bool), *masks], axis=0)


def clean(text: str) -> Any:
    """Return the text where it needs no cleaning, else something that is equal to any text."""
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else _AnyText()


class _AnyText:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and bool(other.encode() or True)

    __hash__ = None  # type: ignore[assignment]


def _equal(found: Any, wanted: Any, what: str) -> None:
    if found != wanted:
        raise Wrong(f"{what}: {found!r:.200} in place of {wanted!r:.200}")


def _mask(
    referent: Any, record: Any, expected: Callable[[int, int], np.ndarray | None], rule: Any = "union"
) -> str:
    size = record.height, record.width
    if size[0] * size[1] > MOST_PIXELS:
        return "read"
    return compare(lambda: referent.mask(*size, rule), lambda: expected(*size), f"ref {referent.ref_id}")


def phrasecut(folder: Path) -> Case:
    """PhraseCut's two files of JSON, one of them or both damaged."""
    from datamodules.phrasecut import PhraseCut, read_split

    root = folder / "phrasecut"
    root.mkdir()

    def case(random: Random) -> str:
        which = random.randrange(3)
        tasks = json_file(random, TASKS) if which != 1 else json.dumps(TASKS).encode()
        images = json_file(random, IMAGES) if which != 0 else json.dumps(IMAGES).encode()
        (root / "refer_test.json").write_bytes(tasks)
        (root / "image_data_split.json").write_bytes(images)
        records = read_split(root, "test", random.random() < 0.3, PhraseCut.subsets)
        try:
            found, listed = parse(tasks), parse(images)
        except Exception as error:
            raise Wrong(f"read what no oracle reads ({error!r:.200})") from error
        return _compare_phrasecut(records, found, {image["image_id"]: image for image in listed})

    return case


def _compare_phrasecut(records: list[Any], tasks: Any, images: Any) -> str:
    wanted = sorted({task["image_id"] for task in tasks}, key=lambda key: (isinstance(key, str), key))
    _equal([record.image_id for record in records], wanted, "images")
    outcomes = set()
    for record in records:
        image = images[record.image_id]
        _equal((record.height, record.width), (image["height"], image["width"]), "size")
        mine = [task for task in tasks if task["image_id"] == record.image_id]
        mine.sort(key=lambda task: (isinstance(task["task_id"], str), task["task_id"]))
        for task, found in zip(mine, record.referents, strict=True):
            _equal((found.ref_id, found.sentences), (task["task_id"], (clean(task["phrase"]),)), "phrase")
            outcomes.add(_mask(found, record, lambda h, w, t=task: _union(t["Polygons"], h, w), "drawn"))
    return "failed" if "failed" in outcomes else "read"


def _union(instances: list[Any], height: int, width: int) -> np.ndarray | None:
    masks = [drawn_mask(instance, height, width) for instance in instances]
    found = [mask for mask in masks if mask is not None]
    return None if len(found) < len(masks) else np.any([np.zeros((height, width), bool), *found], axis=0)
