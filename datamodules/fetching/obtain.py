"""One item of the catalogue, from its sources to its place."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.fetching.advice import by_hand, hashes
from datamodules.fetching.catalogue import Download, Item
from datamodules.fetching.errors import FetchFailed, SourceFailed
from datamodules.fetching.hub import fetch_clip, fetch_hub
from datamodules.fetching.receipts import DOWNLOADS, missing, read_receipt, write_receipt
from datamodules.fetching.transfer import Patience, transfer
from datamodules.fetching.unpack import move_into_place, unpack
from datamodules.fetching.verify import SUFFIXES, Expected, check_file
from gl_ris.errors import UserError


@dataclass(frozen=True)
class Settings:
    """How to fetch.

    Attributes:
        root: Folder that all paths are below.
        patience: How long to wait for servers.
        keep: Keep archives after they are unpacked.
        progress: Show bars, on a terminal.
        say: Takes lines to print.
    """

    root: Path
    patience: Patience = field(default_factory=Patience)
    keep: bool = False
    progress: bool = True
    say: Callable[[str], None] = print

    @property
    def downloads(self) -> Path:
        """Folder for what is under way."""
        return self.root / DOWNLOADS


def obtain(item: Item, settings: Settings) -> None:
    """Fetch an item unless it is there already.

    Safe to interrupt at any moment, to repeat, and to run in several processes at once.

    Args:
        item: The item.
        settings: How to fetch.

    Raises:
        FetchFailed: If no source gives it; the message says what to put where.
        UserError: If what is there is in the way, or the disk is full or not writable.
    """
    with _disk_errors(settings.root), _alone(item, settings):
        if there(item, settings):
            return
        settings.say(f"{item.name}: {item.title}")
        try:
            source, checked = _fetch(item, settings)
        except SourceFailed as failure:
            raise FetchFailed(by_hand(item, settings.root, [(item.name, str(failure))])) from failure
        if lacking := missing(item, settings.root):
            names = ", ".join(made.path for made in lacking)
            raise FetchFailed(f"{item.name}: {source} lacks {names}, or holds fewer files than it should.")
        hashed = bool(item.downloads) and all(hashes(d) for d in item.downloads)
        if not hashed and (words := _count(item, settings)):
            checked = f"{checked}; {words}"
        _finish(item, settings, source, checked)


def there(item: Item, settings: Settings) -> bool:
    """Return whether an item is complete, and say so; what was put there by hand is checked first."""
    if item.makes and missing(item, settings.root):
        return False
    if (note := read_receipt(item, settings.root)) and (item.makes or _all_exist(note["source"])):
        settings.say(f"{item.name}: already there, nothing to do")
        return True
    if not item.makes:
        return False
    settings.say(f"{item.name}: found in place")
    _look_at(item, settings.root)
    checked = _count(item, settings) or "names and numbers of files"
    _finish(item, settings, "found in place", checked)
    return True


def _look_at(item: Item, root: Path) -> None:
    """Check that files put there by hand begin as their kind does."""
    for path in filter(None, (made.found(root) for made in item.makes if made.files is None)):
        try:
            check_file(path, Expected(SUFFIXES.get(path.suffix, "any")))
        except SourceFailed as failure:
            raise UserError(
                f"'{path}' is not the file that it should be: {failure}. Move it away."
            ) from failure


def _all_exist(places: str) -> bool:
    return all(Path(place).exists() for place in places.split(", "))


def _finish(item: Item, settings: Settings, source: str, checked: str) -> None:
    write_receipt(item, settings.root, source, checked)
    for marker in settings.downloads.glob(f"{item.name}.*.placed"):
        marker.unlink()
    settings.say(f"  done; checked: {checked}")


def _fetch(item: Item, settings: Settings) -> tuple[str, str]:
    """Bring everything into place; return the source and what was checked, in words."""
    if item.clip is not None:
        return fetch_clip(item.clip, settings.say)
    if item.hub is not None:
        settings.say(f"  from {item.hub.page}")
        draft = settings.downloads / f"{item.name}.draft"
        try:
            found = fetch_hub(item.hub, draft, settings.say)
        except SourceFailed as failure:
            raise FetchFailed(by_hand(item, settings.root, [(item.hub.page, str(failure))])) from failure
        shutil.rmtree(draft / ".hub", ignore_errors=True)
        _place(item, draft, settings)
        return found
    found_in = [_download(item, download, settings) for download in item.downloads]
    return ", ".join(s for s, _ in found_in), ", ".join(c for _, c in found_in)


def _download(item: Item, download: Download, settings: Settings) -> tuple[str, str]:
    marker = settings.downloads / f"{item.name}.{download.file}.placed"
    if marker.is_file():
        return download.file, "placed by an earlier call"
    file = settings.downloads / download.file
    source, checked = _transfer(item, download, file, settings)
    if "" in download.place:
        target = settings.root / download.place[""]
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        return source, checked
    draft = settings.downloads / f"{download.file}.draft"
    _unpack(item, download, file, draft, settings)
    _place(item, draft, settings)
    marker.touch()
    if not settings.keep:
        file.unlink(missing_ok=True)
    return source, checked


def _transfer(item: Item, download: Download, file: Path, settings: Settings) -> tuple[str, str]:
    """Get one file from the first source that gives it, unless it is there."""
    expected = Expected(
        download.magic,
        download.size,
        at_most=download.size or 2 * download.about,
        hashes=hashes(download),
    )
    if file.is_file():
        try:
            return str(file), check_file(file, expected, settings.progress)
        except SourceFailed as failure:
            raise UserError(
                f"'{file}' is not the file that it should be: {failure}. Move it away."
            ) from failure
    failures = []
    for url in download.urls:
        settings.say(f"  from {url}")
        try:
            return url, transfer(url, file, expected, settings.patience, settings.progress)
        except SourceFailed as failure:
            settings.say(f"    {failure}")
            failures.append((url, str(failure)))
    raise FetchFailed(by_hand(item, settings.root, failures))


def _unpack(item: Item, download: Download, file: Path, draft: Path, settings: Settings) -> None:
    try:
        left = unpack(file, draft, download.place, 3 * download.unpacked, settings.progress)
    except SourceFailed as failure:
        shutil.rmtree(draft, ignore_errors=True)
        file.unlink()
        raise FetchFailed(by_hand(item, settings.root, [(download.file, str(failure))])) from failure
    if left:
        settings.say(f"  left out {len(left)} files of {download.file} that are not needed, e.g. {left[0]}")


def _place(item: Item, draft: Path, settings: Settings) -> None:
    try:
        move_into_place(draft, settings.root)
    except FileExistsError as error:
        raise UserError(
            f"'{error}' is there already and differs from the file fetched for {item.name}. Move it away and "
            "run the same command again; nothing need be fetched twice."
        ) from error
    shutil.rmtree(draft, ignore_errors=True)


def _count(item: Item, settings: Settings) -> str | None:
    """Compare the counts of an annotation set, as `datamodules.check` does; return what was done in words.

    Raises:
        FetchFailed: If they differ.
    """
    if item.check is None:
        return None
    from datamodules.checking.run import count_problems

    if problems := count_problems(item.check, settings.root):
        raise FetchFailed(
            f"{item.name} is in place, but is not what it should be: {'; '.join(problems)}. "
            f"See python -m datamodules.check {item.check} --root={settings.root}"
        )
    return "counts of every split"


@contextmanager
def _alone(item: Item, settings: Settings) -> Iterator[None]:
    """Hold the item's lock, which the system takes back whenever the process ends."""
    from filelock import FileLock, Timeout

    settings.downloads.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.downloads / f".{item.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        settings.say(f"{item.name}: another process is fetching it; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """Say what the disk does not permit in a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
        ):
            raise
        where = error.filename or root
        raise UserError(
            f"'{where}': {error.strerror}. Mend that, or give --root another folder; what has come is kept."
        ) from error
