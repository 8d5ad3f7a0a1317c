"""Unpacking zips that are not to be trusted.

Nothing is written before every member has been looked at: plain files and folders only, no name that leads
out, no more bytes than the archive may hold. An archive inside the archive is a file like any other.
"""

import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from datamodules.fetching.transfer import SourceFailed, byte_bar

_MOST_MEMBERS = 1_000_000


def unpack(
    archive: Path, into: Path, place: Mapping[str, str], limit: int, progress: bool = True
) -> list[str]:
    """Unpack at most ``limit`` bytes into a folder; what an interrupted call has left there is taken over.

    ``place`` maps beginnings of names to what comes in their place; the longest that fits counts. Returns the
    names that begin with none of them. `SourceFailed` if the archive is damaged, holds something that is not
    wanted, or nothing that is.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = {info.orig_filename: info for info in _checked(file, limit) if not info.is_dir()}
            found = {name: _target(name, place) for name in members}
            targets = {name: target for name, target in found.items() if target is not None}
            _check_targets(archive, list(targets.values()))
            total = sum(members[name].file_size for name in targets)
            with byte_bar(f"unpacking {archive.name}", total, progress) as bar:
                for name, target in targets.items():
                    _write(file, members[name], into / target)
                    bar.update(members[name].file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise SourceFailed(f"the archive is damaged ({error})") from error
    return sorted(found.keys() - targets.keys())


def _checked(file: zipfile.ZipFile, limit: int) -> list[zipfile.ZipInfo]:
    """Return the members, or refuse all for one that is not wanted."""
    members = file.infolist()
    for info in members:
        # zipfile cuts a name at a NUL byte; the name as written decides
        if fault := _fault(info) or name_fault(info.orig_filename):
            raise SourceFailed(f"the archive was refused: {info.orig_filename!r} {fault}")
    # what they announce is all that zipfile reads of them
    if sum(info.file_size for info in members) > limit or len(members) > _MOST_MEMBERS:
        most = f"{limit:,} bytes or {_MOST_MEMBERS:,} files"
        raise SourceFailed(f"the archive was refused: it would unpack to more than {most}")
    return members


def _fault(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive comes from a system without modes
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return "is encrypted" if info.flag_bits & 1 else None


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


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """Write one member, complete or not at all; one that an earlier call finished is left."""
    if path.is_file() and path.stat().st_size == info.file_size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with archive.open(info) as source, draft.open("wb") as file:
        shutil.copyfileobj(source, file)
    if draft.stat().st_size != info.file_size:
        raise SourceFailed(f"the archive is damaged ({info.orig_filename!r} breaks off)")
    draft.replace(path)


def move_into_place(draft: Path, root: Path) -> None:
    """Move every file of ``draft``, a folder on the same disk, to the same name below ``root``.

    `FileExistsError` if a file of that name but of another size is there; nothing has been moved then.
    """
    targets = {path: root / path.relative_to(draft) for path in draft.rglob("*") if path.is_file()}
    for path, target in targets.items():
        if target.is_file() and target.stat().st_size != path.stat().st_size:
            raise FileExistsError(target)
    for path, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(draft)
