"""The file format of RefCOCO, RefCOCO+ and RefCOCOg: ``refs(<split_by>).p`` beside ``instances.json``.

Both are joined once and kept as an index, from which a split is read image by image.
"""

from __future__ import annotations

import functools
import logging
import pickle
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from datamodules.files import clean_text, require_file, write_json
from datamodules.indexing import Content, indexed
from datamodules.instances import check_instances, find_images, open_instances, put_once, stream_instances
from datamodules.records import Key, sort_key
from datamodules.refs import (
    check_refs,
    raw_sentences,
    read_refs,
    refs_path,
    require_own_ids,
    require_partition,
)
from datamodules.rows import encode_list, encode_row, encode_text
from datamodules.split_records import RowRecords
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import atomic_file

log = logging.getLogger(__name__)


def read_split(
    folder: Path,
    split_by: str,
    split: str,
    all_instances: bool = False,
    *,
    instances: Path | None = None,
    crowds: bool = False,
) -> RowRecords:
    """Open one split, grouped by image.

    An image of a partition by object (RefCOCOg ``google``) may stand in several splits; here it comes with
    the refs of ``split`` alone. Refs without any sentence are left out, since nothing is asked of them; a
    line says how many.

    Args:
        folder: Folder of the data set.
        split_by: The partition.
        split: The split, one that the partition has.
        all_instances: Give each record every instance of its image, to serve as ground-truth proposals.
        instances: Their file, e.g. COCO's ``instances_train2014.json``; None takes the ``instances.json`` of
            the data set, which has every instance of its images.
        crowds: Also give crowds (``iscrowd``), which outline many objects at once.

    Returns:
        One record per image, ordered by image id, the refs of each ordered by ref id.

    Raises:
        UserError: If a file is missing or damaged, the split is unknown, the two files do not belong
            together, or ``instances`` lacks an image.
    """
    refs, own = require_partition(folder, split_by), folder / "instances.json"
    require_file(own, "annotation file")
    rows = indexed([refs, own], "refer", functools.partial(_join, folder, split_by))
    splits = rows.head["splits"]
    if split not in splits:
        present = [" ".join(name.split())[:60] for name in sorted(splits)[:20]]
        raise unknown_name(f"split of {folder.name} ({split_by})", split, present)
    found = splits[split]
    if found["fault"]:
        raise UserError(f"'{refs}' and '{own}' do not belong together: {found['fault']}")
    if found["silent"]:
        _announce("%d refs of '%s' %s have no sentence and are left out.", found["silent"], refs, split)
    span = range(found["first"], found["first"] + found["images"])
    if not all_instances:
        return RowRecords(rows, span)
    path = instances or own
    everything = open_instances(path)
    images = [(row[0], row[2], row[3]) for row in (rows[place] for place in span)]
    return RowRecords(rows, span, everything, find_images(everything, images, path), crowds)


@functools.cache  # a split is opened several times in a process
@rank_zero_only
def _announce(message: str, *values: Any) -> None:
    log.warning(message, *values)


def _join(folder: Path, split_by: str) -> Content:
    """Give the images of every split their sizes, refs and targets.

    Returns:
        One row per split and image, see `datamodules.split_records.RowRecords`. The head has for each split
        its first row, the counts of its images and of its refs without a sentence, and what is wrong with it.
    """
    refs = sorted(read_refs(folder, split_by), key=lambda ref: sort_key(ref["ref_id"]))
    named = _Named(folder / "instances.json", refs)
    by_split: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for ref in refs:
        by_split[clean_text(ref["split"])].append(ref)
    rows: list[bytes] = []
    splits: dict[str, Any] = {}
    for split, own in by_split.items():
        asked = [ref for ref in own if ref["sentences"]]
        fault = named.fault(asked)
        new = [] if fault else named.rows(asked)
        counts = {"first": len(rows), "images": len(new), "silent": len(own) - len(asked)}
        splits[split] = {**counts, "fault": fault}
        rows += new
    return rows, {"splits": splits}


