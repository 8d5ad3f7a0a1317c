"""Pictures of a finished run: a few expressions with what was chosen and what was meant."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gl_ris.masks import decode_rle
from gl_ris.predictions import Prediction, read_predictions
from gl_ris.visualize import contact_sheet, overlay

if TYPE_CHECKING:
    from PIL.Image import Image

COUNT = 12


def draw_overlays(folder: Path, data: Any, *, count: int = COUNT, seed: int = 0) -> list[Path]:
    """Draw some predictions of the run's first method into ``<folder>/overlays``.

    Args:
        folder: The run folder with its ``predictions.jsonl``.
        data: The data module of the run.
        count: How many expressions, each of another image as far as there are enough.
        seed: Chooses them.

    Returns:
        The pictures; the last is ``contact_sheet.png`` with all of them.
    """
    scenes, overlays = data.predict_dataloader().dataset, folder / "overlays"
    overlays.mkdir(exist_ok=True)
    pictures: dict[Path, Image] = {}
    for number, record in enumerate(
        pick(read_predictions(folder / "predictions.jsonl"), count, seed), start=1
    ):
        name = re.sub(r"[^\w-]", "_", str(record.image_id))[:60]
        pictures[overlays / f"{number:02d}_image_{name}.png"] = _draw(record, scenes[record.index])
    if pictures:
        pictures[overlays / "contact_sheet.png"] = contact_sheet(list(pictures.values()))
    for path, picture in pictures.items():
        picture.save(path)
    return list(pictures)


def pick(records: Sequence[Prediction], count: int, seed: int) -> list[Prediction]:
    """Pick records of the first method at random, of different images as far as there are enough.

    Example:
        >>> pick([], 12, 0)
        []
    """
    own = [record for record in records if record.method == records[0].method]
    random.Random(seed).shuffle(own)
    first_of_image = {record.index: record for record in reversed(own)}
    # the first of each image before all others, each in the order of the shuffle
    own.sort(key=lambda record: first_of_image[record.index] is not record)
    return sorted(own[:count], key=lambda record: (record.index, str(record.ref_id), str(record.sent_id)))


def _draw(record: Prediction, scene: Any) -> Image:
    expressions = list(zip(scene.ref_ids, scene.sent_ids, strict=True))
    row = expressions.index((record.ref_id, record.sent_id))
    chosen = None if record.segmentation is None else decode_rle(record.segmentation)
    caption = record.expression + (f" [{record.failure}]" if record.failure else "")
    return overlay(scene.image, chosen, scene.targets[scene.referents[row]], caption, iou=record.iou)
