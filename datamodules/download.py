"""Fetch data sets and weights: ``python -m datamodules.download refcoco coco-train2014``."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.commands import Arguments
from gl_ris.command_line import exit_code, show
from gl_ris.errors import UserError

if TYPE_CHECKING:
    from datamodules.fetching.catalogue import Item

_DESCRIPTION = """\
Fetch data sets and weights to where the data modules look for them.

Sources that live are tried in order; broken transfers go on where they were, in this call or the next;
sizes, hashes or counts are checked; archives are unpacked with suspicion. What is there already is left.
Where no source answers, it is printed exactly what to put where by hand."""

_EXAMPLES = """\
examples:
  python -m datamodules.download --list
      names, sizes, places, terms
  python -m datamodules.download refcoco coco-train2014
      all that RefCOCO takes: annotations and 13.5 GB of images
  python -m datamodules.download refcocog --dry-run
      sources, hashes and space, without fetching
  python -m datamodules.download freesolo clip --root=/scratch/data
      weights, below another folder (data.root=/scratch/data for the experiments)

exit codes: 0 all there; 1 something could not be fetched; 2 wrong usage or no room.
docs/data.md says what each data set takes, and what could not be verified."""


def parser() -> Arguments:
    """Make the parser of the command."""
    made = Arguments("python -m datamodules.download", _DESCRIPTION, _EXAMPLES)
    made.add_argument("names", nargs="*", metavar="NAME", help="what to fetch; --list shows the names")
    made.add_argument("--list", action="store_true", help="list names, sizes, places and terms, and exit")
    made.add_argument("--root", type=Path, default=Path("data"), help="folder that all goes below [data]")
    made.add_argument("--dry-run", action="store_true", help="say what would be done, and exit")
    made.add_argument("--keep", action="store_true", help="keep archives after they are unpacked")
    made.add_argument("--quiet", action="store_true", help="no progress bars")
    made.add_argument("--stall", type=float, default=60.0, help="seconds without data that end a try [60]")
    made.add_argument("--attempts", type=int, default=5, help="tries in a row that may bring nothing [5]")
    return made


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        UserError: Wrong usage, or a disk that does not serve.
        SystemExit: With code 1 if something could not be fetched.
    """
    arguments = parser().read(sys.argv[1:] if tokens is None else tokens)
    from datamodules.fetching.advice import listing
    from datamodules.fetching.catalogue import find_item, read_catalogue

    arguments.root = arguments.root.expanduser()
    if arguments.list:
        show(listing(read_catalogue().values(), arguments.root))
        show("Terms are a summary to start from; those of the sources themselves hold.")
        return
    if not arguments.names:
        raise UserError("Say what to fetch, e.g. refcoco; --list shows the names.")
    if arguments.stall <= 0 or arguments.attempts < 1:
        raise UserError("--stall must be more than 0 and --attempts at least 1.")
    items = [find_item(name) for name in dict.fromkeys(arguments.names)]
    (_explain if arguments.dry_run else _fetch)(items, arguments)


def _explain(items: Sequence[Item], arguments: Namespace) -> None:
    from datamodules.fetching.advice import plan
    from datamodules.fetching.receipts import missing, read_receipt
    from datamodules.fetching.space import free_bytes, in_words, peak

    root, lacking = arguments.root, []
    for item in items:
        state = "to be fetched"
        if read_receipt(item, root):
            state = "already there"
        elif item.makes and not missing(item, root):
            state = "found in place, to be checked"
        else:
            lacking.append(item)
        show(plan(item, root, state) + "\n")
    need = in_words(peak(lacking, root))
    show(f"disk: about {need} at most while fetching, {in_words(free_bytes(root))} free at '{root}'")


def _fetch(items: Sequence[Item], arguments: Namespace) -> None:
    from datamodules.fetching.errors import FetchFailed
    from datamodules.fetching.obtain import Settings, obtain
    from datamodules.fetching.receipts import missing
    from datamodules.fetching.space import in_words, peak, require_space
    from datamodules.fetching.transfer import Patience

    root = arguments.root
    lacking = [item for item in items if not item.makes or missing(item, root)]
    require_space(lacking, root)
    if needed := peak(lacking, root):
        print(f"about {in_words(needed)} of disk at most while fetching, below '{root}'", flush=True)
    settings = Settings(
        root,
        Patience(stall=arguments.stall, attempts=arguments.attempts),
        keep=arguments.keep,
        progress=not arguments.quiet,
        say=lambda line: print(line, flush=True),
    )
    failed = []
    for item in items:
        try:
            obtain(item, settings)
        except FetchFailed as failure:
            print(f"error: {failure}\n", file=sys.stderr, flush=True)
            failed.append(item.name)
    _tell_next(items, failed, root)
    if failed:
        print(f"not fetched: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


def _tell_next(items: Sequence[Item], failed: Sequence[str], root: Path) -> None:
    """Name what else is needed, and how to check what is there."""
    from datamodules.fetching.catalogue import find_item
    from datamodules.fetching.receipts import missing

    there = [item for item in items if item.name not in failed]
    needs = dict.fromkeys(name for item in there for name in item.needs)
    if more := [name for name in needs if missing(find_item(name), root)]:
        print(f"to use them, fetch also: {' '.join(more)}")
    if checks := [item.check for item in there if item.check]:
        at = "" if root == Path("data") else f" --root={root}"
        print(f"to check them: python -m datamodules.check {' '.join(checks)}{at}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