class _Named:
    """What refs name of a file of instances.

    Args:
        path: The file.
        refs: The refs.
    """

    def __init__(self, path: Path, refs: Sequence[dict[str, Any]]) -> None:
        image_ids, target_ids = ({ref[field] for ref in refs} for field in ("image_id", "ann_id"))
        self.images: dict[Key, tuple[str, int, int]] = {}
        self.targets: dict[Key, tuple[Key, bytes]] = {}
        self.categories: dict[Key, str] = {}
        for name, record in stream_instances(path):
            key = record["id"]
            if name == "categories":
                self.categories[key] = clean_text(record["name"])
            elif name == "images" and key in image_ids:
                image = clean_text(record["file_name"]), record["height"], record["width"]
                put_once(self.images, key, image, f"'{path}': image")
            elif name == "annotations" and key in target_ids:
                target = record["image_id"], encode_row(encode_text(record["segmentation"]))
                put_once(self.targets, key, target, f"'{path}': annotation")

    def fault(self, refs: Sequence[dict[str, Any]]) -> str | None:
        """Say what keeps ``refs`` from being joined to the instances, None if nothing does."""
        images = {ref["image_id"] for ref in refs if ref["image_id"] not in self.images}
        targets = {ref["ann_id"] for ref in refs if ref["ann_id"] not in self.targets}
        if images or targets:
            kind, missing = ("images", images) if images else ("annotations", targets)
            return (
                f"{len(missing)} {kind} that the refs name are not in the instances (the first: "
                f"{min(missing, key=sort_key)!r:.60}). Use both files of one download."
            )
        strays = [ref["ref_id"] for ref in refs if self.targets[ref["ann_id"]][0] != ref["image_id"]]
        if strays:
            return (
                f"{len(strays)} refs name an annotation of another image than their own (the first: ref "
                f"{strays[0]!r:.60}). Use both files of one download."
            )
        return None

    def rows(self, refs: Sequence[dict[str, Any]]) -> list[bytes]:
        """Return a row per image, ordered by image id; the refs are ordered already."""
        by_image: dict[Key, list[dict[str, Any]]] = defaultdict(list)
        for ref in refs:
            by_image[ref["image_id"]].append(ref)
        return [
            encode_list([*map(encode_row, (key, *self.images[key])), encode_list(map(self._ref, group))])
            for key, group in sorted(by_image.items(), key=lambda item: sort_key(item[0]))
        ]

    def _ref(self, ref: dict[str, Any]) -> bytes:
        texts = [clean_text(sentence["sent"]) for sentence in ref["sentences"]]
        sent_ids = [sentence["sent_id"] for sentence in ref["sentences"]]
        before = encode_row(ref["ref_id"]), encode_row(self.categories.get(ref["category_id"]))
        after = (texts, sent_ids, ref["ann_id"], raw_sentences(ref))
        return encode_list([*before, self.targets[ref["ann_id"]][1], *map(encode_row, after)])


def write_refer(
    folder: Path | str, split_by: str, refs: Sequence[Mapping[str, Any]], instances: Mapping[str, Any]
) -> None:
    """Write a data set in the format of RefCOCO; `read_split` is the inverse.

    Each file appears complete or not at all: first ``instances.json``, then the refs, so that refs never
    stand without the instances they name.

    Args:
        folder: Folder of the data set, made if missing.
        split_by: Name of the partition.
        refs: Dicts with ``ref_id, ann_id, image_id, category_id, split, file_name, sent_ids`` and
            ``sentences``, a list of dicts with ``sent_id, sent, raw, tokens``. Written as a pickle of
            protocol 2.
        instances: COCO instances: ``images`` (``id, file_name, height, width``), ``annotations`` (``id,
            image_id, category_id, segmentation, area, bbox, iscrowd``) and ``categories`` (``id, name``).

    Raises:
        UserError: If the records lack a field that the format has.
    """
    folder = Path(folder)
    plain_refs, plain_instances = [dict(ref) for ref in refs], dict(instances)
    check_refs(plain_refs, str(refs_path(folder, split_by)))
    require_own_ids(plain_refs, str(refs_path(folder, split_by)))
    check_instances(plain_instances, str(folder / "instances.json"))
    write_json(folder / "instances.json", plain_instances)
    with atomic_file(refs_path(folder, split_by)) as file:
        pickle.dump(plain_refs, file, protocol=2)
