"""The check of one partition, from its files to a report."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from datamodules import phrasecut
from datamodules.base import RISDataModule
from datamodules.checking.counts import Counts, Published, compared, differences, read_counts
from datamodules.checking.own import SoundRows, own_overview
from datamodules.checking.problems import Problems
from datamodules.files import read_annotations
from datamodules.grefcoco import GRefCOCO
from datamodules.images import find_image_folder, image_path, read_image
from datamodules.own_folder import PARTITION, annotation_files
from datamodules.records import ImageRecord, MaskRule, Referent
from datamodules.refcoco import RefCOCO
from datamodules.refer import Instances
from gl_ris.errors import UserError, unknown_name
from gl_ris.processes import pool

_RECORDS_AT_ONCE = 64
OWN = "folder"  # a folder of one's own, as the option data calls it

Finding = tuple[str, str]  # kind of problem and example


@dataclass(frozen=True)
class Target:
    """One partition of one data set, to be checked."""

    name: str  # of the data set: of its folder
    folder: Path  # of its annotations
    format: str  # a key of `FORMATS`
    partition: str

    @property
    def published(self) -> Published | None:
        """What is published of it, or None."""
        return read_counts().get(self.name, {}).get(self.partition)


def find_targets(name: str, root: Path, split_by: Sequence[str] = ()) -> list[Target]:
    """Return the partitions that a name stands for, all without ``split_by``; `UserError` if there is none.

    A name is a known data set below ``root``, a folder of annotations, or a folder of such folders.
    """
    if name in read_counts():
        found, folder = _in_folder(root / name, name), root / name
        fix = f"Fetch it: python -m datamodules.download {name} --root={root}"
        absent = f"No annotations of {name} in '{folder}'. {fix}"
    elif (folder := root if name == OWN else Path(name).expanduser()).is_dir():
        found = _in_folder(folder, folder.resolve().name)
        for below in sorted(path for path in folder.iterdir() if path.is_dir()) if not found else ():
            found += _in_folder(below, below.name)
        absent = (
            f"'{folder}' holds neither refs(<split_by>).p nor grefs(<split_by>).json nor "
            "refer_<split>.json nor a CSV or JSONL file."
        )
    else:
        raise unknown_name("data set, and no folder", name, [*read_counts(), OWN])
    if not found:
        raise UserError(absent)
    there = [target.partition for target in found]
    for partition in split_by:
        if partition not in there:
            raise unknown_name(f"partition (--split-by) of {name}", partition, there)
    return [target for target in found if not split_by or target.partition in split_by]


def _in_folder(folder: Path, name: str) -> list[Target]:
    for kind in (RefCOCO, GRefCOCO):
        if there := kind.form.partitions(folder):
            return [Target(name, folder, kind.__name__, partition) for partition in there]
    places = (folder, folder / "VGPhraseCut_v0", folder / "data" / "VGPhraseCut_v0")
    if found := [Target(name, place, "PhraseCut", "official") for place in places if _phrase_splits(place)]:
        return found[:1]
    return [Target(name, folder, OWN, PARTITION)] if annotation_files(folder) else []


def _phrase_splits(folder: Path) -> list[str]:
    names = sorted(path.stem.removeprefix("refer_") for path in folder.glob("refer_*.json"))
    return [name for name in names if not name.startswith("input_")]  # files without targets


@dataclass(frozen=True)
class Options:
    """What a check is to look at."""

    splits: Sequence[str] = ()  # none for all
    images: str = "exists"  # or "none", "decode"
    image_root: Path | None = None  # None looks in the usual places
    masks: bool = True  # draw the targets
    tiny: int = 10  # targets with fewer pixels are noted
    workers: int = 0  # processes beside this one
    progress: bool = True  # show bars, on a terminal


@dataclass
class Report:
    """What was found in one partition."""

    target: Target
    splits: Counts = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)
    looked: list[str] = field(default_factory=list)  # what was looked at, a sentence for each split


def check(target: Target, options: Options) -> Report:
    """Check one partition; damaged files stand in the report, an unknown split is a `UserError`."""
    report = Report(target)
    try:
        found, images = FORMATS[target.format].overview(target, report.problems)
    except UserError as error:
        report.problems.add("file", str(error))
        return report
    for split in options.splits:
        if split not in found:
            raise unknown_name(f"split of {target.name} ({target.partition})", split, found)
    order = [*target.published.splits, *sorted(found)] if target.published else sorted(found)
    wanted = [split for split in dict.fromkeys(order) if split in (options.splits or found)]
    report.splits = compared({split: found[split] for split in wanted if split in found}, target.published)
    _compare(report, images, whole=not options.splits)
    for split in report.splits:
        _look_into(report, split, options)
    return report


def _compare(report: Report, images: Mapping[str, set[Any]], whole: bool) -> None:
    """Hold the counts against the published ones, and the splits against each other."""
    target, problems = report.target, report.problems
    known = target.published
    if known is None:
        problems.add("not compared", f"no counts are published of {target.name} ({target.partition})")
    else:
        for line in differences(report.splits, target.partition, known):
            problems.add("count", line)
        for split in known.splits if whole else ():
            if split not in report.splits:
                problems.add("split missing", f"{split} ({target.partition})")
    kind = "shared image" if known and known.by == "image" else "image in two splits"
    within = known.within if known else {}
    for first, second in itertools.combinations(sorted(images), 2):
        common = images[first] & images[second]
        if common and within.get(first) != second and within.get(second) != first:
            example = f"{len(common):,} images stand in {first} and {second}, e.g. {min(common, key=str)}"
            problems.add(kind, example, len(common))


def _look_into(report: Report, split: str, options: Options) -> None:
    """Look at every image and target of a split."""
    if options.images == "none" and not options.masks:
        return
    data = FORMATS[report.target.format].data(report.target, split, options.image_root)
    try:
        records = data.read_records(all_instances=False)
    except UserError as error:
        report.problems.add("file", str(error))
        return
    folder = None
    names = [record.file_name for record in records if _stays_inside(record.file_name)]
    if options.images != "none" and names:
        try:
            places = [] if options.image_root else data.image_folders()
            folder = find_image_folder(options.image_root, places, names, "--image-root")
        except UserError as error:
            report.problems.add("image missing", f"{split}: {error}", len(names))
    read = partial(read_image, upright=isinstance(data, SoundRows))
    look = partial(check_record, split=split, options=options, folder=folder, rule=data.rule, read=read)
    for kind, example in itertools.chain(*_each(look, records, f"checking {split}", options)):
        report.problems.add(kind, example)
    words = {"exists": "looked for", "decode": "decoded"}
    looked = (
        f"{len(records):,} images {words[options.images]} in {folder}" if folder else "no image looked at"
    )
    masks = sum(r.targeted for record in records for r in record.referents) if options.masks else 0
    report.looked.append(f"{split}: {looked}, {masks:,} masks drawn")


def _each(look: partial[list[Finding]], records: list[ImageRecord], title: str, options: Options) -> Any:
    bar = partial(
        tqdm, total=len(records), desc=title, unit="image", disable=None if options.progress else True
    )
    if options.workers == 0 or len(records) <= _RECORDS_AT_ONCE:
        return list(bar(map(look, records)))
    # A fresh process each: one forked from a process that has used torch's threads may hang.
    with pool(options.workers, "spawn") as workers:
        return list(bar(workers.map(look, records, chunksize=_RECORDS_AT_ONCE)))


def check_record(
    record: ImageRecord,
    split: str,
    options: Options,
    folder: Path | None,
    rule: MaskRule,
    read: Callable[..., Any] = read_image,
) -> list[Finding]:
    """Check one image: its file, unless the folder of all was not found, its targets, its sentences."""
    where = f"{split}, image {record.image_id}"
    found = list(_image(record, where, options.images, folder, read))
    for referent in record.referents:
        place = f"{where}, ref {referent.ref_id}"
        found += [("sentence empty", f"{place}: {text!r}") for text in referent.sentences if not text.strip()]
        if options.masks and referent.targeted:
            found += _mask(record, referent, place, options.tiny, rule)
    return found


def _stays_inside(file_name: str) -> bool:
    try:
        image_path(Path("images"), file_name)
    except UserError:
        return False
    return True


def _image(
    record: ImageRecord, where: str, how: str, folder: Path | None, read: Callable[..., Any]
) -> Iterator[Finding]:
    if how != "none" and not _stays_inside(record.file_name):
        yield "image name", f"{where}: {record.file_name!r:.200}"
    elif how != "none" and folder is not None:
        path = image_path(folder, record.file_name)
        if not path.is_file():
            yield "image missing", f"{where}: {path}"
        elif how == "decode":
            try:
                read(path, record.height, record.width)
            except ValueError as error:
                yield "image unreadable", f"{where}: {path}: {error}"


def _mask(
    record: ImageRecord, referent: Referent, place: str, tiny: int, rule: MaskRule
) -> Iterator[Finding]:
    try:
        mask = referent.mask(record.height, record.width, rule)
    except ValueError as error:
        yield "mask faulty", f"{place}: {error}"
        return
    area = int(mask.sum())
    if area == 0:
        yield "mask empty", place
    elif area == record.height * record.width:
        yield "mask full", place
    elif area < tiny:
        yield "mask tiny", f"{place}: {area} pixels"
    points = [p.reshape(-1, 2) for s in referent.segmentations for p in s.opened().polygons if len(p)]
    if points:  # by how many pixels the farthest vertex lies outside of the image
        xy = np.concatenate(points)
        beyond = float(max((-xy).max(), (xy - [record.width, record.height]).max()))
        if beyond > 1:
            yield "mask leaves image", f"{place}: by {beyond:.1f} pixels"


# counts by split and what is counted, and ids of images by split, as the files of a partition say
Overview = tuple[dict[str, dict[str, int]], dict[str, set[Any]]]


@dataclass(frozen=True)
class Format:
    """How one file format is read."""

    overview: Callable[[Target, Problems], Overview]  # also adds what is wrong with ids
    data: Callable[[Target, str, Path | None], RISDataModule]  # a split, given the folder of its images


def _refer_overview(kind: type[RefCOCO], target: Target, problems: Problems) -> Overview:
    refs = kind.form.load(kind.form.require(target.folder, target.partition))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    images: dict[str, set[Any]] = defaultdict(set)
    for ref in refs:
        counts[ref.split].update(refs=1, sentences=len(ref.sentences))
        images[ref.split].add(ref.image_id)
        if not ref.sentences:
            problems.add("ref without sentences", f"{ref.split}, ref {ref.ref_id}")
    _duplicates(problems, "ref_id", (ref.ref_id for ref in refs))
    _duplicates(problems, "sent_id", (s.sent_id for ref in refs for s in ref.sentences))
    instances = read_annotations(target.folder / "instances.json", Instances)
    for name in ("images", "annotations", "categories"):
        ids = (item.id for item in getattr(instances, name))
        _duplicates(problems, f"id of {name} in instances.json", ids)
    return {
        split: {"refs": found["refs"], "images": len(images[split]), "sentences": found["sentences"]}
        for split, found in counts.items()
    }, images


def _phrase_overview(target: Target, problems: Problems) -> Overview:
    within = target.published.within if target.published else {}
    tasks = {split: phrasecut.read_tasks(target.folder, split) for split in _phrase_splits(target.folder)}
    ids = {split: [task.task_id for task in found] for split, found in tasks.items()}
    images = {split: {task.image_id for task in found} for split, found in tasks.items()}
    refs = {split: len(own) for split, own in ids.items()}
    for part, split in within.items():
        # whether or not the file of the whole holds the part, too
        if part in ids and split in ids:
            refs[split] += len(set(ids[part]) - set(ids[split]))
            images[split] |= images[part]
    _duplicates(problems, "task_id", (i for split, own in ids.items() if split not in within for i in own))
    return {split: {"refs": refs[split], "images": len(images[split])} for split in tasks}, images


def _duplicates(problems: Problems, what: str, ids: Iterable[Any]) -> None:
    for value, count in Counter(ids).items():
        if count > 1:
            problems.add("duplicate id", f"{what} {value!r}: {count} times")


def _refer(kind: type[RefCOCO]) -> Format:
    def data(target: Target, split: str, images: Path | None) -> RISDataModule:
        folder = target.folder.absolute()
        return kind(folder.parent, folder.name, target.partition, split, image_root=images)

    return Format(partial(_refer_overview, kind), data)


FORMATS: dict[str, Format] = {
    "RefCOCO": _refer(RefCOCO),
    "GRefCOCO": _refer(GRefCOCO),
    "PhraseCut": Format(
        _phrase_overview,
        lambda target, split, images: phrasecut.PhraseCut(target.folder, split, image_root=images),
    ),
    OWN: Format(
        lambda target, problems: own_overview(target.folder, problems),
        lambda target, split, images: SoundRows(target.folder, split=split, image_root=images),
    ),
}


def count_problems(name: str, root: Path) -> list[str]:
    """Check counts and ids alone, of every partition that is there; return what is wrong, in words."""
    options = Options(images="none", masks=False, progress=False)
    found = [check(target, options).problems for target in find_targets(name, root)]
    failed = [problems for problems in found if problems.failed()]
    return [line for problems in failed for kind, _ in problems.ordered() for line in problems.examples[kind]]
