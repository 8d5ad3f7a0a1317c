"""The file format of RefCOCO, RefCOCO+ and RefCOCOg: ``refs(<split_by>).p`` beside ``instances.json``."""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.checks import KEY, require_fields, require_size
from datamodules.files import clean_text, read_json, read_plain_pickle, write_json
from datamodules.records import ImageRecord, Key, Referent, Segmentation, sort_key
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import atomic_file


def refs_path(folder: Path, split_by: str) -> Path:
    """Return where the refs of partition ``split_by`` lie."""
    return folder / f"refs({split_by}).p"


def partitions(folder: Path) -> list[str]:
    """Return the partitions that ``folder`` has refs of, e.g. ``["google", "umd"]``."""
    return sorted(path.name[len("refs(") : -len(").p")] for path in folder.glob("refs(*).p"))


def read_refs(folder: Path, split_by: str) -> list[dict[str, Any]]:
    """Read and check the refs of one partition.

    Args:
        folder: Folder of the data set, e.g. ``data/refcocog``.
        split_by: ``"unc"``, ``"umd"``, ``"google"`` or another that is there.

    Raises:
        UserError: If the folder or partition is not there, or the file is not a list of refs.
    """
    if not folder.is_dir():
        raise UserError(f"No folder '{folder}': it should hold refs(<split_by>).p and instances.json.")
    path = refs_path(folder, split_by)
    if not path.is_file():
        raise unknown_name(f"partition (split_by) of '{folder}'", split_by, partitions(folder))
    refs = read_plain_pickle(path)
    check_refs(refs, str(path))
    return refs


def read_split(folder: Path, split_by: str, split: str, all_instances: bool = False) -> list[ImageRecord]:
    """Read one split, grouped by image.

    An image of a partition by object (RefCOCOg ``google``) may stand in several splits; here it comes with
    the refs of ``split`` alone. Refs without any sentence are left out, since nothing is asked of them.

    Args:
        folder: Folder of the data set.
        split_by: The partition.
        split: The split, one that the partition has.
        all_instances: Also keep every instance of each image, to serve as ground-truth proposals. Crowds
            (``iscrowd``) are left out: they outline many objects at once.

    Returns:
        One record per image, ordered by image id, the refs of each ordered by ref id.

    Raises:
        UserError: If a file is missing or damaged, the split is unknown, or the two files do not belong
            together.
    """
    refs = read_refs(folder, split_by)
    splits = {ref["split"] for ref in refs}
    if split not in splits:
        raise unknown_name(f"split of {folder.name} ({split_by})", split, splits)
    by_image: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for ref in refs:
        if ref["split"] == split and ref["sentences"]:
            by_image[ref["image_id"]].append(ref)
    del refs
    path = folder / "instances.json"
    instances = read_json(path, "{")
    check_instances(instances, str(path))
    return _join(by_image, instances, all_instances, f"'{refs_path(folder, split_by)}' and '{path}'")


def _join(
    by_image: Mapping[Key, list[dict[str, Any]]], instances: dict[str, Any], all_instances: bool, files: str
) -> list[ImageRecord]:
    """Give each image of the split its size, its targets and, if wished, its instances."""
    images = {image["id"]: image for image in instances["images"] if image["id"] in by_image}
    wanted = {ref["ann_id"] for refs in by_image.values() for ref in refs}
    targets: dict[Key, Segmentation] = {}
    others: dict[Key, list[Segmentation]] = defaultdict(list)
    for annotation in instances["annotations"]:
        proposed = all_instances and annotation["image_id"] in by_image and not annotation.get("iscrowd")
        if proposed or annotation["id"] in wanted:
            segmentation = Segmentation.from_json(annotation["segmentation"])
            if annotation["id"] in wanted:
                targets[annotation["id"]] = segmentation
            if proposed:
                others[annotation["image_id"]].append(segmentation)
    names = {category["id"]: category["name"] for category in instances["categories"]}
    _check_complete("image", by_image, images, files)
    _check_complete("annotation", wanted, targets, files)
    return [
        ImageRecord(
            image_id,
            clean_text(images[image_id]["file_name"]),
            images[image_id]["height"],
            images[image_id]["width"],
            tuple(
                _referent(ref, targets, names) for ref in sorted(refs, key=lambda r: sort_key(r["ref_id"]))
            ),
            tuple(others[image_id]),
        )
        for image_id, refs in sorted(by_image.items(), key=lambda item: sort_key(item[0]))
    ]


def _referent(ref: dict[str, Any], targets: Mapping[Key, Segmentation], names: Mapping[Key, str]) -> Referent:
    return Referent(
        ref["ref_id"],
        (targets[ref["ann_id"]],),
        tuple(clean_text(sentence["sent"]) for sentence in ref["sentences"]),
        tuple(sentence["sent_id"] for sentence in ref["sentences"]),
        names.get(ref["category_id"]),
    )


def _check_complete(kind: str, wanted: Iterable[Key], found: Mapping[Key, Any], files: str) -> None:
    missing = sorted((key for key in wanted if key not in found), key=sort_key)
    if missing:
        raise UserError(
            f"{files} do not belong together: {len(missing)} {kind}s that the refs name are not in the "
            f"instances (the first: {missing[0]!r}). Use both files of one download."
        )


def check_refs(refs: Any, where: str) -> None:
    """Check that ``refs`` has the shape of a refs file.

    Args:
        refs: What was read, or is about to be written.
        where: Name of the file, for the message.

    Raises:
        UserError: Naming the first record and field at fault.
    """
    if not isinstance(refs, list):
        raise UserError(f"'{where}' holds {type(refs).__name__}, not a list of refs.")
    for number, ref in enumerate(refs):
        place = f"'{where}': ref {number}"
        require_fields(
            ref,
            place,
            ref_id=KEY,
            ann_id=KEY,
            image_id=KEY,
            category_id=KEY,
            split=(str,),
            sentences=(list,),
        )
        for sentence in ref["sentences"]:
            require_fields(sentence, f"{place}, one of its sentences", sent_id=KEY, sent=(str,))


def check_instances(instances: Any, where: str) -> None:
    """Check that ``instances`` has the shape of COCO instances, as far as it is used here.

    Segmentations are not looked into: one that is damaged costs its image, not the run.

    Args:
        instances: What was read, or is about to be written.
        where: Name of the file, for the message.

    Raises:
        UserError: Naming the first record and field at fault.
    """
    require_fields(instances, f"'{where}'", images=(list,), annotations=(list,), categories=(list,))
    for number, image in enumerate(instances["images"]):
        place = f"'{where}': image {number}"
        require_fields(image, place, id=KEY, file_name=(str,))
        require_size(image, place)
    for number, annotation in enumerate(instances["annotations"]):
        require_fields(annotation, f"'{where}': annotation {number}", id=KEY, image_id=KEY)
        if "segmentation" not in annotation:
            raise UserError(f"'{where}': annotation {number} has no 'segmentation'.")
    for number, category in enumerate(instances["categories"]):
        require_fields(category, f"'{where}': category {number}", id=KEY, name=(str,))


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
    check_instances(plain_instances, str(folder / "instances.json"))
    write_json(folder / "instances.json", plain_instances)
    with atomic_file(refs_path(folder, split_by)) as file:
        pickle.dump(plain_refs, file, protocol=2)
