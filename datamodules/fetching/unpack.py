"""Unpacking archives that are not to be trusted: zip and tar.

Nothing is written before every member has been looked at: plain files and folders only, no name that leads
out, no more bytes than the archive may hold. While a member is written, no more bytes are taken than it
announced. An archive inside the archive is a file like any other.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm.auto import tqdm

from datamodules.fetching.errors import SourceFailed

MOST_MEMBERS = 1_000_000
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Attributes:
        name: Its name as the archive has it.
        size: The bytes it announces.
        fault: Why it is not wanted (a link, a device, ...), or None.
        folder: Whether it is a folder.
        open: Opens its content.
    """

    name: str
    size: int
    fault: str | None
    folder: bool
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, into: Path, place: Mapping[str, str], limit: int, progress: bool = True
) -> list[str]:
    """Unpack ``archive`` into a folder; what an interrupted call has left there is taken over.

    Args:
        archive: A zip or a tar, compressed or not.
        into: The folder, made if missing.
        place: Beginnings of names in the archive and what to put in their place; the longest that fits
            counts.
        limit: Most bytes that may come out.
        progress: Show a bar, on a terminal.

    Returns:
        Names of the files that are left out because they begin with none of the names in ``place``.

    Raises:
        SourceFailed: If the archive is damaged, holds something that is not wanted, or nothing that is.
    """
    try:
        with _opened(archive) as found:
            members = _checked(found, limit)
            targets = {m.name: _target(m.name, place) for m in members if not m.folder}
            _check_targets(archive, targets.values())
            wanted = [m for m in members if targets.get(m.name) is not None]
            bar = tqdm(
                total=sum(m.size for m in wanted),
                desc=f"unpacking {archive.name}",
                unit="B",
                unit_scale=True,
                disable=None if progress else True,
            )
            with bar:
                for member in wanted:
                    _write(member, into / str(targets[member.name]), bar)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, SourceFailed):
            raise
        raise SourceFailed(f"the archive is damaged ({error})") from error
    return sorted(name for name, target in targets.items() if target is None)


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[Iterable[Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield [_zip_member(file, info) for info in file.infolist()]
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield (_tar_member(tar, info) for info in tar)
    else:
        raise SourceFailed("it is neither a zip nor a tar, or breaks off")


def _zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive comes from a system without modes
    fault = "is encrypted" if info.flag_bits & 1 else None
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "is a link or a device"
    # zipfile cuts a name at a NUL byte; the name as written decides
    return Member(info.orig_filename, info.file_size, fault, info.is_dir(), lambda: file.open(info))


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    def content() -> IO[bytes]:
        opened = tar.extractfile(info)
        if opened is None:
            raise tarfile.ReadError(f"no content in {info.name!r}")
        return opened

    fault = None if info.isreg() or info.isdir() else "is a link or a device"
    return Member(info.name, info.size, fault, info.isdir(), content)


def _checked(members: Iterable[Member], limit: int) -> list[Member]:
    """Look at every member; stops at the first that is not wanted."""
    checked: list[Member] = []
    total = 0
    for member in members:
        if fault := member.fault or name_fault(member.name):
            raise SourceFailed(f"the archive was refused: {member.name!r} {fault}")
        total += member.size
        if total > limit:
            raise SourceFailed(f"the archive was refused: it would unpack to more than {limit:,} bytes")
        if len(checked) >= MOST_MEMBERS:
            raise SourceFailed(f"the archive was refused: it has more than {MOST_MEMBERS:,} members")
        checked.append(member)
    return checked


def name_fault(name: str) -> str | None:
    r"""Say what is wrong with the name of a member, if anything is.

    Example:
        >>> name_fault("train2014/1.jpg"), name_fault("a/../../etc/passwd"), name_fault("C:\\a")
        (None, 'leads out of its folder', 'has a character that a name may not have')
    """
    if "\\" in name or "\0" in name or any(ord(c) < 32 for c in name) or ":" in name.split("/")[0]:
        return "has a character that a name may not have"
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return "leads out of its folder"
    return None


def _target(name: str, place: Mapping[str, str]) -> str | None:
    """Return where below the root a member goes, or None if it is not wanted."""
    plain = str(PurePosixPath(name))
    for start in sorted(place, key=len, reverse=True):
        if plain.startswith(start):
            return place[start] + plain.removeprefix(start)
    return None


def _check_targets(archive: Path, targets: Iterable[str | None]) -> None:
    known: set[str] = set()
    for target in targets:
        if target is not None and target in known:
            raise SourceFailed(f"the archive was refused: two members would become '{target}'")
        if target is not None:
            known.add(target)
    if not known:
        raise SourceFailed(f"{archive.name} holds none of the files it should")


def _write(member: Member, path: Path, bar: tqdm) -> None:
    """Write one member, complete or not at all; one that an earlier call finished is left."""
    if path.is_file() and path.stat().st_size == member.size:
        bar.update(member.size)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with member.open() as source, draft.open("wb") as file:
        got = 0
        while chunk := source.read(_CHUNK):
            got += len(chunk)
            if got > member.size:
                raise SourceFailed(f"the archive was refused: {member.name!r} is longer than it says")
            file.write(chunk)
            bar.update(len(chunk))
    if got != member.size:
        raise SourceFailed(f"the archive is damaged ({member.name!r} breaks off)")
    os.replace(draft, path)


def move_into_place(draft: Path, root: Path) -> None:
    """Move every file of ``draft`` to the same name below ``root``; folders that are missing move whole.

    Args:
        draft: A folder on the same disk.
        root: Where its content is to be.

    Raises:
        FileExistsError: If another file of that name but of another size is there already; nothing has been
            moved then.
    """
    files = [path for path in draft.rglob("*") if path.is_file()]
    for path in files:
        there = root / path.relative_to(draft)
        if there.is_file() and there.stat().st_size != path.stat().st_size:
            raise FileExistsError(there)
    for entry in sorted(draft.iterdir()):
        _move(entry, root / entry.name)


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _move(entry, target / entry.name)
        source.rmdir()
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
