"""From the refs and images in rows to records."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from datamodules.files import clean_text, convert
from datamodules.records import ImageRecord, Key, Referent, Segmentation, sort_key
from datamodules.refer import BareRef, Image, raw_sentences
from gl_ris.errors import UserError

log = logging.getLogger(__name__)


def merge(records: Iterable[ImageRecord], where: str) -> list[ImageRecord]:
    """Join the records of each image, in the order in which the images first occur.

    Refs without any sentence are left out and counted in the log, since nothing is asked of them; images that
    have no ref left are left out too.

    Args:
        records: Records, several of one image or not.
        where: Name of the data, for messages.

    Returns:
        One record per image, its refs ordered by ref id.

    Raises:
        UserError: If a ref occurs twice, or an image with two names or sizes.
    """
    merged: dict[Key, ImageRecord] = {}
    seen: set[Key] = set()
    unasked = 0
    for record in records:
        first = merged.setdefault(record.image_id, dataclasses.replace(record, referents=()))
        if dataclasses.replace(record, referents=()) != dataclasses.replace(first, referents=()):
            raise UserError(f"{where} has two names or sizes for image {record.image_id!r}.")
        for referent in record.referents:
            if referent.ref_id in seen:
                raise UserError(f"{where} has ref {referent.ref_id!r} twice; keep the files of one version.")
            seen.add(referent.ref_id)
        asked = tuple(referent for referent in record.referents if referent.sentences)
        unasked += len(record.referents) - len(asked)
        merged[record.image_id] = dataclasses.replace(first, referents=(*first.referents, *asked))
    if unasked:
        log.warning("%s: %d of %d refs have no sentence and are left out.", where, unasked, len(seen))
    return [_sorted(record) for record in merged.values() if record.referents]


def _sorted(record: ImageRecord) -> ImageRecord:
    referents = tuple(sorted(record.referents, key=lambda referent: sort_key(referent.ref_id)))
    return dataclasses.replace(record, referents=referents)


def read_ref(ref: dict[str, Any], annotation: Any, where: str, split: str) -> Referent:
    """Read a ref as REFER has it, with the COCO annotation of its target.

    Args:
        ref: ``ref_id, ann_id, split`` and ``sentences`` with ``sent_id`` and ``sent``.
        annotation: ``id`` and ``segmentation``. What is wrong with it is kept as the fault of the mask.
        where: Name of the ref, for messages.
        split: The split that the file should be of, in the words of the refs.

    Raises:
        UserError: If a field of the ref is missing or of another type, or the ref is of another split.
    """
    own = convert(ref, BareRef, where)
    if own.split != split:
        raise UserError(
            f"{where} is of split '{own.split}', not of '{split}' as the file's name says. Fetch it anew."
        )
    return Referent(
        own.ref_id,
        (_outline(annotation, own.ann_id),),
        tuple(clean_text(sentence.sent) for sentence in own.sentences),
        tuple(sentence.sent_id for sentence in own.sentences),
        ann_id=own.ann_id,
        raw=raw_sentences(own.sentences),
    )


def _outline(annotation: Any, ann_id: Key) -> Segmentation:
    if not isinstance(annotation, Mapping) or "segmentation" not in annotation:
        return Segmentation(fault="its annotation is damaged or has no segmentation")
    if annotation.get("id") != ann_id:
        return Segmentation(fault=f"its annotation is {annotation.get('id')!r}, the ref names {ann_id!r}")
    return Segmentation.from_json(annotation["segmentation"])


def read_image_info(info: Any, image_id: Any, referents: tuple[Referent, ...], where: str) -> ImageRecord:
    """Read a COCO image, ``id, file_name, height, width``, with the refs given.

    Raises:
        UserError: If a field is missing or of another type, or it is not image ``image_id``.
    """
    image = convert(info, Image, where)
    check_image_id(image_id, image.id, where)
    return ImageRecord(image.id, clean_text(image.file_name), image.height, image.width, referents)


def check_image_id(named: Any, found: Any, where: str) -> None:
    """Check that a ref and what stands beside it are of the same image.

    Raises:
        UserError: If they are not.
    """
    if named != found:
        raise UserError(
            f"{where} is of image {found!r}, but the ref names image {named!r}. Fetch the file anew."
        )
