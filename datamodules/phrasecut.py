"""PhraseCut: phrases that may refer to several instances, on images of Visual Genome."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from datamodules.base import RISDataModule
from datamodules.files import FETCH_AGAIN, Id, Sized, clean_text, compact_json, read_annotations, write_bytes
from datamodules.records import ImageRecord, Key, Referent, Segmentation, sort_key
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import read_table

# names under which the list of images has been published
IMAGE_FILES = ("image_data_split.json", "image_data_split3000.json")
# the folders that the two published archives of Visual Genome's images unpack to
PARTS = ("VG_100K", "VG_100K_2")
# COCO's classes, and what else their objects are called
NAMES_FILE = Path(__file__).with_name("coco_names.yaml")
# ending of a name, and of its plural
_ENDINGS = ((r"(?<=[^aeiou])y$", "ies"), (r"fe$", "ves"), (r"(?<=s|x|z)$", "es"), (r"(?<=ch|sh)$", "es"))

_FILE_NAME = re.compile(r"[\w.+-]{1,200}", re.ASCII)

log = logging.getLogger(__name__)


class Structure(msgspec.Struct):
    """What a phrase is made of: the name of a category, and attributes."""

    name: str = ""
    attributes: Any = ()


class Task(msgspec.Struct):
    """A phrase of an image with the polygons of its instances; they stay JSON until a mask is asked for."""

    task_id: Id
    image_id: Id
    phrase: str
    # None, as it is in no file that is whole, is a fault of the phrase
    instances: list[msgspec.Raw] | None = msgspec.field(name="Polygons", default=None)
    structure: Structure | None = msgspec.field(name="phrase_structure", default=None)

    # All instances of a phrase have the one category of its structure, so that this is also the name of its
    # first instance, by which the published evaluation goes.
    @property
    def category(self) -> str | None:
        """Name of what the phrase is about, or None if the file does not tell."""
        return (self.structure and self.structure.name) or None

    @property
    def attributes(self) -> Any:
        """Attributes that the phrase names, as the file has them."""
        return self.structure.attributes if self.structure else ()


class Image(Sized):
    """An image of Visual Genome; its file is named by its id."""

    image_id: Id

    def __post_init__(self) -> None:
        """Refuse an id that is no name of a file."""
        super().__post_init__()
        if not _FILE_NAME.fullmatch(str(self.image_id)):
            raise ValueError(f"its image_id {self.image_id!r:.60} cannot name a file")


# by name of a subset, what says whether a phrase of a known category is in it
Subsets = Mapping[str, Callable[[Task], bool]]


def _tasks_path(folder: Path, split: str) -> Path:
    return folder / f"refer_{split}.json"


def _find_folder(root: Path) -> Path:
    candidates = [root, root / "VGPhraseCut_v0", root / "data" / "VGPhraseCut_v0", root / "phrasecut"]
    for folder in candidates:
        if any(folder.glob("refer_*.json")):
            return folder
    tried = ", ".join(f"'{folder}'" for folder in candidates)
    raise UserError(
        f"No refer_<split>.json of PhraseCut; looked in {tried}. Give the folder that holds them by "
        "data.root=FOLDER; 'python -m datamodules.download phrasecut' fetches them."
    )


def read_tasks(folder: Path, split: str) -> list[Task]:
    """Read the tasks of one split; `UserError` if it is not there or its file is damaged."""
    path = _tasks_path(folder, split)
    if not path.is_file():
        present = [p.stem[len("refer_") :] for p in folder.glob("refer_*.json")]
        raise unknown_name("split of PhraseCut", split, present)
    return read_annotations(path, list[Task])


def _read_images(folder: Path) -> dict[Key, Image]:
    path = next((folder / name for name in IMAGE_FILES if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"No {' or '.join(IMAGE_FILES)} in '{folder}': it gives the size of each image.")
    found: dict[Key, Image] = {}
    for image in read_annotations(path, list[Image]):
        if found.setdefault(image.image_id, image) != image:
            raise UserError(f"'{path}' gives image {image.image_id!r:.60} two sizes. {FETCH_AGAIN}")
    return found


def read_split(
    folder: Path, split: str, all_instances: bool = False, subsets: Subsets | None = None
) -> list[ImageRecord]:
    """Read one split, one record per image, by image id and task id, which is both ref and sentence id.

    Several splits may be joined by underscores: the published val file leaves out the images of miniv, and
    ``val_miniv`` is the whole; a task that several files have is read once. ``all_instances`` keeps every
    instance that some phrase of the split names, without repeats, to serve as ground-truth proposals. A
    phrase whose category the file does not tell is in no subset, and there is a warning. `UserError` if a
    file is missing, damaged or without a phrase, or a task is about an image that is not listed.
    """
    tasks = _joined(folder, split)
    images = _read_images(folder)
    by_image: dict[Key, list[Task]] = defaultdict(list)
    for task in tasks:
        if task.image_id not in images:
            raise UserError(
                f"A task of split '{split}' in '{folder}' is about image {task.image_id!r:.60}, which is "
                f"not in the list of images ({IMAGE_FILES[0]}). Use both files of one download."
            )
        by_image[task.image_id].append(task)
    if subsets and (unknown := sum(not task.category for task in tasks)):
        log.warning("%d of %d phrases have no category: they are in no subset.", unknown, len(tasks))
    return [
        _record(images[image_id], by_image[image_id], all_instances, subsets or {})
        for image_id in sorted(by_image, key=sort_key)
    ]


def _parts(folder: Path, split: str) -> list[str]:
    return [split] if _tasks_path(folder, split).is_file() else split.split("_")


def _joined(folder: Path, split: str) -> list[Task]:
    tasks: list[Task] = []
    known: set[Key] = set()
    for part in _parts(folder, split):
        found, path = read_tasks(folder, part), _tasks_path(folder, part)
        if not found:
            raise UserError(f"'{path}' has no phrase. {FETCH_AGAIN}")
        ids = {task.task_id for task in found}
        if repeated := len(found) - len(ids):
            what = "task ids again: records tell these phrases apart by their text alone"
            log.warning("'%s' uses %d %s.", path, repeated, what)
        tasks += [task for task in found if task.task_id not in known]
        known |= ids
    return tasks


def _record(image: Image, tasks: Sequence[Task], all_instances: bool, subsets: Subsets) -> ImageRecord:
    ordered = sorted(tasks, key=lambda task: sort_key(task.task_id))
    instances = [raw for task in ordered for raw in task.instances or ()] if all_instances else []
    # one instance has the same text in every phrase that names it
    distinct = {bytes(raw): Segmentation(json=raw, points=True) for raw in instances}
    return ImageRecord(
        image.image_id,
        f"{image.image_id}.jpg",
        image.height,
        image.width,
        tuple(_referent(task, subsets) for task in ordered),
        instances=tuple(distinct.values()),
    )


def _referent(task: Task, subsets: Subsets) -> Referent:
    return Referent(
        task.task_id,
        tuple(Segmentation(json=raw, points=True) for raw in task.instances)
        if task.instances is not None
        else (Segmentation(fault="the phrase has no polygons"),),
        (clean_text(task.phrase),),
        (task.task_id,),
        task.category,
        tuple(name for name, holds in subsets.items() if task.category and holds(task)),
    )


def write_phrasecut(
    folder: Path | str, split: str, tasks: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]
) -> None:
    """Write one split in the format of PhraseCut; `read_split` is the inverse.

    Writes ``image_data_split.json`` (images of other splits that it lists already are kept) and then
    ``refer_<split>.json``, each complete or not at all; `UserError` if the records lack a field.

    Tasks are dicts with ``task_id, image_id, ann_ids, phrase, phrase_structure`` (``name, attributes,
    relation_ids, relation_descriptions, type``), ``instance_boxes`` (XYWH) and ``Polygons``: per instance a
    list of polygons, each a list of ``[x, y]``. Images have ``image_id, width, height, url, split``.
    """
    listed, own = Path(folder) / IMAGE_FILES[0], _tasks_path(Path(folder), split)
    written = compact_json([dict(task) for task in tasks], list[Task], f"'{own}'")
    before = read_annotations(listed, list[dict[str, Any]]) if listed.is_file() else []
    known = {image["image_id"]: image for image in (*before, *images)}
    ordered = [dict(known[key]) for key in sorted(known, key=sort_key)]
    write_bytes(listed, compact_json(ordered, list[Image], f"'{listed}'"))
    write_bytes(own, written)


def coco_names() -> Mapping[str, list[str]]:
    """Return the 80 names of COCO's classes, each with its synonyms."""
    names: Mapping[str, list[str]] = read_table(NAMES_FILE)["classes"]
    return names


