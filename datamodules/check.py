"""Check data sets: ``python -m datamodules.check refcoco``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gl_ris.command_line import Arguments, leave, show
from gl_ris.errors import UserError
from gl_ris.files import read_table

if TYPE_CHECKING:
    from datamodules.checking.run import Report

_DESCRIPTION, _EXAMPLES = read_table(Path(__file__).with_name("commands.yaml"))["check"].values()


def parser() -> Arguments:
    """Make the parser of the command."""
    made = Arguments("python -m datamodules.check", _DESCRIPTION, _EXAMPLES)
    add = made.add_argument
    add("names", nargs="*", metavar="NAME", help="data sets or folders")
    add("--root", type=Path, default=Path("data"), help="folder that has a folder per data set [data]")
    add("--split-by", default="", metavar="PARTITION,...", help="partitions, e.g. umd [all there]")
    add("--split", default="", metavar="SPLIT,...", help="splits, e.g. val,testA [all there]")
    add("--image-root", type=Path, help="folder of the images [the usual places]")
    add("--images", choices=["none", "exists", "decode"], default="exists", help="how to look [exists]")
    add("--no-masks", action="store_true", help="do not draw the targets")
    add("--tiny", type=int, default=10, metavar="PIXELS", help="tell targets smaller than this [10]")
    add("--workers", type=int, default=0, help="processes for images and masks [0: none beside this]")
    add("--strict", action="store_true", help="notes fail the check, too")
    add("--quiet", action="store_true", help="no progress bars")
    return made


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command; wrong usage is a `UserError`, wrong data are exit code 1."""
    arguments = parser().read(sys.argv[1:] if tokens is None else tokens)
    if not arguments.names:
        raise UserError("Say what to check, e.g. refcoco or a folder; --help lists the names.")
    if arguments.workers < 0 or arguments.tiny < 0:
        raise UserError("--workers and --tiny must be 0 or more.")
    from datamodules.checking.counts import read_counts
    from datamodules.checking.run import Options, check, find_targets

    root, split_by = arguments.root.expanduser(), _listed(arguments.split_by)
    targets = [target for name in arguments.names for target in find_targets(name, root, split_by)]
    options = Options(
        splits=_listed(arguments.split),
        images=arguments.images,
        image_root=arguments.image_root,
        masks=not arguments.no_masks,
        tiny=arguments.tiny,
        workers=arguments.workers,
        progress=not arguments.quiet,
    )
    failed = False
    for target in targets:
        report = check(target, options)
        show(as_text(report, arguments.strict) + "\n")
        failed |= report.problems.failed(arguments.strict)
    if failed:
        sys.exit(1)
    if known := [name for name in arguments.names if name in read_counts()]:
        at = "" if root == Path("data") else f" data.root={root}"
        show(f"to use it: python -m experiments.zero_shot data={known[0]}{at}")


def _listed(text: str) -> list[str]:
    """Read a list as ``a,b`` or ``[a,b]``."""
    return [part.strip() for part in text.strip("[]").split(",") if part.strip()]


def as_text(report: Report, strict: bool) -> str:
    """Write a report: counts beside published ones, then problems with examples."""
    from datamodules.checking.problems import ERRORS, KINDS

    target, problems = report.target, report.problems
    lines = [f"{target.name} ({target.partition}) in {target.folder}"]
    if report.splits:
        lines += ["", *_table(report)]
    if target.published:
        lines += ["", f"counts: {target.published.source}"]
    lines += report.looked
    for kind, count in problems.ordered():
        grave = "ERROR" if kind in ERRORS or (strict and kind != "not compared") else "note"
        lines += ["", f"{grave}: {kind}, {count:,} times: {KINDS[kind]}"]
        lines += [f"  {example}" for example in problems.examples[kind]]
    verdict = "MISMATCH" if problems.failed(strict) else "fine"
    return "\n".join([*lines, "", f"{target.name} ({target.partition}): {verdict}"])


def _table(report: Report) -> list[str]:
    from tabulate import tabulate

    rows = [["split", *next(iter(report.splits.values()))]]
    rows += [[split, *map(str, counts.values())] for split, counts in report.splits.items()]
    return tabulate(rows, tablefmt="plain", disable_numparse=True).split("\n")


if __name__ == "__main__":
    leave(main)
