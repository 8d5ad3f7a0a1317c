"""Parquet files with the columns and types that the cards of the repositories give."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pa = pytest.importorskip("pyarrow", reason="the extra 'hf' is not installed: pip install 'pyarrow>=17'")

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
SENTENCES = pa.list_(
    pa.struct(
        {"raw": pa.string(), "sent": pa.string(), "sent_id": pa.int64(), "tokens": pa.list_(pa.string())}
    )
)
REF = {
    "ann_id": pa.int64(),
    "category_id": pa.int64(),
    "file_name": pa.string(),
    "image_id": pa.int64(),
    "ref_id": pa.int64(),
    "sent_ids": pa.list_(pa.int64()),
    "sentences": SENTENCES,
    "split": pa.string(),
}
ANNOTATION = {
    "area": pa.float64(),
    "bbox": pa.list_(pa.float64()),
    "category_id": pa.int64(),
    "id": pa.int64(),
    "image_id": pa.int64(),
    "iscrowd": pa.int64(),
    "segmentation": pa.list_(pa.list_(pa.float64())),
}
IMAGE_INFO = {"file_name": pa.string(), "height": pa.int64(), "id": pa.int64(), "width": pa.int64()}
SAMPLE = {
    "id": pa.int64(),
    "image_id": pa.int64(),
    "category": pa.string(),
    "supercategory": pa.string(),
    "label": pa.string(),
    "sentences": pa.list_(pa.string()),
    "bbox": pa.list_(pa.float32()),
    "mask": pa.struct({"counts": pa.string(), "size": pa.list_(pa.int32())}),
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "benchmark": {
        "ref_list": pa.list_(pa.struct({"ann_info": pa.struct(ANNOTATION), "ref_info": pa.struct(REF)})),
        "image_info": pa.struct(IMAGE_INFO),
        "image": IMAGE,
    },
    "refcoco-m": {
        "image": IMAGE,
        "image_id": pa.int64(),
        "file_name": pa.string(),
        "samples": pa.list_(pa.struct(SAMPLE)),
    },
    "questions": {"question_id": pa.string(), "image": IMAGE, "question": pa.string()}
    | {"answer": pa.list_(pa.string()), "segmentation": pa.list_(pa.float32())}
    | {"bbox": pa.list_(pa.float32()), "iscrowd": pa.int8(), "file_name": pa.string()},
}
Write = Callable[..., Path]
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub in place of the user's."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def write() -> Write:
    """Write rows of a form; columns that a row lacks are null."""

    def table(path: Path, form: str, rows: list[Row], group: int = 2, without: str = "") -> Path:
        import pyarrow.parquet as pq

        schema = pa.schema([pa.field(k, v) for k, v in SCHEMAS[form].items() if k != without])
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=group)
        return path

    return table


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Paint uint8 ``(height, width, 3)``."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def refer() -> tuple[list[Row], Row]:
    """Refs and instances of REFER: three images, one without a ref in val, four refs in val."""

    def ref(ref_id: int, ann_id: int, image_id: int, split: str, *texts: str) -> Row:
        sentences = [
            {"sent_id": ref_id * 10 + k, "sent": text, "raw": text.upper(), "tokens": text.split()}
            for k, text in enumerate(texts)
        ]
        ids = [sentence["sent_id"] for sentence in sentences]
        names = {"file_name": f"COCO_train2014_{image_id:012d}_{ann_id}.jpg", "category_id": 18}
        numbers = {"ref_id": ref_id, "ann_id": ann_id, "image_id": image_id}
        return {**numbers, **names, "split": split, "sent_ids": ids, "sentences": sentences}

    two_parts = [[1, 1, 4, 1, 4, 4, 1, 4], [5.5, 0, 9, 0, 9, 3, 5.5, 3]]
    overlapping = [[0, 0, 6, 0, 6, 4, 0, 4], [3, 0, 9, 0, 9, 4, 3, 4]]
    outlines = {
        70: (7, two_parts),
        71: (7, {"size": [6, 10], "counts": [0, 2, 4, 2, 52]}),
        50: (5, overlapping),
        90: (9, [[0, 0, 3, 0, 3, 3, 0, 3]]),
    }
    instances: Row = {
        "images": [
            {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": 6, "width": 10}
            for i in (9, 7, 5)
        ],
        "annotations": [
            {"id": k, "image_id": i, "category_id": 18, "iscrowd": 0, "area": 9.0, "segmentation": outline}
            for k, (i, outline) in outlines.items()
        ],
        "categories": [{"id": 18, "name": "dog"}],
    }
    refs = [
        ref(30, 71, 7, "val", "狗 dog", ""),
        ref(4, 50, 5, "val", "left thing"),
        ref(12, 70, 7, "val", "dog in two parts", "the other", "third of it"),
        ref(5, 90, 9, "testA", "a corner"),
        ref(31, 50, 5, "val"),
    ]
    return refs, instances


@pytest.fixture
def pictures() -> dict[int, np.ndarray]:
    """By image id, uint8 (6, 10, 3)."""
    return {image_id: picture(6, 10, image_id) for image_id in (5, 7, 9)}


def _by_id(records: list[Row]) -> dict[int, Row]:
    return {record["id"]: record for record in records}


@pytest.fixture
def benchmark_rows(refer: tuple[list[Row], Row], pictures: dict[int, np.ndarray]) -> list[Row]:
    """The same as rows of jxu124/refcoco-benchmark, all splits, images 9, 7, 5; run lengths get lost."""
    refs, instances = refer
    annotations = copy.deepcopy(_by_id(instances["annotations"]))
    annotations[71]["segmentation"] = []
    return [
        {
            "ref_list": [
                {"ref_info": ref, "ann_info": annotations[ref["ann_id"]]}
                for ref in refs
                if ref["image_id"] == image["id"]
            ],
            "image_info": image,
            "image": {"bytes": encode(pictures[image["id"]]), "path": None},
        }
        for image in instances["images"]
    ]


@pytest.fixture
def m_rows(pictures: dict[int, np.ndarray]) -> list[Row]:
    """Rows of moondream/refcoco-m: image 7 with two masks, image 5 with one; compressed by pycocotools."""
    from pycocotools import mask as coco

    def sample(sample_id: int, image_id: int, box: tuple[int, int, int, int], *texts: str) -> Row:
        pixels = np.zeros((6, 10), dtype=np.uint8, order="F")
        pixels[box[1] : box[3], box[0] : box[2]] = 1
        packed = coco.encode(pixels)
        mask = {"counts": packed["counts"].decode(), "size": packed["size"]}
        ids = {"id": sample_id, "image_id": image_id}
        return {**ids, "category": "dog", "sentences": list(texts), "bbox": [0.0, 0, 1, 1], "mask": mask}

    samples = {
        7: [sample(900, 7, (2, 1, 6, 4), "a dog", "left one"), sample(20, 7, (0, 0, 1, 6), "狗")],
        5: [sample(33, 5, (9, 5, 10, 6), "corner")],
    }
    return [
        {
            "image": {"bytes": encode(pictures[image_id]), "path": f"{image_id}.png"},
            "image_id": image_id,
            "file_name": f"COCO_train2014_{image_id:012d}.jpg",
            "samples": found,
        }
        for image_id, found in samples.items()
    ]
