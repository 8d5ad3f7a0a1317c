"""Unpacking archives that are not to be trusted: zip and tar.

Nothing is written before every member has been looked at: plain files and folders only, no name that leads
out, no more bytes than the archive may hold. An archive inside the archive is a file like any other.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datamodules.fetching.transfer import SourceFailed, byte_bar

MOST_MEMBERS = 1_000_000


class _Member(NamedTuple):
    """One entry of an archive."""

    name: str  # as the archive has it
    size: int  # bytes that it announces; neither library reads more
    fault: str | None  # why it is not wanted
    is_folder: bool
    open: Callable[[], Any]


def unpack(
    archive: Path, into: Path, place: Mapping[str, str], limit: int, progress: bool = True
) -> list[str]:
    """Unpack a zip or a tar into a folder; what an interrupted call has left there is taken over.

    Args:
        archive: The file, compressed or not.
        into: The folder, made if missing.
        place: Beginnings of names and what to put in their place; the longest that fits counts.
        limit: Most bytes that may come out.
        progress: Show a bar, on a terminal.

    Returns:
        Names of the files that are left out because they begin with none of the names in ``place``.

    Raises:
        SourceFailed: If the archive is damaged, holds something that is not wanted, or nothing that is.
    """
    try:
        with _opened(archive) as found:
            members = [member for member in _checked(found, limit) if not member.is_folder]
            targets = {member.name: _target(member.name, place) for member in members}
            _check_targets(archive, [target for target in targets.values() if target is not None])
            wanted = [m for m in members if targets[m.name] is not None]
            with byte_bar(f"unpacking {archive.name}", sum(m.size for m in wanted), progress) as bar:
                for member in wanted:
                    _write(member, into / str(targets[member.name]))
                    bar.update(member.size)
    except SourceFailed:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise SourceFailed(f"the archive is damaged ({error})") from error
    return sorted(name for name, target in targets.items() if target is None)


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[Iterable[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            # zipfile cuts a name at a NUL byte; the name as written decides
            yield (
                _Member(i.orig_filename, i.file_size, _fault(i), i.is_dir(), partial(file.open, i))
                for i in file.infolist()
            )
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield (_Member(i.name, i.size, _fault(i), i.isdir(), partial(tar.extractfile, i)) for i in tar)
    else:
        raise SourceFailed("it is neither a zip nor a tar, or breaks off")


def _fault(info: zipfile.ZipInfo | tarfile.TarInfo) -> str | None:
    if isinstance(info, tarfile.TarInfo):
        return None if info.isreg() or info.isdir() else "is a link or a device"
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive comes from a system without modes
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return "is encrypted" if info.flag_bits & 1 else None


def _checked(members: Iterable[_Member], limit: int) -> list[_Member]:
    """Look at every member; stops at the first that is not wanted, before the rest of a bomb is read."""
    checked: list[_Member] = []
    total = 0
    for member in members:
        if fault := member.fault or name_fault(member.name):
            raise SourceFailed(f"the archive was refused: {member.name!r} {fault}")
        total += member.size
        checked.append(member)
        if total > limit or len(checked) > MOST_MEMBERS:
            most = f"{limit:,} bytes or {MOST_MEMBERS:,} files"
            raise SourceFailed(f"the archive was refused: it would unpack to more than {most}")
    return checked


def name_fault(name: str) -> str | None:
    r"""Say what is wrong with the name of a member, if anything is.

    Example:
        >>> name_fault("train2014/1.jpg"), name_fault("a/../../etc/passwd"), name_fault("C:\\a")
        (None, 'leads out of its folder', 'has a character that a name may not have')
    """
    if "\\" in name or any(ord(c) < 32 for c in name) or ":" in name.split("/")[0]:
        return "has a character that a name may not have"
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return "leads out of its folder"
    return None


def _target(name: str, place: Mapping[str, str]) -> str | None:
    """Return where below the root a member goes, or None if it is not wanted."""
    plain = str(PurePosixPath(name))
    start = max((start for start in place if plain.startswith(start)), key=len, default=None)
    return None if start is None else place[start] + plain.removeprefix(start)


def _check_targets(archive: Path, targets: list[str]) -> None:
    if not targets:
        raise SourceFailed(f"{archive.name} holds none of the files it should")
    (target, count), *_ = Counter(targets).most_common(1)
    if count > 1:
        raise SourceFailed(f"the archive was refused: two members would become '{target}'")


def _write(member: _Member, path: Path) -> None:
    """Write one member, complete or not at all; one that an earlier call finished is left."""
    if path.is_file() and path.stat().st_size == member.size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with member.open() as source, draft.open("wb") as file:
        shutil.copyfileobj(source, file)
    if draft.stat().st_size != member.size:
        raise SourceFailed(f"the archive is damaged ({member.name!r} breaks off)")
    draft.replace(path)


def move_into_place(draft: Path, root: Path) -> None:
    """Move every file of ``draft``, a folder on the same disk, to the same name below ``root``.

    Raises:
        FileExistsError: If a file of that name but of another size is there; nothing has been moved then.
    """
    targets = {path: root / path.relative_to(draft) for path in draft.rglob("*") if path.is_file()}
    for path, target in targets.items():
        if target.is_file() and target.stat().st_size != path.stat().st_size:
            raise FileExistsError(target)
    for path, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(draft)
