"""What a server's answer means for the transfer."""

from __future__ import annotations

import re
from dataclasses import dataclass

import requests

from datamodules.fetching.errors import SourceFailed, TryAgain
from datamodules.fetching.partial import Partial
from datamodules.fetching.verify import Expected

# Answers of a server that is busy rather than without the file.
_PASSING = {408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524}
_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-(?P<last>\d+)|\*)/(?P<total>\d+|\*)")


@dataclass(frozen=True)
class Answer:
    """What comes.

    Attributes:
        start: The byte that the body begins with.
        total: Size of the whole file as announced, or None.
        validator: By what the server knows this version again (a strong ETag, else its date), or None.
        complete: Whether all bytes are there already.
    """

    start: int
    total: int | None
    validator: str | None
    complete: bool = False


def read_answer(response: requests.Response, part: Partial, offset: int, expected: Expected) -> Answer:
    """Judge an answer by its head.

    Args:
        response: The answer.
        part: What has come before.
        offset: The byte from which the rest was asked for.
        expected: What is known of the file.

    Raises:
        SourceFailed: The source does not have the file, or has another one.
        TryAgain: It is busy, or the part at hand is of no use (and gone).
    """
    _check_encryption(response)
    if response.status_code == 416:
        return _nothing_left(response, part, offset, expected)
    _check_status(response)
    if "text/html" in response.headers.get("Content-Type", ""):
        raise SourceFailed("a web page came in place of the file")
    answer = _rest(response, part, offset) if response.status_code == 206 else _whole(response)
    if expected.size is not None and answer.total not in (None, expected.size):
        raise SourceFailed(f"it announces {answer.total:,} bytes, expected {expected.size:,}")
    if expected.at_most is not None and (answer.total or 0) > expected.at_most:
        raise SourceFailed(
            f"it announces {answer.total:,} bytes, far more than about {expected.at_most // 2:,}"
        )
    return answer


def _check_encryption(response: requests.Response) -> None:
    first = (response.history or [response])[0].url
    if first.startswith("https:") and not response.url.startswith("https:"):
        raise SourceFailed("it redirects to an address without encryption")


def _check_status(response: requests.Response) -> None:
    code = response.status_code
    said = f"{code} {response.reason}".strip()
    if code in _PASSING:
        after = response.headers.get("Retry-After", "")
        raise TryAgain(said, float(after) if after.isdigit() else None)
    if code not in (200, 206):
        raise SourceFailed(said)


def _whole(response: requests.Response) -> Answer:
    length = response.headers.get("Content-Length", "")
    plain = response.headers.get("Content-Encoding", "identity") == "identity"
    return Answer(0, int(length) if length.isdigit() and plain else None, _validator(response))


def _rest(response: requests.Response, part: Partial, offset: int) -> Answer:
    """Accept the rest only if it is the very rest: of the same version, from the very byte."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    total = int(found["total"]) if found and found["total"].isdigit() else None
    note = part.note
    same = note.get("validator") in (None, _validator(response)) and note.get("total") in (None, total)
    if not found or not found["first"] or int(found["first"]) != offset or not offset or not same:
        part.discard()
        raise TryAgain("it sends another piece than was asked for")
    return Answer(offset, total, note.get("validator"))


def _nothing_left(response: requests.Response, part: Partial, offset: int, expected: Expected) -> Answer:
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    total = int(found["total"]) if found and found["total"].isdigit() else None
    if offset and offset == (total or expected.size) and part.note.get("total") in (None, offset):
        return Answer(offset, offset, None, complete=True)
    part.discard()
    raise TryAgain("it has fewer bytes than came before")


def _validator(response: requests.Response) -> str | None:
    """Return the strong ETag, else the date; a weak one promises no equal bytes (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")
