"""One file over HTTP: resumed where it broke off, retried with patience, checked before it counts."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm.auto import tqdm

from datamodules.fetching.errors import SourceFailed, TryAgain
from datamodules.fetching.partial import Partial
from datamodules.fetching.response import Answer, read_answer
from datamodules.fetching.verify import Expected, check_beginning, check_file

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Patience:
    """How long a server may take.

    Attributes:
        connect: Seconds for a connection.
        stall: Seconds without a byte, and the span over which `slowest` is measured.
        slowest: Bytes a second below which a transfer counts as stalled.
        attempts: Attempts in a row that may bring nothing new.
        first_wait: Seconds before the second attempt; doubled each time.
        longest_wait: Seconds that are waited at most, whatever the server asks.
    """

    connect: float = 20.0
    stall: float = 60.0
    slowest: float = 100.0
    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def wait(self, failures: int, asked: float | None) -> float:
        """Return how many seconds to wait after so many failures in a row; a little by chance."""
        doubled = self.first_wait * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
        return min(asked if asked is not None else doubled, self.longest_wait)


def transfer(
    url: str, target: Path, expected: Expected, patience: Patience | None = None, progress: bool = True
) -> str:
    """Fetch ``url`` into ``target``, which appears complete and checked or not at all.

    What has come so far is kept beside it (``.part``, with a note of what it is a part of), so that a
    transfer that broke off, even by a kill, goes on where it was, if the server says that the file is still
    the same.

    Args:
        url: Where the file is.
        target: Where it is to be.
        expected: What is known of it.
        patience: How long to wait and how often to try.
        progress: Show a bar, on a terminal.

    Returns:
        What was checked, in words.

    Raises:
        SourceFailed: With the reason, when it is of no use to try longer.
    """
    patience = patience or Patience()
    part = Partial(target)
    with requests.Session() as session, _bar(target.name, expected, progress) as bar:
        resumed = _complete(session, url, part, expected, patience, bar)
        try:
            checked = check_file(part.path, expected, progress)
        except SourceFailed:
            part.discard()
            if not resumed:
                raise
            # Pieces of two versions may have met; a whole one decides.
            _complete(session, url, part, expected, patience, bar)
            checked = _checked_or_gone(part, expected, progress)
    part.finish()
    return checked


def _checked_or_gone(part: Partial, expected: Expected, progress: bool) -> str:
    try:
        return check_file(part.path, expected, progress)
    except SourceFailed:
        part.discard()
        raise


def _complete(
    session: requests.Session, url: str, part: Partial, expected: Expected, patience: Patience, bar: tqdm
) -> bool:
    """Attempt until all bytes are there; return whether some of them came in an earlier attempt."""
    failures, best, resumed = 0, part.bytes, False
    while True:
        try:
            return _attempt(session, url, part, expected, patience, bar) or resumed
        except TryAgain as failure:
            # A few bytes more are no progress: a dripping server would be asked for ever.
            moved = part.bytes - best > patience.slowest * patience.stall
            failures = failure.weight + (0 if moved else failures)
            best, resumed = max(best, part.bytes), resumed or part.bytes > 0
            if failures >= patience.attempts:
                raise SourceFailed(str(failure)) from failure
            time.sleep(patience.wait(failures, failure.after))


def _attempt(
    session: requests.Session, url: str, part: Partial, expected: Expected, patience: Patience, bar: tqdm
) -> bool:
    """Make one request and take what it gives; return whether it went on from an earlier one."""
    offset = part.resumable_from(url, safe=bool(expected.hashes))
    headers = {"Accept-Encoding": "identity", "User-Agent": "gl-ris", **part.conditions(offset)}
    try:
        with session.get(
            url, headers=headers, stream=True, timeout=(patience.connect, patience.stall)
        ) as response:
            answer = read_answer(response, part, offset, expected)
            if answer.complete:
                return True
            part.begin(url, answer)
            bar.reset(answer.total or expected.size)
            bar.update(answer.start)
            _take(response, part, answer, expected, patience, bar)
    except (requests.TooManyRedirects, ValueError) as error:
        raise SourceFailed(_reason(error)) from error
    except requests.RequestException as error:
        raise TryAgain(_reason(error), weight=2) from error
    return answer.start > 0


def _take(
    response: requests.Response,
    part: Partial,
    answer: Answer,
    expected: Expected,
    patience: Patience,
    bar: tqdm,
) -> None:
    """Write the body to the part file, watching its beginning, its speed and its length."""
    at_most = answer.total or expected.size or expected.at_most
    got, window, window_start = answer.start, 0, time.monotonic()
    with part.open(answer.start) as file:
        while chunk := _read(response, answer.total is not None):
            if got == 0:
                check_beginning(chunk[:64], expected)
            got += len(chunk)
            window += len(chunk)
            if at_most is not None and got > at_most:
                raise SourceFailed(f"it sends more than {at_most:,} bytes")
            file.write(chunk)
            bar.update(len(chunk))
            if (spent := time.monotonic() - window_start) > patience.stall:
                if window < patience.slowest * spent:
                    raise TryAgain(f"it stalls: {window:,} bytes in {spent:.0f} s")
                window, window_start = 0, time.monotonic()
    if answer.total is not None and got < answer.total:
        raise TryAgain(f"it broke off at {got:,} of {answer.total:,} bytes")


def _read(response: requests.Response, length_known: bool) -> bytes:
    """Read what is there: `iter_content` would wait for a full chunk, however slowly it drips."""
    from urllib3.exceptions import HTTPError

    try:
        return response.raw.read1(_CHUNK, decode_content=False)
    except (HTTPError, OSError) as error:
        if length_known and "IncompleteRead" in str(error):
            return b""  # the caller counts, and says it better
        raise TryAgain(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """Say in a few words what is behind an error of the network libraries."""
    text = str(error)
    known = {
        "Read timed out": "it stalls: no byte came in time",
        "connect timeout": "no connection in time",
        "timed out": "no connection in time",
        "NameResolution": "no such host, or no network",
        "Failed to resolve": "no such host, or no network",
        "Connection refused": "the connection was refused",
        "Network is unreachable": "no network",
        "IncompleteRead": "it broke off",
        "Connection reset": "it broke off",
        "Connection aborted": "it broke off",
        "CERTIFICATE": "its certificate is not valid",
        "redirects": "it redirects in a circle",
    }
    found = next((words for sign, words in known.items() if sign in text), None)
    return found or f"{type(error).__name__}: {' '.join(text.split())[:200]}"


def _bar(name: str, expected: Expected, progress: bool) -> tqdm:
    """Make a bar of bytes, shown on terminals only."""
    return tqdm(total=expected.size, desc=name, unit="B", unit_scale=True, disable=None if progress else True)
