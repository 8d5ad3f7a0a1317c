"""One item of the catalogue, from its sources to its place."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.fetching.archive import move_into_place, name_fault, unpack
from datamodules.fetching.catalogue import DOWNLOADS, Clip, Download, Hub, Item, Made, in_words
from datamodules.fetching.transfer import (
    MAGIC_OF_SUFFIX,
    Expected,
    Patience,
    SourceFailed,
    check_file,
    transfer,
)
from gl_ris.errors import UserError, in_short

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class FetchFailed(RuntimeError):
    """No source gave an item; the message says why, and what to put where by hand."""


@dataclass(frozen=True)
class Settings:
    """How to fetch."""

    root: Path  # folder that all paths are below
    patience: Patience = field(default_factory=Patience)
    keep: bool = False  # archives, after they are unpacked
    progress: bool = True  # show bars, on a terminal
    say: Callable[[str], None] = print  # takes lines to print

    @property
    def downloads(self) -> Path:
        """Folder for what is under way."""
        return self.root / DOWNLOADS


def obtain(item: Item, settings: Settings) -> None:
    """Fetch an item unless it is there; may be interrupted, repeated, and run in several processes at once.

    What is there, also what was put there by hand, is checked. `FetchFailed` if no source gives the item;
    `UserError` if something is in the way or the disk does not serve.
    """
    with _disk_errors(settings.root), _locked(item, settings):
        if item.makes and not missing(item, settings.root):
            settings.say(f"{item.name}: already there")
            checked = _check_there(item, settings.root)
        else:
            settings.say(f"{item.name}: {item.title}")
            checked = _fetch(item, settings)
        settings.say(f"  done; checked: {checked}")


def missing(item: Item, root: Path) -> list[Made]:
    """Return what an item should have made and is not there or not complete."""
    return [made for made in item.makes if made.found(root) is None]


def _check_there(item: Item, root: Path) -> str:
    for made in item.makes:
        if made.files is None and (path := made.found(root)):
            _check_own(path, Expected(MAGIC_OF_SUFFIX.get(path.suffix, "any")))
    return _check_counts(item, root) or "names and numbers of files"


def _fetch(item: Item, settings: Settings) -> str:
    """Bring everything into place; return what was checked, in words."""
    try:
        checked = _from_sources(item, settings)
    except SourceFailed as failure:
        place = item.hub.page if item.hub else item.name
        raise _failed(item, settings, (place, str(failure))) from failure
    if lacking := missing(item, settings.root):
        names = ", ".join(made.path for made in lacking)
        raise FetchFailed(f"{item.name}: what came lacks {names}, or holds fewer files than it should.")
    for marker in settings.downloads.glob(f"{item.name}.*.placed"):
        marker.unlink()
    hashed = bool(item.downloads) and all(download.hashes for download in item.downloads)
    counts = None if hashed else _check_counts(item, settings.root)
    return f"{checked}; {counts}" if counts else checked


def _from_sources(item: Item, settings: Settings) -> str:
    if item.clip is not None:
        return fetch_clip(item.clip, settings.say)
    if item.hub is not None:
        settings.say(f"  from {item.hub.page}")
        draft = settings.downloads / f"{item.name}.draft"
        checked = fetch_hub(item.hub, draft, settings.say)
        _place(item, draft, settings)
        return checked
    return ", ".join(_download(item, download, settings) for download in item.downloads)


def _download(item: Item, download: Download, settings: Settings) -> str:
    marker = settings.downloads / f"{item.name}.{download.file}.placed"
    if marker.is_file():
        return "placed by an earlier call"
    file = settings.downloads / download.file
    checked = _transfer(item, download, file, settings)
    if "" in download.place:
        target = settings.root / download.place[""]
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        return checked
    draft = settings.downloads / f"{download.file}.draft"
    try:
        left = unpack(file, draft, download.place, 3 * download.unpacked, settings.progress)
    except SourceFailed as failure:
        shutil.rmtree(draft, ignore_errors=True)
        file.unlink()
        raise _failed(item, settings, (download.file, str(failure))) from failure
    if left:
        settings.say(f"  left out {len(left)} files of {download.file} that are not needed, e.g. {left[0]}")
    _place(item, draft, settings)
    marker.touch()
    if not settings.keep:
        file.unlink(missing_ok=True)
    return checked


def _transfer(item: Item, download: Download, file: Path, settings: Settings) -> str:
    """Get one file from the first source that gives it, unless it is there."""
    at_most = download.size or 2 * download.about
    expected = Expected(download.magic, download.size, at_most, download.hashes)
    if file.is_file():
        return _check_own(file, expected)
    failures = []
    for url in download.urls:
        settings.say(f"  from {url}")
        try:
            return transfer(url, file, expected, settings.patience, settings.progress)
        except SourceFailed as failure:
            settings.say(f"    {failure}")
            failures.append((url, str(failure)))
    raise _failed(item, settings, *failures)


def _check_own(file: Path, expected: Expected) -> str:
    """Check a file that the user brought; it is not removed."""
    try:
        return check_file(file, expected)
    except SourceFailed as failure:
        raise UserError(f"'{file}' is not the file that it should be: {failure}. Move it away.") from failure


def _place(item: Item, draft: Path, settings: Settings) -> None:
    try:
        move_into_place(draft, settings.root)
    except FileExistsError as error:
        raise UserError(
            f"'{error}' is there already and differs from the file fetched for {item.name}. Move it away and "
            "run the same command again; nothing need be fetched twice."
        ) from error


def _check_counts(item: Item, root: Path) -> str | None:
    """Compare the counts of an annotation set, as `datamodules.check` does; return what was done in words."""
    if item.check is None:
        return None
    from datamodules.checking.run import count_problems

    if problems := count_problems(item.check, root):
        raise FetchFailed(
            f"{item.name} is in place, but is not what it should be: {'; '.join(problems)}. "
            f"See python -m datamodules.check {item.check} --root={root}"
        )
    return "counts of every split"


def _failed(item: Item, settings: Settings, *failures: tuple[str, str]) -> FetchFailed:
    """Say why each source gave nothing, and exactly what to put where instead."""
    lines = [f"{item.name} could not be fetched:"]
    lines += [f"  {source}\n      {reason}" for source, reason in failures]
    if item.makes:
        lines += ["", "To get it by hand, bring these files:"]
        lines += [f"  {line}" for line in item.places(settings.root)]
    for download in item.downloads:
        known = [f"{download.size:,} bytes"] if download.size else [f"about {in_words(download.about)}"]
        known += [f"{name} {value}" for name, value in download.hashes.items()]
        lines += ["", f"Or only the file {download.file} ({', '.join(known)}), as"]
        lines += [f"  {settings.downloads / download.file}"]
    if item.other_sources:
        lines += ["", "Other places to look:", *(f"  {place}" for place in item.other_sources)]
    lines += ["", f"Then run the same command again: it checks what is there ({item.name})."]
    return FetchFailed("\n".join(lines))


def _locked(item: Item, settings: Settings) -> AbstractContextManager[Any]:
    """Take the item's lock, which the system takes back whenever the process ends."""
    from filelock import FileLock, Timeout

    settings.downloads.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.downloads / f".{item.name}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        settings.say(f"{item.name}: another process is fetching it; waiting for it to end")
        return lock.acquire()


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """Say what the disk does not permit in a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        where = error.filename or root
        raise UserError(
            f"'{where}': {error.strerror}. Mend that, or give --root another folder; what has come is kept."
        ) from error


def fetch_hub(hub: Hub, draft: Path, say: Callable[[str], None]) -> str:
    """Fetch the files that are wanted of a hub repository, checked against the hub's own sizes and hashes.

    They go to ``<draft>/<hub.into>/...``; what an interrupted call left there is used. Returns what was
    checked, in words; `SourceFailed` if a file cannot be had, or is damaged.
    """
    from huggingface_hub import HfApi

    listing = _call(HfApi(hub.endpoint).repo_info, hub.repo, repo_type=hub.type, files_metadata=True)
    files = picked(hub, listing.siblings or [])
    say(f"  {len(files)} files, {sum(file.size or 0 for file in files):,} bytes, revision {listing.sha}")
    came = {file.rfilename: _fetch_file(hub, listing.sha, file, draft / ".hub") for file in files}
    # not before all have come: the library finds again what it left
    for name, path in came.items():
        target = draft / hub.into / (path.name if hub.flat else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(draft / ".hub")
    return f"the hub's sizes, and its sha256 of {sum(bool(file.lfs) for file in files)} of {len(files)} files"


def _fetch_file(hub: Hub, revision: str, file: Any, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    place = {"repo_type": hub.type, "revision": revision, "local_dir": folder, "endpoint": hub.endpoint}
    path = Path(_call(hf_hub_download, hub.repo, file.rfilename, **place))
    hashes = {"sha256": file.lfs.sha256} if file.lfs else {}
    try:
        check_file(path, Expected(MAGIC_OF_SUFFIX.get(path.suffix, "any"), file.size, hashes=hashes))
    except SourceFailed as failure:
        path.unlink()
        raise SourceFailed(f"{file.rfilename}: {failure}") from failure
    return path


def picked(hub: Hub, siblings: list[Any]) -> list[Any]:
    """Return the files that are wanted; `SourceFailed` if none is there, or a name leads out."""
    names = [PurePosixPath(s.rfilename).name if hub.flat else s.rfilename for s in siblings]
    chosen = [n for n, name in enumerate(names) if any(fnmatch(name, pattern) for pattern in hub.pick)]
    if not chosen:
        there = ", ".join(sorted(names)[:8]) or "nothing"
        raise SourceFailed(f"it holds none of the files {', '.join(hub.pick)}; it holds {there}")
    files = [siblings[n] for n in chosen]
    for file in files:
        if fault := name_fault(file.rfilename):
            raise SourceFailed(f"it was refused: {file.rfilename!r} {fault}")
    if len({names[n] for n in chosen}) < len(files):
        raise SourceFailed("it holds several files of one name that is wanted")
    return files


def fetch_clip(clip: Clip, say: Callable[[str], None]) -> str:
    """Fetch models by open_clip itself, into its own cache; returns and raises as `fetch_hub`."""
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    for model in clip.models:
        config = get_pretrained_cfg(model, clip.pretrained)
        if not config:
            raise SourceFailed(f"open_clip knows no weights '{clip.pretrained}' of {model}")
        say(f"  {model} ({clip.pretrained}): {_call(download_pretrained, config)}")
    return "by open_clip"


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return function(*arguments, **options)
    except Exception as error:  # these libraries answer to a bad network with nearly every exception there is
        raise SourceFailed(in_short(error, 300, typed=True)) from error
