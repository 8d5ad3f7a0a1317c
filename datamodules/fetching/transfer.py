"""One file over HTTP: resumed where it broke off, tried again with patience, checked before it counts."""

import contextlib
import hashlib
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import requests
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError

from gl_ris.errors import in_short
from gl_ris.files import read_table

# first bytes of each kind of file
MAGIC: dict[str, tuple[bytes, ...]] = {
    "any": (b"",),
    "zip": (b"PK\x03\x04", b"PK\x05\x06"),
    "torch": (b"PK\x03\x04", b"\x80\x02"),  # a zip or, older, a pickle
    "parquet": (b"PAR1",),
    "json": (b"{", b"["),
}
MAGIC_OF_SUFFIX = {".parquet": "parquet", ".pth": "torch", ".json": "json"}

_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<head")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_CHUNK = 1 << 20
_ANSWERS: dict[str, Any] = read_table(Path(__file__).with_name("answers.yaml"))


class SourceFailed(RuntimeError):
    """One source does not give what it should; the message is the reason, and the next source is tried."""


class _TryAgain(SourceFailed):
    """A source failed in a way that may pass."""

    def __init__(self, reason: str, after: float | None = None, weight: int = 1) -> None:
        super().__init__(reason)
        self.after = after  # seconds that the server asked to wait
        self.weight = weight  # how many of the attempts it uses up: a host that is not there is soon given up


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it comes."""

    magic: str = "any"  # a key of `MAGIC`
    size: int | None = None  # exact, in bytes
    at_most: int | None = None  # more bytes than this are never taken
    hashes: Mapping[str, str] = field(default_factory=dict)  # published ones by algorithm


@dataclass(frozen=True)
class Patience:
    """How long a server may take, in seconds, and how often it is asked."""

    connect: float = 20.0
    stall: float = 60.0  # without a byte
    attempts: int = 5  # in a row that bring nothing new
    first_wait: float = 1.0  # before the second attempt; doubled each time
    longest_wait: float = 60.0  # whatever the server asks

    def wait(self, failures: int, asked: float | None) -> float:
        """Return how many seconds to wait after so many failures in a row; a little by chance."""
        doubled = self.first_wait * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
        return min(asked if asked is not None else doubled, self.longest_wait)


def transfer(
    url: str, target: Path, expected: Expected, patience: Patience | None = None, progress: bool = True
) -> str:
    """Fetch ``url`` into ``target``, which appears complete and checked or not at all.

    What has come is kept beside it (``.part``, with a note of what it is a part of): a transfer that broke
    off, even by a kill, goes on where it was if the server says that the file is still the same. Returns what
    was checked, in words; `SourceFailed` has the reason when it is of no use to try longer.
    """
    under_way = _Transfer(url, target, expected, patience or Patience(), progress)
    if under_way.complete():
        # pieces of two versions may have met: then a whole one decides
        with contextlib.suppress(SourceFailed):
            return under_way.finish()
        under_way.complete()
    return under_way.finish()


class _Note(msgspec.Struct, frozen=True):
    """What a part is a part of."""

    url: str = ""
    validator: str | None = None  # by what the server knows this version again: a strong ETag, else its date
    total: int | None = None  # bytes of the whole file, as announced


class _Transfer:
    """One address, and the part of its file that has come."""

    def __init__(
        self, url: str, target: Path, expected: Expected, patience: Patience, progress: bool
    ) -> None:
        self.url, self.target, self.expected, self.patience = url, target, expected, patience
        self.progress = progress
        self.part = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")

    @property
    def bytes(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def complete(self) -> bool:
        """Attempt until all bytes are there; return whether some of them came in an earlier attempt."""
        failures, best, resumed = 0, self.bytes, False
        while True:
            try:
                return self._attempt() or resumed
            except _TryAgain as failure:
                failures = failure.weight + (0 if self.bytes > best else failures)
                best, resumed = max(best, self.bytes), resumed or self.bytes > 0
                if failures >= self.patience.attempts:
                    raise SourceFailed(str(failure)) from failure
                time.sleep(self.patience.wait(failures, failure.after))

    def finish(self) -> str:
        """Check the part and make it the whole file, or forget it."""
        try:
            checked = check_file(self.part, self.expected)
        except SourceFailed:
            self._discard()
            raise
        self.part.replace(self.target)
        self._discard()
        return checked

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _attempt(self) -> bool:
        """Make one request and take what it gives; return whether it went on from an earlier one."""
        note = self._read_note()
        # without a validator only a hash will tell if the pieces do not belong together
        usable = note.url == self.url and (note.validator or self.expected.hashes)
        start = self.bytes if usable else 0
        if start and start == (note.total or self.expected.size):
            return True  # a kill came between the last byte and the check
        headers = {"Accept-Encoding": "identity", "User-Agent": "gl-ris"}
        if start:
            headers["Range"] = f"bytes={start}-"
            headers |= {"If-Range": note.validator} if note.validator else {}
        times = (self.patience.connect, self.patience.stall)
        try:
            with requests.get(self.url, headers=headers, stream=True, timeout=times) as response:
                start = self._judge(response, start, note)
                self._take(response, start)
        except (requests.TooManyRedirects, ValueError) as error:
            raise SourceFailed(_reason(error)) from error
        except requests.RequestException as error:
            raise _TryAgain(_reason(error), weight=2) from error
        except HTTPError as error:
            raise _TryAgain(f"{_reason(error)}, after {self.bytes:,} bytes") from error
        return start > 0

    def _read_note(self) -> _Note:
        try:
            return msgspec.json.decode(self.note.read_bytes(), type=_Note)
        except (OSError, ValueError):
            return _Note()

    def _judge(self, response: requests.Response, start: int, note: _Note) -> int:
        """Judge an answer by its head; return the byte that its body begins with."""
        first = (response.history or [response])[0].url
        if first.startswith("https:") and not response.url.startswith("https:"):
            raise SourceFailed("it redirects to an address without encryption")
        code, said = response.status_code, f"{response.status_code} {response.reason}".strip()
        if code in _ANSWERS["passing"]:
            after = response.headers.get("Retry-After", "")
            raise _TryAgain(said, float(after) if after.isdigit() else None)
        if code == 416 or (code == 206 and not _is_rest(response, start, note)):
            self._discard()
            raise _TryAgain("it sends another piece than was asked for")
        if code not in (200, 206):
            raise SourceFailed(said)
        if "text/html" in response.headers.get("Content-Type", ""):
            raise SourceFailed("a web page came in place of the file")
        if code == 200:
            self._begin(response)
        return start if code == 206 else 0

    def _begin(self, response: requests.Response) -> None:
        """Note what the bytes to come are a part of; the note is there before the first of them."""
        length, expected = response.headers.get("Content-Length", ""), self.expected
        total = int(length) if length.isdigit() else None
        if total is not None and expected.size not in (None, total):
            raise SourceFailed(f"it announces {total:,} bytes, expected {expected.size:,}")
        if expected.at_most is not None and (total or 0) > expected.at_most:
            raise SourceFailed(f"it announces {total:,} bytes, far more than about {expected.at_most // 2:,}")
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self._discard()
        self.note.write_bytes(msgspec.json.encode(_Note(self.url, _validator(response), total)))

    def _take(self, response: requests.Response, start: int) -> None:
        """Write the body to the part, watching its beginning and its length."""
        got, total = start, self._read_note().total
        at_most = total or self.expected.size or self.expected.at_most
        bar = byte_bar(self.target.name, total or self.expected.size, self.progress, start)
        with bar, self.part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            # `iter_content` would lose the part of a chunk that came before the connection broke
            while chunk := response.raw.read1(_CHUNK, decode_content=False):
                if got == 0:
                    check_beginning(chunk[:64], self.expected)
                got += len(chunk)
                if at_most is not None and got > at_most:
                    raise SourceFailed(f"it sends more than {at_most:,} bytes")
                file.write(chunk)
                bar.update(len(chunk))


def _is_rest(response: requests.Response, start: int, note: _Note) -> bool:
    """Return whether an answer is the very rest: of the same version, from the very byte."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if not start or not found or int(found[1]) != start:
        return False
    return note.validator in (None, _validator(response)) and note.total in (None, int(found[2]))


