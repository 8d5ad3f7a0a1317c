"""COCO instances: ``instances.json`` of RefCOCO, and COCO's own ``instances_train2014.json``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.checks import KEY, require_fields, require_size
from datamodules.files import require_file
from datamodules.indexing import Content, indexed
from datamodules.json_stream import stream_lists
from datamodules.records import Key, sort_key
from datamodules.rows import Rows, encode_list, encode_row, encode_text
from gl_ris.errors import UserError


def stream_instances(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file of instances record by record.

    Yields:
        ``"images"``, ``"annotations"`` or ``"categories"``, and a record of it, checked.

    Raises:
        UserError: If the file is missing or damaged, or a record lacks a field or has a wrong one.
    """
    numbers = dict.fromkeys(_CHECKS, 0)
    for name, record in stream_lists(path, _CHECKS):
        _CHECKS[name](record, f"'{path}': {_ONE[name]} {numbers[name]}")
        numbers[name] += 1
        yield name, record


def check_instances(instances: Any, where: str) -> None:
    """Check that ``instances`` has the shape of COCO instances, as far as it is used here.

    Segmentations are not looked into: one that is damaged costs its image, not the run.

    Args:
        instances: What is about to be written.
        where: Name of the file, for the message.

    Raises:
        UserError: Naming the first record and field at fault.
    """
    require_fields(instances, f"'{where}'", images=(list,), annotations=(list,), categories=(list,))
    for name, check in _CHECKS.items():
        for number, record in enumerate(instances[name]):
            check(record, f"'{where}': {_ONE[name]} {number}")


def _check_image(image: Any, place: str) -> None:
    require_fields(image, place, id=KEY, file_name=(str,))
    require_size(image, place)


def _check_annotation(annotation: Any, place: str) -> None:
    require_fields(annotation, place, id=KEY, image_id=KEY)
    if "segmentation" not in annotation:
        raise UserError(f"{place} has no 'segmentation'.")


def _check_category(category: Any, place: str) -> None:
    require_fields(category, place, id=KEY, name=(str,))


_CHECKS = {"images": _check_image, "annotations": _check_annotation, "categories": _check_category}
_ONE = {"images": "image", "annotations": "annotation", "categories": "category"}


def open_instances(path: Path) -> Rows:
    """Open the instances of a file, image by image; large files are indexed at the first time.

    Returns:
        Per image a list of ``[is a crowd, JSON of the segmentation]`` in the order of the file. The head has
        ``ids`` and ``sizes`` (height, width) of the images.

    Raises:
        UserError: If the file is missing or damaged, or gives two records one id.
    """
    require_file(path, "annotation file")
    return indexed([path], "instances", lambda: _by_image(path))


def _by_image(path: Path) -> Content:
    sizes: dict[Key, tuple[int, int]] = {}
    instances: dict[Key, dict[Key, bytes]] = defaultdict(dict)
    for name, record in stream_instances(path):
        if name == "images":
            put_once(sizes, record["id"], (record["height"], record["width"]), f"'{path}': image")
        elif name == "annotations":
            row = encode_row([bool(record.get("iscrowd")), encode_text(record["segmentation"])])
            put_once(instances[record["image_id"]], record["id"], row, f"'{path}': annotation")
    ids = sorted(sizes, key=sort_key)
    rows = (encode_list(instances[key].values()) for key in ids)
    return rows, {"ids": ids, "sizes": [sizes[key] for key in ids]}


def put_once(known: dict[Key, Any], key: Key, value: Any, what: str) -> None:
    """Enter a record under its id; one that stands there twice alike counts once.

    Raises:
        UserError: If another record has this id.
    """
    if known.setdefault(key, value) != value:
        raise UserError(f"{what} {key!r:.60} is there twice, and not alike. Fetch the file anew.")


def find_images(rows: Rows, images: Sequence[tuple[Key, int, int]], path: Path) -> np.ndarray:
    """Find images in what `open_instances` returned.

    Args:
        rows: The instances.
        images: Id, height and width of each.
        path: Their file, for the message.

    Returns:
        int64: the row of each image.

    Raises:
        UserError: If the file lacks an image or has it in another size.
    """
    places = {key: place for place, key in enumerate(rows.head["ids"])}
    missing = [key for key, _, _ in images if key not in places]
    if missing:
        raise UserError(
            f"'{path}' lacks {len(missing)} of the {len(images)} images (ids {_some(missing)}), so they have "
            "no ground-truth proposals. Use the instances of COCO train2014, or the data set's own."
        )
    found = np.array([places[key] for key, _, _ in images], dtype=np.int64)
    sizes = rows.head["sizes"]
    other = [image[0] for image, place in zip(images, found, strict=True) if sizes[place] != list(image[1:])]
    if other:
        raise UserError(f"'{path}' has {len(other)} of the images in another size (ids {_some(other)}).")
    return found


def _some(keys: Sequence[Key]) -> str:
    return ", ".join(f"{key!r:.60}" for key in keys[:3]) + (", ..." if len(keys) > 3 else "")