def coco_class(name: str) -> str | None:
    """Return the class of COCO whose objects a name stands for, or None.

    A name stands for a class if it is the class's own name, one of its synonyms, or the plural of either.
    Case does not count, and hyphens, underscores and runs of blanks are one blank.

    Example:
        >>> [coco_class(name) for name in ("tv", "Women", "bikes", "glass")]
        ['tv', 'person', 'bicycle', None]
    """
    return _lookup().get(" ".join(re.sub(r"[-_]", " ", name).lower().split()))


def plural(name: str) -> str:
    """Return the regular plural of a name (of its last word, or that before "of"); the file lists others.

    Example:
        >>> [plural(name) for name in ("pony", "toy bus", "wine glass", "knife", "slice of pizza")]
        ['ponies', 'toy buses', 'wine glasses', 'knives', 'slices of pizza']
    """
    head, of, rest = name.partition(" of ")
    for ending, plural_ending in _ENDINGS:
        if re.search(ending, head):
            return re.sub(ending, plural_ending, head) + of + rest
    return f"{head}s{of}{rest}"


@functools.cache
def _lookup() -> dict[str, str]:
    # what stands later wins, so that the classes' own names come last
    words = [(synonym, name) for name, synonyms in coco_names().items() for synonym in synonyms]
    with_plurals = [pair for word, name in words for pair in ((plural(word), name), (word, name))]
    plurals = [(plural(name), name) for name in coco_names()]
    return dict([*with_plurals, *plurals, *((name, name) for name in coco_names())])


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
        "unseen_names": lambda task: task.category not in coco_names(),
        "unseen_synonyms": lambda task: coco_class(task.category or "") is None,
    }

    def __init__(self, root: str | Path = "data/phrasecut", split: str = "test", **options: Any) -> None:
        super().__init__(split=split, rule="drawn", **options)
        self.root = Path(root).expanduser()
        self.subset_names = tuple(self.subsets)

    def require_files(self) -> None:
        """Check that there is a folder of PhraseCut; `UserError` if there is none."""
        _find_folder(self.root)

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split; see `read_split`."""
        records = read_split(_find_folder(self.root), self.split, all_instances, self.subsets)
        # the part of Visual Genome that holds an image goes in front of its name, where there are parts
        for folder in [self.image_root] if self.image_root else self.image_folders():
            if all((folder / part).is_dir() for part in PARTS):
                found = {name: f"{part}/{name}" for part in PARTS for name in os.listdir(folder / part)}
                return [replace(r, file_name=found.get(r.file_name, r.file_name)) for r in records]
        return records

    def input_files(self) -> dict[str, Path]:
        """Return the phrases of the split and the list of images."""
        folder = _find_folder(self.root)
        files = [_tasks_path(folder, part) for part in _parts(folder, self.split)]
        return {
            path.name: path for path in (*files, *(folder / name for name in IMAGE_FILES)) if path.is_file()
        }

    def image_folders(self) -> list[Path]:
        """Return where the images are usually kept."""
        folder = _find_folder(self.root)
        bases = [folder / "images", self.root / "images", folder, self.root]
        return [*bases, *(base / PARTS[0] for base in bases)]
