"""What the two file formats give to check: counts, ids, records, places of images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules import phrasecut, refer
from datamodules.checking.counts import KINDS, Found
from datamodules.checking.problems import Problems
from datamodules.checking.targets import Target, phrase_splits
from datamodules.records import ImageRecord, MaskRule


@dataclass(frozen=True)
class Overview:
    """What a partition holds, as its files say.

    Attributes:
        splits: Counts by split.
        kinds: What is counted.
        images: Ids of the images of each split.
    """

    splits: dict[str, Found]
    kinds: tuple[str, ...]
    images: dict[str, set[Any]]


@dataclass(frozen=True)
class Format:
    """How one file format is read.

    Attributes:
        overview: Count a partition, and add what is wrong with its ids.
        records: Read one split.
        folders: Where its images usually are.
        rule: How its polygons become masks.
    """

    overview: Callable[[Target, Problems], Overview]
    records: Callable[[Target, str], list[ImageRecord]]
    folders: Callable[[Target], list[Path]]
    rule: MaskRule


def _refer_overview(target: Target, problems: Problems) -> Overview:
    refs = refer.load_refs(refer.require_partition(target.folder, target.partition))
    splits: dict[str, Found] = defaultdict(Found)
    images: dict[str, set[Any]] = defaultdict(set)
    for ref in refs:
        found = splits[ref.split]
        found.refs += 1
        found.sentences += len(ref.sentences)
        images[ref.split].add(ref.image_id)
        if not ref.sentences:
            problems.add("ref without sentences", f"{ref.split}, ref {ref.ref_id}")
    for split, ids in images.items():
        splits[split].images = len(ids)
    _duplicates(problems, "ref_id", (ref.ref_id for ref in refs))
    _duplicates(problems, "sent_id", (s.sent_id for ref in refs for s in ref.sentences))
    instances = refer.load_instances(target.folder / "instances.json")
    for kind in ("images", "annotations", "categories"):
        items = getattr(instances, kind)
        _duplicates(problems, f"id of {kind} in instances.json", (item.id for item in items))
    return Overview(dict(splits), KINDS, dict(images))


def _phrase_overview(target: Target, problems: Problems) -> Overview:
    within = target.published.within if target.published else {}
    found = {split: phrasecut.read_tasks(target.folder, split) for split in phrase_splits(target.folder)}
    ids = {split: [task.task_id for task in tasks] for split, tasks in found.items()}
    images = {split: {task.image_id for task in tasks} for split, tasks in found.items()}
    whole = {split: list(own) for split, own in ids.items()}
    for part, split in within.items():
        if part in found and split in found:
            whole[split] += set(ids[part]) - set(ids[split])
            images[split] |= images[part]
    splits = {split: Found(len(whole[split]), len(images[split]), len(whole[split])) for split in found}
    _duplicates(
        problems, "task_id", (key for split, own in ids.items() if split not in within for key in own)
    )
    return Overview(splits, KINDS[:2], images)


def _duplicates(problems: Problems, what: str, ids: Iterable[Any]) -> None:
    for value, count in Counter(ids).items():
        if count > 1:
            problems.add("duplicate id", f"{what} {value!r}: {count} times")


def shared(images: Mapping[str, set[Any]], within: Mapping[str, str]) -> Iterator[tuple[str, str, set[Any]]]:
    """Yield pairs of splits with the images they share; a split inside another one is no such pair."""
    names = sorted(images)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            common = images[first] & images[second]
            if common and within.get(first) != second and within.get(second) != first:
                yield first, second, common


def _refer_folders(target: Target) -> list[Path]:
    from datamodules.refcoco import RefCOCO

    root = target.folder.absolute().parent
    return RefCOCO(root=root, dataset=target.folder.absolute().name).image_folders()


def _phrase_folders(target: Target) -> list[Path]:
    return phrasecut.PhraseCut(root=target.folder).image_folders()


FORMATS: dict[str, Format] = {
    "refer": Format(
        _refer_overview,
        lambda target, split: list(refer.read_split(target.folder, target.partition, split)),
        _refer_folders,
        "union",
    ),
    "phrasecut": Format(
        _phrase_overview,
        lambda target, split: phrasecut.read_split(target.folder, split),
        _phrase_folders,
        "drawn",
    ),
}
