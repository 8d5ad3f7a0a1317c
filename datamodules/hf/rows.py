"""From rows to records: one reader for each repository.

A reader takes a row by column, the name of the row for messages, and the split that the file should be of, in
the words of the refs (``testA``, not ``test``). What is wrong with an annotation is kept as the fault of its
mask, which costs one image; a field that is missing or of another type is a `UserError`.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from datamodules.files import MAX_SIDE, Id, clean_text, convert
from datamodules.records import ImageRecord, Key, Referent, Segmentation, sort_key
from datamodules.refer import BareRef, Image, raw_sentences
from gl_ris.errors import UserError

log = logging.getLogger(__name__)


def merge(records: Iterable[ImageRecord], where: str) -> list[ImageRecord]:
    """Join the records of each image, in the order in which the images first occur.

    Refs, ordered by id, without any sentence are left out and counted in the log, since nothing is asked of
    them; images that have no ref left are left out too. `UserError`, naming the data by ``where``, if a ref
    occurs twice, or an image with two names or sizes.
    """
    images: dict[Key, ImageRecord] = {}
    referents: dict[Key, dict[Key, Referent]] = {}
    seen: set[Key] = set()
    for record in records:
        bare = dataclasses.replace(record, referents=())
        if images.setdefault(record.image_id, bare) != bare:
            raise UserError(f"{where} has two names or sizes for image {record.image_id!r}.")
        for referent in record.referents:
            if referent.ref_id in seen:
                raise UserError(f"{where} has ref {referent.ref_id!r} twice; keep the files of one version.")
            seen.add(referent.ref_id)
            if referent.sentences:
                referents.setdefault(record.image_id, {})[referent.ref_id] = referent
    if unasked := len(seen) - sum(map(len, referents.values())):
        log.warning("%s: %d of %d refs have no sentence and are left out.", where, unasked, len(seen))
    return [
        dataclasses.replace(image, referents=tuple(own[ref] for ref in sorted(own, key=sort_key)))
        for key, image in images.items()
        if (own := referents.get(key))
    ]


class _RefAndAnnotation(msgspec.Struct):
    ref_info: dict[str, Any]
    ann_info: Any = None


class _BenchmarkRow(msgspec.Struct):
    ref_list: list[_RefAndAnnotation]
    image_info: dict[str, Any]


def benchmark_row(row: dict[str, Any], where: str, split: str) -> ImageRecord:
    """Read one image with its refs of the split, each beside its COCO annotation."""
    own = convert(row, _BenchmarkRow, where)
    image_id, referents = own.image_info.get("id"), []
    for number, item in enumerate(own.ref_list):
        place, annotation = f"{where}, ref {number}", item.ann_info
        # run-length codes get lost in a column of polygons
        if isinstance(annotation, dict) and annotation.get("segmentation") == [] and annotation.get("area"):
            annotation = None
        referents.append(_referent(item.ref_info, annotation, place, split))
        _check_image_id(item.ref_info.get("image_id"), image_id, place)
    return _image(own.image_info, image_id, tuple(referents), f"{where}, its image_info")


class _Sample(msgspec.Struct):
    id: Id
    sentences: list[str]
    mask: dict[str, Any] | None
    category: str | None = None


class _MaskRow(msgspec.Struct):
    image_id: Id
    file_name: str
    samples: list[_Sample]


def refcoco_m_row(row: dict[str, Any], where: str, split: str) -> ImageRecord:
    """Read one image with all its masks, run-length codes ``{"counts", "size"}``; the split is not recorded.

    Sentences have no ids of their own there; they get ``<id of the mask>-<index>``. The image has the size of
    its masks, the only place where the file tells it; 1 x 1 if no mask does, and then every mask is at fault.
    """
    own = convert(row, _MaskRow, where)
    referents, sizes = [], []
    for sample in own.samples:
        texts = tuple(clean_text(text) for text in sample.sentences)
        ids = tuple(f"{sample.id}-{index}" for index in range(len(texts)))
        mask = Segmentation.from_json(sample.mask)
        referents.append(Referent(sample.id, (mask,), texts, ids, sample.category))
        sizes += [mask.rle["size"]] if mask.rle and _is_size(mask.rle["size"]) else []
    height, width = sizes[0] if sizes else (1, 1)
    return ImageRecord(own.image_id, clean_text(own.file_name), height, width, tuple(referents))


def _is_size(size: Any) -> bool:
    sides = size if isinstance(size, Sequence) else ()
    return len(sides) == 2 and all(type(n) is int and 1 <= n <= MAX_SIDE for n in sides)


def _referent(ref: dict[str, Any], annotation: Any, where: str, split: str) -> Referent:
    """Read a ref as REFER has it, with the COCO annotation of its target."""
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


def _image(info: Any, image_id: Any, referents: tuple[Referent, ...], where: str) -> ImageRecord:
    """Read a COCO image, ``id, file_name, height, width``, with the refs given."""
    image = convert(info, Image, where)
    _check_image_id(image_id, image.id, where)
    return ImageRecord(image.id, clean_text(image.file_name), image.height, image.width, referents)


def _check_image_id(named: Any, found: Any, where: str) -> None:
    """Check that a ref and what stands beside it are of the same image."""
    if named != found:
        raise UserError(
            f"{where} is of image {found!r}, but the ref names image {named!r}. Fetch the file anew."
        )
