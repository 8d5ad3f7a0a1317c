"""Small data sets, written out by hand: every expected value in the tests can be read off here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# A pickle of protocol 0 as Python 2 wrote it, str values included: three refs on two images.
PYTHON2_REFS = b"""(lp0
(dp1
S'sent_ids'
p2
(lp3
I100
aI101
asS'file_name'
p4
S'COCO_train2014_000000000007_70.jpg'
p5
sS'ann_id'
p6
I70
sS'sentences'
p7
(lp8
(dp9
S'tokens'
p10
(lp11
S'left'
p12
aS'dog'
p13
asS'raw'
p14
S'Left dog!'
p15
sS'sent_id'
p16
I100
sS'sent'
p17
S'left dog'
p18
sa(dp19
g10
(lp20
sg14
S'caf\\xe9 dog'
p21
sg16
I101
sg17
S'caf\\xe9 dog'
p22
sasS'split'
p23
S'val'
p24
sS'ref_id'
p25
I9
sS'category_id'
p26
I18
sS'image_id'
p27
I7
sa(dp28
g2
(lp29
I102
asg4
S'x.jpg'
p30
sg6
I71
sg7
(lp31
(dp32
g10
(lp33
sg14
S''
p34
sg16
I102
sg17
V\\u72d7 dog
p35
sasg23
g24
sg25
I4
sg26
I18
sg27
L7L
sa(dp36
g2
(lp37
I103
asg4
g30
sg6
I50
sg7
(lp38
(dp39
g10
(lp40
sg14
g34
sg16
I103
sg17
S''
p41
sasg23
S'testA'
p42
sg25
I5
sg26
I1
sg27
I5
sa."""

SQUARE = [[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]  # columns 2 to 5, rows 1 to 3: 12 pixels
INSTANCES: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "COCO_train2014_000000000007.jpg", "height": 6, "width": 10},
        {"id": 5, "file_name": "COCO_train2014_000000000005.jpg", "height": 4, "width": 4},
    ],
    "annotations": [
        {"id": 72, "image_id": 7, "category_id": 1, "iscrowd": 0, "segmentation": [[8, 0, 9, 0, 9, 1, 8, 1]]},
        {"id": 70, "image_id": 7, "category_id": 18, "iscrowd": 0, "segmentation": SQUARE},
        # two runs of two pixels: column 0, rows 0 and 1; column 1, rows 0 and 1
        {
            "id": 71,
            "image_id": 7,
            "category_id": 18,
            "iscrowd": 0,
            "segmentation": {"size": [6, 10], "counts": [0, 2, 4, 2, 52]},
        },
        {
            "id": 73,
            "image_id": 7,
            "category_id": 18,
            "iscrowd": 1,
            "segmentation": {"size": [6, 10], "counts": [0, 60]},
        },
        {"id": 50, "image_id": 5, "category_id": 1, "iscrowd": 0, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
}


def save_image(path: Path, width: int, height: int) -> np.ndarray:
    """Write an image that no two pixels of which are alike, without loss; returns uint8 (H, W, 3)."""
    values = np.arange(width * height * 3, dtype=np.uint32).reshape(height, width, 3)
    pixels = (values * 7 % 251).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG")
    return pixels


@pytest.fixture
def instances() -> dict[str, Any]:
    return json.loads(json.dumps(INSTANCES))


@pytest.fixture
def refcoco_root(tmp_path: Path) -> Path:
    """A root folder as users have it: refs of partition unc written by Python 2, images in train2014."""
    folder = tmp_path / "refcoco"
    folder.mkdir()
    (folder / "refs(unc).p").write_bytes(PYTHON2_REFS)
    (folder / "instances.json").write_text(json.dumps(INSTANCES))
    for image in INSTANCES["images"]:
        save_image(tmp_path / "train2014" / image["file_name"], image["width"], image["height"])
    return tmp_path


RefMaker = Callable[..., dict[str, Any]]


@pytest.fixture
def make_ref() -> RefMaker:
    """Make a ref with one sentence, or those given."""

    def make(ref_id: int, ann_id: int, image_id: int, split: str, *sentences: str) -> dict[str, Any]:
        texts = sentences or (f"thing {ref_id}",)
        return {
            "ref_id": ref_id,
            "ann_id": ann_id,
            "image_id": image_id,
            "category_id": 1,
            "split": split,
            "file_name": f"{image_id}_{ann_id}.jpg",
            "sent_ids": [ref_id * 10 + k for k in range(len(texts))],
            "sentences": [
                {"sent_id": ref_id * 10 + k, "sent": text, "raw": text, "tokens": text.split()}
                for k, text in enumerate(texts)
            ],
        }

    return make


@pytest.fixture
def many_images(tmp_path: Path, make_ref: RefMaker) -> Path:
    """Seven images of 8 x 8, ids 3 to 21, the i-th with i refs: many(toy), split val."""
    from datamodules.refer import write_refer

    square = [[1, 1, 4, 1, 4, 4, 1, 4]]
    images = [{"id": 3 * i, "file_name": f"{3 * i}.png", "height": 8, "width": 8} for i in range(1, 8)]
    refs = [make_ref(100 * i + k, i, 3 * i, "val") for i in range(7, 0, -1) for k in range(i)]
    annotations = [
        {"id": i, "image_id": 3 * i, "category_id": 1, "iscrowd": 0, "segmentation": square}
        for i in range(1, 8)
    ]
    categories = [{"id": 1, "name": "square"}]
    write_refer(
        tmp_path / "many",
        "toy",
        refs,
        {"images": images, "annotations": annotations, "categories": categories},
    )
    for image in images:
        save_image(tmp_path / "images" / str(image["file_name"]), 8, 8)
    return tmp_path
