"""What lies in the cache folder, and removing some of it: ``python -m experiments.cache``."""

import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from gl_ris.command_line import Arguments, leave, show
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import cache_folder, read_table

KINDS: dict[str, str]
KINDS, _EXAMPLES = read_table(Path(__file__).with_suffix(".yaml")).values()
_DRAWN = re.compile(r"(refshapes|captioned-shapes)-.*")
_OURS = re.compile(r"(^|\0)(-m\0)?(experiments|datamodules)[./]\w+|(^|/)gl-ris\0")
_DESCRIPTION = "List what lies in the cache folder: drawn sets, stored proposals, notes, indexes and drafts."
_EXAMPLES += "\n\nkinds: " + "\n       ".join(f"{kind}: {what}" for kind, what in KINDS.items())


class Entry(NamedTuple):
    """Something that can be removed as a whole."""

    name: str  # from the cache folder on; of stores elsewhere (GL_RIS_STORE), from the folder of stores on
    kind: str
    path: Path
    size: int
    # the latest time at which one of its files was read or written, as far as the file system tells
    used: float


def entries() -> list[Entry]:
    """Return what lies in the cache folder, and in that of the stores, by kind and name."""
    from gl_ris.proposals.store import default_root

    root, stores = cache_folder(), default_root()
    found = [(path.name, path) for path in _in(root) if path != stores]
    for split in _in(stores):
        inside = [(f"{split.name}/{path.name}", path) for path in _in(split)] if split.is_dir() else []
        found += inside or [(split.name, split)]
    made = [Entry(name, _kind(path, stores), path, *_measured(path)) for name, path in found]
    return sorted(made, key=lambda entry: (list(KINDS).index(entry.kind), entry.name))


def _in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _kind(path: Path, stores: Path) -> str:
    if path.name.startswith("."):
        return "draft"
    if path.is_relative_to(stores):
        return "store" if (path / "manifest.json").is_file() else "other"
    if path.name.endswith(".index.npz"):
        return "index"
    if path.name in ("hashes", "phrases"):
        return "notes"
    return "drawn" if _DRAWN.fullmatch(path.name) and path.is_dir() else "other"


def _measured(path: Path) -> tuple[int, float]:
    """Add up the bytes of what lies below a path, and find its latest use; links are not followed."""
    files = [path]
    for folder, _, names in os.walk(path):
        files += [Path(folder) / name for name in names]
    states = [file.lstat() for file in files if os.path.lexists(file)]
    # to list a folder is no use of it
    contents = [state for state in states if not stat.S_ISDIR(state.st_mode)]
    times = [*(state.st_mtime for state in states), *(state.st_atime for state in contents)]
    return sum(state.st_size for state in contents), max(times, default=0.0)


def users(path: Path) -> list[int]:
    """Return the processes that may use what lies below a path: of this program, or with it open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) not in (os.getpid(), os.getppid()) and (
            _is_ours(process) or _has_open(process, path)
        ):
            found.append(int(process.name))
    return sorted(found)


def _is_ours(process: Path) -> bool:
    try:
        return _OURS.search((process / "cmdline").read_text(encoding="utf-8", errors="replace")) is not None
    except OSError:
        return False


def _has_open(process: Path, path: Path) -> bool:
    below = str(path.resolve())

    def places() -> Iterator[str]:
        for link in (process / "fd").iterdir():
            yield os.readlink(link)
        yield from re.findall(r" (/.*)$", (process / "maps").read_text(errors="replace"), re.MULTILINE)

    try:
        return any(place == below or place.startswith(f"{below}/") for place in places())
    except OSError:  # of another user, or gone
        return False


def chosen(names: Sequence[str], there: Sequence[Entry]) -> list[Entry]:
    """Return the entries of these names or kinds, each once; `UserError` for an unknown name."""
    for name in names:
        if name not in KINDS and name not in {entry.name for entry in there}:
            raise unknown_name("entry or kind", name, [*KINDS, *(entry.name for entry in there)])
    return [entry for entry in there if entry.name in names or entry.kind in names]


def remove(wanted: Sequence[Entry]) -> int:
    """Remove entries and return the bytes that are free then; `UserError`, and all stays, if one is used."""
    for entry in wanted:
        if using := users(entry.path):
            raise UserError(
                f"'{entry.name}' may be in use by process {', '.join(map(str, using[:5]))}; nothing was "
                "removed. Wait for it, or end it."
            )
    for entry in wanted:
        if entry.path.is_dir() and not entry.path.is_symlink():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink()
        show(f"removed {entry.name}: {in_words(entry.size)}")
    return sum(entry.size for entry in wanted)


def in_words(size: int) -> str:
    """Write a number of bytes.

    Example:
        >>> in_words(1_234_567)
        '1.2 MB'
    """
    return f"{size / 1e6:,.1f} MB"


def main(tokens: Sequence[str] | None = None) -> None:
    """List what is there, or remove what the command line names."""
    made = Arguments("python -m experiments.cache", _DESCRIPTION, _EXAMPLES)
    made.add_argument("--remove", default="", metavar="NAME,...", help="entries or kinds to remove")
    arguments = made.read(sys.argv[1:] if tokens is None else tokens)
    names = [part.strip() for part in arguments.remove.strip("[]").split(",") if part.strip()]
    there = entries()
    if names:
        show(f"{in_words(remove(chosen(names, there)))} are free")
        return
    for entry in there:
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        show(f"{entry.kind:<6} {in_words(entry.size):>12}  {used}  {entry.name}")
    show(f"{len(there):,} entries, {in_words(sum(entry.size for entry in there))}, in {cache_folder()}")


if __name__ == "__main__":
    leave(main)
