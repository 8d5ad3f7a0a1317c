"""Fetch data sets and weights: ``python -m datamodules.download refcoco coco-train2014``."""

import shutil
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from datamodules.fetching.catalogue import DOWNLOADS, Item, find_item, in_words, read_catalogue
from gl_ris.command_line import Arguments, leave, show
from gl_ris.errors import UserError
from gl_ris.files import read_table

_DESCRIPTION, _EXAMPLES = read_table(Path(__file__).with_name("commands.yaml"))["download"].values()


def parser() -> Arguments:
    """Make the parser of the command."""
    made = Arguments("python -m datamodules.download", _DESCRIPTION, _EXAMPLES)
    add = made.add_argument
    add("names", nargs="*", metavar="NAME", help="what to fetch; --list shows the names")
    add("--list", action="store_true", help="list names, sizes, places and terms, and exit")
    add("--root", type=Path, default=Path("data"), help="folder that all goes below [data]")
    add("--dry-run", action="store_true", help="say what would be done, and exit")
    add("--keep", action="store_true", help="keep archives after they are unpacked")
    add("--quiet", action="store_true", help="no progress bars")
    add("--stall", type=float, default=60.0, help="seconds without data that end a try [60]")
    add("--attempts", type=int, default=5, help="tries in a row that may bring nothing [5]")
    return made


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command; wrong usage or a full disk is a `UserError`, what cannot be fetched exit code 1."""
    arguments = parser().read(sys.argv[1:] if tokens is None else tokens)
    arguments.root = arguments.root.expanduser()
    if arguments.list:
        show("\n".join(_listed(item, arguments.root) for item in read_catalogue().values()))
        show("Terms are a summary to start from; those of the sources themselves hold.")
        return
    if not arguments.names:
        raise UserError("Say what to fetch, e.g. refcoco; --list shows the names.")
    if arguments.stall <= 0 or arguments.attempts < 1:
        raise UserError("--stall must be more than 0 and --attempts at least 1.")
    items = [find_item(name) for name in dict.fromkeys(arguments.names)]
    (_explain if arguments.dry_run else _fetch)(items, arguments)


def _listed(item: Item, root: Path) -> str:
    folders = {PurePosixPath(made.path).parts for made in item.makes}
    # the folder of a data set, or of weights: at most two names deep
    places = {root.joinpath(*(parts[:2] if len(parts) > 2 else parts[:1])).as_posix() for parts in folders}
    place = ", ".join(sorted(places)) or "open_clip's cache"
    return f"{item.name:<18}{item.size:>9}  {place:<30}  {item.title}\n{'':<29}terms: {item.terms}"


def _explain(items: Sequence[Item], arguments: Namespace) -> None:
    from datamodules.fetching.obtain import missing

    root = arguments.root
    lacking = [item for item in items if not item.makes or missing(item, root)]
    for item in items:
        show(plan(item, root, "to be fetched" if item in lacking else "there, to be checked") + "\n")
    need = in_words(peak(lacking, root))
    show(f"disk: about {need} at most while fetching, {in_words(free_bytes(root))} free at '{root}'")


def plan(item: Item, root: Path, state: str) -> str:
    """Say what would be done for an item."""
    sources = [url for download in item.downloads for url in download.urls]
    sources += [f"{item.hub.page} ({', '.join(item.hub.pick)})"] if item.hub else []
    sources += [f"open_clip: {m} ({item.clip.pretrained})" for m in item.clip.models] if item.clip else []
    parts = {
        "state": [state],
        "size": [f"{item.bytes:,} bytes" if item.exact else f"about {item.size.strip('~')}"],
        "from": sources,
        "hash": [f"{d.file}: {name} {value}" for d in item.downloads for name, value in d.hashes.items()],
        "makes": item.places(root) or ["files in open_clip's own cache"],
        "terms": [item.terms],
        "known": item.facts,
        "needs": [f"{', '.join(item.needs)}, to be used"] if item.needs else [],
    }
    labelled = [f"  {label:<7} " + f"\n{'':10}".join(lines) for label, lines in parts.items() if lines]
    return "\n".join([f"{item.name}: {item.title}", *labelled])


def _fetch(items: Sequence[Item], arguments: Namespace) -> None:
    from datamodules.fetching.obtain import FetchFailed, Settings, missing, obtain
    from datamodules.fetching.transfer import Patience
    from gl_ris.signals import kept_if_ended

    root = arguments.root
    if needed := require_space([item for item in items if not item.makes or missing(item, root)], root):
        print(f"about {in_words(needed)} of disk at most while fetching, below '{root}'", flush=True)
    patience = Patience(stall=arguments.stall, attempts=arguments.attempts)
    settings = Settings(
        root, patience, arguments.keep, not arguments.quiet, say=lambda line: print(line, flush=True)
    )
    there, failed = [], []
    with kept_if_ended(lambda: "what has come is kept, and the same command goes on from there"):
        for item in items:
            try:
                obtain(item, settings)
                there.append(item)
            except FetchFailed as failure:
                print(f"error: {failure}\n", file=sys.stderr, flush=True)
                failed.append(item.name)
    _say_what_is_next(there, root)
    if failed:
        print(f"not fetched: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


def _say_what_is_next(there: Sequence[Item], root: Path) -> None:
    from datamodules.fetching.obtain import missing

    needs = dict.fromkeys(name for item in there for name in item.needs)
    if more := [name for name in needs if missing(find_item(name), root)]:
        show(f"to use them, fetch also: {' '.join(more)}")
    if checks := [item.check for item in there if item.check]:
        at = "" if root == Path("data") else f" --root={root}"
        show(f"to check them: python -m datamodules.check {' '.join(checks)}{at}")


def free_bytes(root: Path) -> int:
    """Return the free bytes of the disk that ``root`` is or would be on."""
    path = root.absolute()
    return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free


def peak(items: Iterable[Item], root: Path) -> int:
    """Return about how many more bytes are taken at most while the items are fetched one after the other."""
    highest = settled = 0
    for item in items:
        for download in item.downloads:
            # what has come of an archive is not counted again, and the archive goes once it is unpacked
            here = root / DOWNLOADS / download.file
            parts = [path for path in (here, here.with_name(f"{here.name}.part")) if path.is_file()]
            there = sum(path.stat().st_size for path in parts)
            highest = max(highest, settled + max(0, download.bytes + download.unpacked - there))
            settled += download.unpacked or download.bytes - there
        settled += item.hub.about if item.hub else 0
        highest = max(highest, settled)
    return highest


def require_space(items: Sequence[Item], root: Path) -> int:
    """Return the `peak` of the items; a `UserError` says if the disk has no room for it."""
    needed, free = peak(items, root), free_bytes(root)
    if needed > free:
        names = ", ".join(item.name for item in items)
        raise UserError(
            f"{names} take about {in_words(needed)} while they are fetched and unpacked, but the disk of "
            f"'{root}' has {in_words(free)} free. Make room, or give --root a folder on another disk."
        )
    return needed


if __name__ == "__main__":
    leave(main)
