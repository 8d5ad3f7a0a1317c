"""PhraseCut: phrases that may refer to several instances, on images of Visual Genome."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base import RISDataModule
from datamodules.checks import KEY, require_fields, require_size
from datamodules.coco import coco_class, coco_names
from datamodules.files import clean_text, read_json
from datamodules.records import ImageRecord, Key, Referent, Segmentation, sort_key
from datamodules.visual_genome import PARTS, in_parts
from gl_ris.errors import UserError, unknown_name

IMAGE_FILES = ("image_data_split.json", "image_data_split3000.json")
"""Names under which the list of images has been published."""

_FILE_NAME = re.compile(r"[\w.+-]{1,200}", re.ASCII)

Subsets = Mapping[str, Callable[[dict[str, Any]], bool]]
"""By name of a subset, what says whether a phrase of a known category is in it."""

log = logging.getLogger(__name__)


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
        f"No refer_<split>.json of PhraseCut; looked in {tried}. Set root to the folder that holds "
        "them; 'python -m datamodules.download phrasecut' fetches them."
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
            return _by_id(images, str(folder / name))
    raise UserError(f"No {' or '.join(IMAGE_FILES)} in '{folder}': it gives the size of each image.")


def _by_id(images: Sequence[dict[str, Any]], where: str) -> dict[Key, dict[str, Any]]:
    found: dict[Key, dict[str, Any]] = {}
    for image in images:
        other = found.setdefault(image["image_id"], image)
        if (other["width"], other["height"]) != (image["width"], image["height"]):
            raise UserError(
                f"'{where}' gives image {image['image_id']!r:.60} two sizes. Fetch the file anew."
            )
    return found


def check_images(images: Any, where: str) -> None:
    """Check that ``images`` has the shape of PhraseCut's list of images.

    Raises:
        UserError: Naming the first image and field at fault.
    """
    for number, image in enumerate(images):
        place = f"'{where}': image {number}"
        require_fields(image, place, image_id=KEY)
        if not _FILE_NAME.fullmatch(str(image["image_id"])):
            raise UserError(f"{place}: its image_id {image['image_id']!r:.60} cannot name a file.")
        require_size(image, place)


def read_split(
    folder: Path, split: str, all_instances: bool = False, subsets: Subsets | None = None
) -> list[ImageRecord]:
    """Read one split, grouped by image; ref and sentence id of a phrase are its task id.

    Args:
        folder: Folder that holds ``refer_<split>.json``.
        split: ``train``, ``val``, ``miniv`` or ``test``, or several joined by underscores: the published val
            file leaves out the images of miniv, and ``val_miniv`` is the whole. A task that several files
            have is read once.
        all_instances: Also keep every instance that some phrase of the split names, without repeats, to
            serve as ground-truth proposals.
        subsets: What says which subsets a phrase is in. One whose category the file does not tell is in none,
            and there is a warning.

    Returns:
        One record per image, ordered by image id, its phrases ordered by task id.

    Raises:
        UserError: If a file is missing, damaged or without a phrase, or a task is about an image that is not
            listed.
    """
    tasks = _joined(folder, split)
    images = read_images(folder)
    by_image: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for task in tasks:
        if task["image_id"] not in images:
            raise UserError(
                f"A task of split '{split}' in '{folder}' is about image {task['image_id']!r:.60}, which is "
                f"not in the list of images ({IMAGE_FILES[0]}). Use both files of one download."
            )
        by_image[task["image_id"]].append(task)
    if subsets:
        _warn_of_unknown(tasks)
    del tasks
    return [
        _record(images[image_id], by_image[image_id], all_instances, subsets or {})
        for image_id in sorted(by_image, key=sort_key)
    ]


def _joined(folder: Path, split: str) -> list[dict[str, Any]]:
    """Read the tasks of a split, or of several joined by underscores."""
    tasks: list[dict[str, Any]] = []
    known: set[Key] = set()
    for part in [split] if tasks_path(folder, split).is_file() else split.split("_"):
        found = read_tasks(folder, part)
        if not found:
            raise UserError(f"'{tasks_path(folder, part)}' has no phrase. Fetch the file anew.")
        ids = {task["task_id"] for task in found}
        if len(ids) < len(found):
            log.warning(
                "'%s' uses %d task ids again: records tell these phrases apart by their text alone.",
                tasks_path(folder, part),
                len(found) - len(ids),
            )
        tasks += [task for task in found if task["task_id"] not in known]
        known |= ids
    return tasks


def _warn_of_unknown(tasks: Sequence[dict[str, Any]]) -> None:
    unknown = sum(not category_of(task) for task in tasks)
    if unknown:
        log.warning("%d of %d phrases have no category: they are in no subset.", unknown, len(tasks))


def category_of(task: Mapping[str, Any]) -> str | None:
    """Return the name of what a phrase is about, or None if the file does not tell.

    All instances of a phrase have the one category of its structure, so that this is also the name of its
    first instance, by which the published evaluation goes.
    """
    return (task.get("phrase_structure") or {}).get("name") or None


def _record(
    image: dict[str, Any], tasks: Sequence[dict[str, Any]], all_instances: bool, subsets: Subsets
) -> ImageRecord:
    ordered = sorted(tasks, key=lambda task: sort_key(task["task_id"]))
    referents = tuple(_referent(task, subsets) for task in ordered)
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


def _referent(task: dict[str, Any], subsets: Subsets) -> Referent:
    category = category_of(task)
    return Referent(
        task["task_id"],
        tuple(Segmentation.from_points(instance) for instance in task["Polygons"]),
        (clean_text(task["phrase"]),),
        (task["task_id"],),
        category,
        tuple(name for name, holds in subsets.items() if category and holds(task)),
    )


class PhraseCut(RISDataModule):
    """PhraseCut, one scene per image.

    Targets are drawn by the data set's own rule (vertices cut down to integers, outline included). A phrase
    may refer to several instances; its target is their union. Ground-truth proposals are the instances that
    the phrases of the split name. Images are ``<image_id>.jpg``, in one folder or in Visual Genome's own two,
    ``VG_100K`` and ``VG_100K_2``.

    Results are also given for the phrases about unseen categories, by two definitions: ``unseen_names``,
    those whose category is not literally one of COCO's 80 names, as in the published evaluation ("man" and
    "table" are unseen), and ``unseen_synonyms``, those whose category is no word for any of COCO's classes
    by ``coco_names.yaml``. ``recipe.unseen`` says which of them tables call "Unseen".

    Args:
        root: Folder with ``refer_<split>.json`` and ``image_data_split.json``, or its parent.
        split: ``train``, ``val``, ``miniv`` or ``test``; ``val_miniv`` is all of val, of which the published
            val file leaves out what is in miniv.
        options: Those of `RISDataModule`.
    """

    dataset_name = "phrasecut"
    partition = "official"
    subsets: ClassVar[Subsets] = {
        "unseen_names": lambda task: category_of(task) not in coco_names(),
        "unseen_synonyms": lambda task: coco_class(category_of(task) or "") is None,
    }

    def __init__(
        self,
        root: str | Path = "data/phrasecut",
        split: str = "test",
        **options: Any,
    ) -> None:
        super().__init__(
            split=split,
            rule="drawn",
            **options,
        )
        self.root = Path(root).expanduser()
        self.subset_names = tuple(self.subsets)

    def require_files(self) -> None:
        """Check that there is a folder of PhraseCut.

        Raises:
            UserError: If there is none.
        """
        _find_folder(self.root)

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split; see `read_split`."""
        records = read_split(_find_folder(self.root), self.split, all_instances, self.subsets)
        return in_parts(records, [self.image_root] if self.image_root else self.image_folders())

    def image_folders(self) -> list[Path]:
        """Return where the images are usually kept."""
        folder = _find_folder(self.root)
        bases = [folder / "images", self.root / "images", folder, self.root]
        return [*bases, *(base / PARTS[0] for base in bases)]
