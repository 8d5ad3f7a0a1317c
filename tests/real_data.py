"""Tiny data sets in the form and the places of the real ones, for ready-made settings to read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 32, 40
CORNERS = [4.0, 4.0, 20.0, 4.0, 20.0, 24.0, 4.0, 24.0]
SPLITS = {
    ("refcoco", "unc"): ("train", "val", "testA", "testB"),
    ("refcoco", "google"): ("train", "val", "test"),
    ("refcoco+", "unc"): ("train", "val", "testA", "testB"),
    ("refcocog", "umd"): ("train", "val", "test"),
    ("refcocog", "google"): ("train", "val"),
}
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
# of each split
IMAGES = 4
Row = dict[str, Any]


def write_real_data(root: Path) -> Path:
    """Write all data sets of ready-made settings below ``root``, and an own one in ``mine``; give it."""
    for (dataset, partition), splits in SPLITS.items():
        write_refer_set(root, dataset, partition, splits)
    write_grefcoco(root)
    write_phrases(root / "phrasecut")
    write_parquet(root)
    (root / "mine").mkdir()
    (root / "mine" / "mine.csv").write_text(
        "file,expression,mask\na.jpg,the dog,\na.jpg,the left dog," + json.dumps(json.dumps(CORNERS)) + "\n"
    )
    (root / "mine" / "a.jpg").write_bytes(picture(1))
    return root


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG")
    return stream.getvalue()


def refs_of(splits: Sequence[str]) -> Iterator[tuple[Row, Row, Row]]:
    """Give a ref with its annotation and its image, two refs on each image."""
    for number, split in enumerate(split for split in splits for _ in range(IMAGES)):
        image_id = 100 + number
        name = f"COCO_train2014_{image_id:012d}"
        image = {"id": image_id, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH}
        for own, category in enumerate((1, 18)):
            key = 10 * image_id + own
            ids = {"image_id": image_id, "category_id": category}
            shape = {"segmentation": [CORNERS], "area": 320.0, "bbox": [4.0, 4.0, 16.0, 20.0], "iscrowd": 0}
            text = f"thing {key} of the left dog"
            sentence = {"sent_id": key, "sent": text, "raw": text, "tokens": text.split()}
            ref = {"ref_id": key, "ann_id": key, "split": split, "file_name": f"{name}_{key}.jpg", **ids}
            yield {**ref, "sent_ids": [key], "sentences": [sentence]}, {"id": key, **ids, **shape}, image


def write_refer_set(root: Path, dataset: str, partition: str, splits: Sequence[str]) -> None:
    from datamodules.refer import write_refer

    refs, annotations, images = zip(*refs_of(splits), strict=True)
    distinct = list({image["id"]: image for image in images}.values())
    instances = {"images": distinct, "annotations": list(annotations), "categories": CATEGORIES}
    longest = root / dataset / "instances.json"
    kept = longest.read_bytes() if longest.is_file() else b""
    write_refer(root / dataset, partition, refs, instances)
    if len(kept) > longest.stat().st_size:  # of two partitions, the one with more images
        longest.write_bytes(kept)
    (root / "train2014").mkdir(exist_ok=True)
    for image in distinct:
        (root / "train2014" / image["file_name"]).write_bytes(picture(image["id"]))


def write_grefcoco(root: Path) -> None:
    """Write gRefCOCO on the images of RefCOCO: on each one ref with both annotations, one with none."""
    from datamodules.grefcoco import GREFER
    from datamodules.refer import write_refer

    refs, annotations, images = zip(*refs_of(SPLITS["refcoco", "unc"]), strict=True)
    for own, other in zip(refs[::2], refs[1::2], strict=True):
        own |= {"ann_id": [own["ref_id"], other["ref_id"]], "category_id": [1, 18], "no_target": False}
        other |= {"ann_id": [-1], "category_id": [-1], "no_target": True}
    distinct = list({image["id"]: image for image in images}.values())
    instances = {"images": distinct, "annotations": list(annotations), "categories": CATEGORIES}
    write_refer(root / "grefcoco", "unc", refs, instances, GREFER)


def write_phrases(root: Path) -> None:
    from datamodules.phrasecut import write_phrasecut

    (root / "images").mkdir(parents=True)
    for number, split in enumerate(("train", "val", "miniv", "test")):
        images, tasks = [], []
        for image_id in (10 * number + 1, 10 * number + 2):
            (root / "images" / f"{image_id}.jpg").write_bytes(picture(image_id))
            size = {"image_id": image_id, "width": WIDTH, "height": HEIGHT}
            images.append({**size, "url": "", "split": split})
            for own, name in enumerate(("dog", "windmill")):
                task = {"task_id": f"{image_id}__{own}", "image_id": image_id, "ann_ids": [own]}
                boxes = {
                    "instance_boxes": [[4, 4, 16, 20]],
                    "Polygons": [[np.reshape(CORNERS, (-1, 2)).tolist()]],
                }
                structure = {"name": name, "attributes": []}
                tasks.append({**task, **boxes, "phrase": f"left {name}", "phrase_structure": structure})
        write_phrasecut(root, split, tasks, images)


def write_parquet(root: Path) -> None:
    """Write what Hugging Face repositories have; nothing where the extra is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return

    def write(path: Path, rows: list[Row]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)

    names = {"val": "validation", "testA": "test"}
    folders = {"refcoco": "refcoco", "refcoco+": "refcocoplus", "refcocog": "refcocog"}
    for (dataset, partition), splits in SPLITS.items():
        for split in splits:
            found = list(refs_of((split,)))
            if partition != "google" or (dataset, split) == ("refcocog", "val"):
                file = f"{dataset.replace('+', '_plus')}_{partition}_{split}-00000-of-00001.parquet"
                write(root / "jxu124" / "refcoco-benchmark" / "data" / file, benchmark_rows(found))
            if partition != "google":
                file = f"{names.get(split, split)}-00000-of-00001.parquet"
                write(root / "jxu124" / folders[dataset] / "data" / file, ref_rows(found))
    write(root / "moondream" / "refcoco-m" / "data" / "validation-00000-of-00001.parquet", mask_rows())


def ref_rows(found: Sequence[tuple[Row, Row, Row]]) -> list[Row]:
    return [
        {**ref, "raw_anns": json.dumps(annotation), "raw_image_info": json.dumps(image)}
        for ref, annotation, image in found
    ]


def benchmark_rows(found: Sequence[tuple[Row, Row, Row]]) -> list[Row]:
    images = {image["id"]: image for _, _, image in found}
    return [
        {
            "ref_list": [
                {"ref_info": ref, "ann_info": ann} for ref, ann, _ in found if ref["image_id"] == key
            ],
            "image_info": image,
            "image": {"bytes": picture(key), "path": None},
        }
        for key, image in images.items()
    ]


def mask_rows() -> list[Row]:
    import torch

    from gl_ris.masks import encode_rle

    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[4:24, 4:20] = True
    sample = {"id": 7, "image_id": 5, "category": "dog", "sentences": ["left dog"], "mask": encode_rle(mask)}
    image = {"image": {"bytes": picture(5), "path": "5.jpg"}, "image_id": 5, "file_name": "5.jpg"}
    return [{**image, "samples": [sample]}]
