"""PhraseCut: phrases that may refer to several instances, on images of Visual Genome."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.base import RISDataModule
from datamodules.checks import KEY, require_fields, require_size
from datamodules.files import clean_text, read_json, write_json
from datamodules.records import ImageRecord, Key, Referent, Segmentation, sort_key
from gl_ris.errors import UserError, unknown_name
from gl_ris.proposals.base import ProposalGenerator

IMAGE_FILES = ("image_data_split.json", "image_data_split3000.json")
"""Names under which the list of images has been published."""


def tasks_path(folder: Path, split: str) -> Path:
    """Return where the tasks of ``split`` lie."""
    return folder / f"refer_{split}.json"


def _find_folder(root: Path) -> Path:
    candidates = [root, root / "VGPhraseCut_v0", root / "data" / "VGPhraseCut_v0", root / "phrasecut"]
    for folder in candidates:
        if any(folder.glob("refer_*.json")):
            return folder
    tried = ", ".join(f"'{folder}'" for folder in candidates)
    raise UserError(
        f"No refer_<split>.json of PhraseCut; looked in {tried}. Set root to the folder that holds them."
    )


def read_tasks(folder: Path, split: str) -> list[dict[str, Any]]:
    """Read and check the tasks of one split.

    Raises:
        UserError: If the split is not there or its file is damaged.
    """
    path = tasks_path(folder, split)
    if not path.is_file():
        present = [p.stem[len("refer_") :] for p in folder.glob("refer_*.json")]
        raise unknown_name("split of PhraseCut", split, present)
    tasks = read_json(path, "[")
    check_tasks(tasks, str(path))
    return tasks


def check_tasks(tasks: Any, where: str) -> None:
    """Check that ``tasks`` has the shape of a PhraseCut file, as far as it is used here.

    Raises:
        UserError: Naming the first task and field at fault.
    """
    for number, task in enumerate(tasks):
        place = f"'{where}': task {number}"
        require_fields(task, place, task_id=KEY, image_id=KEY, phrase=(str,), Polygons=(list,))
        structure = task.get("phrase_structure")
        if structure:
            require_fields(structure, f"{place}, its phrase_structure", name=(str,))


def read_images(folder: Path) -> dict[Key, dict[str, Any]]:
    """Read the list of images, under either of its published names.

    Raises:
        UserError: If it is missing or damaged.
    """
    for name in IMAGE_FILES:
        if (folder / name).is_file():
            images = read_json(folder / name, "[")
            check_images(images, str(folder / name))
            return {image["image_id"]: image for image in images}
    raise UserError(f"No {' or '.join(IMAGE_FILES)} in '{folder}': it gives the size of each image.")


def check_images(images: Any, where: str) -> None:
    """Check that ``images`` has the shape of PhraseCut's list of images.

    Raises:
        UserError: Naming the first image and field at fault.
    """
    for number, image in enumerate(images):
        place = f"'{where}': image {number}"
        require_fields(image, place, image_id=KEY)
        require_size(image, place)


def read_split(folder: Path, split: str, all_instances: bool = False) -> list[ImageRecord]:
    """Read one split, grouped by image; ref and sentence id of a phrase are its task id.

    Args:
        folder: Folder that holds ``refer_<split>.json``.
        split: ``train``, ``val``, ``miniv`` or ``test``.
        all_instances: Also keep every instance that some phrase of the split names, without repeats, to
            serve as ground-truth proposals.

    Returns:
        One record per image, ordered by image id, its phrases ordered by task id.

    Raises:
        UserError: If a file is missing or damaged, or a task is about an image that is not listed.
    """
    tasks = read_tasks(folder, split)
    images = read_images(folder)
    by_image: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for task in tasks:
        if task["image_id"] not in images:
            raise UserError(
                f"'{tasks_path(folder, split)}' is about image {task['image_id']!r}, which is not in "
                f"the list of images ({IMAGE_FILES[0]}). Use both files of one download."
            )
        by_image[task["image_id"]].append(task)
    del tasks
    return [
        _record(images[image_id], sorted(group, key=lambda task: sort_key(task["task_id"])), all_instances)
        for image_id, group in sorted(by_image.items(), key=lambda item: sort_key(item[0]))
    ]


def _record(image: dict[str, Any], tasks: Sequence[dict[str, Any]], all_instances: bool) -> ImageRecord:
    referents = tuple(_referent(task) for task in tasks)
    instances = (s for referent in referents for s in referent.segmentations) if all_instances else ()
    distinct = {tuple(polygon.tobytes() for polygon in s.polygons): s for s in instances}
    return ImageRecord(
        image["image_id"],
        f"{image['image_id']}.jpg",
        image["height"],
        image["width"],
        referents,
        tuple(distinct.values()),
    )


def _referent(task: dict[str, Any]) -> Referent:
    return Referent(
        task["task_id"],
        tuple(Segmentation.from_points(instance) for instance in task["Polygons"]),
        (clean_text(task["phrase"]),),
        (task["task_id"],),
        (task.get("phrase_structure") or {}).get("name"),
    )


def write_phrasecut(
    folder: Path | str, split: str, tasks: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]
) -> None:
    """Write one split in the format of PhraseCut; `read_split` is the inverse.

    Writes ``image_data_split.json`` (images of other splits that it lists already are kept),
    ``name_att_rel_count.json`` (counted over all splits in the folder) and last ``refer_<split>.json``, each
    complete or not at all.

    Args:
        folder: Where to write, made if missing.
        split: Name of the split.
        tasks: Dicts with ``task_id, image_id, ann_ids, phrase, phrase_structure`` (``name, attributes,
            relation_ids, relation_descriptions, type``), ``instance_boxes`` (XYWH) and ``Polygons``: per
            instance a list of polygons, each a list of ``[x, y]``.
        images: Dicts with ``image_id, width, height, url, split``.

    Raises:
        UserError: If the records lack a field that the format has.
    """
    folder = Path(folder)
    plain_tasks, plain_images = [dict(task) for task in tasks], [dict(image) for image in images]
    check_tasks(plain_tasks, str(tasks_path(folder, split)))
    check_images(plain_images, str(folder / IMAGE_FILES[0]))
    known = read_images(folder) if (folder / IMAGE_FILES[0]).is_file() else {}
    known |= {image["image_id"]: image for image in plain_images}
    write_json(folder / IMAGE_FILES[0], [known[key] for key in sorted(known, key=sort_key)])
    written = [p.stem[len("refer_") :] for p in folder.glob("refer_*.json")]
    others = [task for other in written if other != split for task in read_tasks(folder, other)]
    write_json(folder / "name_att_rel_count.json", _counts([*others, *plain_tasks]))
    write_json(tasks_path(folder, split), plain_tasks)


def _counts(tasks: Sequence[dict[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """Count names, attributes and relation predicates over ``tasks``, the most frequent first."""
    structures = [task.get("phrase_structure") or {} for task in tasks]
    counters = {
        "cat": Counter(s["name"] for s in structures if "name" in s),
        "att": Counter(a for s in structures for a in s.get("attributes", ())),
        "rel": Counter(r[0] for s in structures for r in s.get("relation_descriptions", ())),
    }
    return {kind: counter.most_common() for kind, counter in counters.items()}


class PhraseCut(RISDataModule):
    """PhraseCut, one scene per image.

    Targets are drawn by the data set's own rule (vertices cut down to integers, outline included). A phrase
    may refer to several instances; its target is their union.

    Args:
        root: Folder with ``refer_<split>.json`` and ``image_data_split.json``, or its parent.
        split: ``train``, ``val``, ``miniv`` or ``test``.
        image_root: Folder of the images ``<image_id>.jpg``; None looks in the usual places below root.
        proposals: ``"ground_truth"`` (every instance that a phrase of the split names), the name of a
            generator, a generator, or None for none.
        limit: Evaluate only so many images.
        limit_seed: None takes the first ones, a number draws them with that seed.
        num_workers: Processes that read images and make proposals beside the main one.
        pin_memory: Page-lock what the workers hand over; pays off with a GPU.
        allow_missing_images: Count the expressions of missing images as failed, rather than refuse to start.
    """

    dataset_name = "phrasecut"
    partition = "official"

    def __init__(
        self,
        root: str | Path = "data/phrasecut",
        split: str = "test",
        image_root: str | Path | None = None,
        proposals: str | ProposalGenerator | None = None,
        limit: int | None = None,
        limit_seed: int | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        allow_missing_images: bool = False,
    ) -> None:
        super().__init__(
            split=split,
            image_root=image_root,
            proposals=proposals,
            rule="drawn",
            limit=limit,
            limit_seed=limit_seed,
            num_workers=num_workers,
            pin_memory=pin_memory,
            allow_missing_images=allow_missing_images,
        )
        self.root = Path(root).expanduser()

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split; see `read_split`."""
        return read_split(_find_folder(self.root), self.split, all_instances)

    def image_folders(self) -> list[Path]:
        """Return where the images are usually kept."""
        folder = _find_folder(self.root)
        return [folder / "images", self.root / "images", folder / "VG_100K", self.root / "VG_100K", folder]
