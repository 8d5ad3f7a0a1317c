"""The check of one partition, from its files to a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.checking.counts import KINDS, Found, differences
from datamodules.checking.formats import FORMATS, Overview, shared
from datamodules.checking.problems import Problems
from datamodules.checking.records import Depth, check_records, stays_inside
from datamodules.checking.targets import Target, find_targets
from datamodules.images import find_image_folder
from gl_ris.errors import UserError, unknown_name


@dataclass(frozen=True)
class Wishes:
    """What a check is to look at.

    Attributes:
        splits: Splits to look into; none for all.
        images: ``none``, ``exists`` or ``decode``.
        image_root: Folder of the images; None looks in the usual places.
        masks: Whether to draw the targets.
        tiny: A target with fewer pixels than this is told.
        workers: Processes beside this one.
        progress: Show bars, on a terminal.
    """

    splits: Sequence[str] = ()
    images: str = "exists"
    image_root: Path | None = None
    masks: bool = True
    tiny: int = 10
    workers: int = 0
    progress: bool = True


@dataclass
class Report:
    """What was found in one partition.

    Attributes:
        target: What was checked.
        found: Counts by split.
        kinds: What is counted.
        problems: What is wrong.
        looked: How many images were looked at, and how thoroughly.
    """

    target: Target
    found: dict[str, Found] = field(default_factory=dict)
    kinds: tuple[str, ...] = KINDS
    problems: Problems = field(default_factory=Problems)
    looked: dict[str, object] = field(default_factory=dict)


def check(target: Target, wishes: Wishes) -> Report:
    """Check one partition; damaged files are told in the report like everything else.

    Raises:
        UserError: If a wanted split is not there.
    """
    report = Report(target)
    try:
        overview = FORMATS[target.format].overview(target, report.problems)
    except UserError as error:
        report.problems.add("file", str(error))
        return report
    for split in wishes.splits:
        if split not in overview.splits:
            raise unknown_name(f"split of {target.name} ({target.partition})", split, overview.splits)
    splits = wishes.splits or list(overview.splits)
    report.found = {split: overview.splits[split] for split in _in_order(target, splits)}
    report.kinds = overview.kinds
    _compare(report, overview, whole=not wishes.splits)
    for split in report.found:
        _look_into(report, split, wishes)
    return report


def _in_order(target: Target, splits: Sequence[str]) -> list[str]:
    """Put splits into the order of the published table, others behind."""
    known = list(target.published.splits) if target.published else []
    return sorted(splits, key=lambda split: (known.index(split) if split in known else len(known), split))


def _compare(report: Report, overview: Overview, whole: bool) -> None:
    """Hold the counts against the published ones, and the splits against each other."""
    known, target = report.target.published, report.target
    if known is None:
        report.problems.add("not compared", f"no counts are published of {target.name} ({target.partition})")
    else:
        report.problems.extend(("count", line) for line in differences(report.found, target.partition, known))
        for split in known.splits if whole else ():
            if split not in report.found:
                report.problems.add("split missing", f"{split} ({target.partition})")
    kind = "shared image" if known and known.by == "image" else "image in two splits"
    for first, second, common in shared(overview.images, known.within if known else {}):
        example = f"{len(common):,} images stand in {first} and {second}, e.g. {min(common, key=str)}"
        report.problems.add(kind, example, len(common))


def _look_into(report: Report, split: str, wishes: Wishes) -> None:
    """Look at every image and target of a split."""
    if wishes.images == "none" and not wishes.masks:
        return
    reader = FORMATS[report.target.format]
    try:
        records = reader.records(report.target, split)
    except UserError as error:
        report.problems.add("file", str(error))
        return
    folder = None
    names = [record.file_name for record in records if stays_inside(record.file_name)]
    if wishes.images != "none" and names:
        try:
            places = [] if wishes.image_root else reader.folders(report.target)
            folder = find_image_folder(wishes.image_root, places, names)
        except UserError as error:
            report.problems.add("image missing", f"{split}: {error}", len(names))
    depth = Depth(wishes.images, folder, wishes.masks, wishes.tiny, reader.rule)
    report.problems.extend(check_records(records, split, depth, wishes.workers, wishes.progress))
    report.looked[split] = {
        "images": len(records) if folder else 0,
        "how": wishes.images,
        "folder": folder,
        "masks": sum(len(record.referents) for record in records) if wishes.masks else 0,
    }


def count_problems(name: str, root: Path) -> list[str]:
    """Check counts and ids alone, of every partition that is there.

    Returns:
        What is wrong, in words; nothing if all is well.
    """
    wishes = Wishes(images="none", masks=False, progress=False)
    reports = [check(target, wishes) for target in find_targets(name, root)]
    failed = [report.problems for report in reports if report.problems.failed()]
    return [line for problems in failed for kind in problems.ordered() for line in problems.examples[kind]]