def _validator(response: requests.Response) -> str | None:
    """Return the strong ETag, else the date; a weak one promises no equal bytes (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _reason(error: BaseException) -> str:
    """Say in a few words what is behind an error of the network libraries."""
    found = next((words for sign, words in _ANSWERS["reasons"].items() if sign in str(error)), None)
    return found or in_short(error, typed=True)


def check_beginning(first: bytes, expected: Expected) -> None:
    """Raise `SourceFailed` if the first bytes of a file are a web page's, or not of the kind expected."""
    kinds = MAGIC[expected.magic]
    page = first.lstrip().lower().startswith(_PAGES)
    if page and (b"" in kinds or not first.startswith(kinds)):
        raise SourceFailed("a web page came in place of the file")
    if not first.startswith(kinds):
        raise SourceFailed(f"what came is no {expected.magic} file: it begins with {first[:4]!r}")


def check_file(path: Path, expected: Expected) -> str:
    """Return what was checked of a whole file, e.g. "size and sha256"; `SourceFailed` says what is wrong."""
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        raise SourceFailed(f"it has {size:,} bytes, expected {expected.size:,}")
    with path.open("rb") as file:
        check_beginning(file.read(64), expected)
        for name, value in expected.hashes.items():
            file.seek(0)
            if (found := hashlib.file_digest(file, name).hexdigest()) != value:
                raise SourceFailed(f"its {name} is {found}, expected {value}")
    checked = ["size"] * (expected.size is not None) + list(expected.hashes)
    return " and ".join(checked) or "first bytes only: no size or hash is published"


def byte_bar(title: str, total: int | None, progress: bool, done: int = 0) -> tqdm:
    """Make a bar of bytes, shown on terminals only."""
    disable = None if progress else True
    return tqdm(total=total, initial=done, desc=title, unit="B", unit_scale=True, disable=disable)
