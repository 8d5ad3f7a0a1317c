from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules.fetching.transfer import Expected, Patience, SourceFailed, transfer

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file.bin"


def fetch(url: str, target: Path, patience: Patience, **expected: Any) -> str:
    return transfer(url, target, Expected(**expected), patience, progress=False)


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir()) if target.parent.is_dir() else []


def test_a_file_comes_and_is_checked(
    server: Any, target: Path, hasty: Patience, sha256: Callable[[bytes], str]
) -> None:
    url = server.serve("/f", CONTENT)
    words = fetch(url, target, hasty, size=len(CONTENT), hashes={"sha256": sha256(CONTENT)})
    assert words == "size and sha256"
    assert target.read_bytes() == CONTENT
    assert left(target) == ["file.bin"]


def test_what_broke_off_goes_on_where_it_was(server: Any, behave: Any, target: Path, hasty: Patience) -> None:
    url = server.serve("/f", CONTENT, behave(stop=100_000), behave(stop=50_000), behave())
    fetch(url, target, hasty)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert [headers.get("If-Range") for _, headers in server.seen] == [None, '"1"', '"1"']


def test_a_later_call_goes_on_where_an_earlier_one_was(
    server: Any, behave: Any, target: Path, hasty: Patience
) -> None:
    url = server.serve("/f", CONTENT, behave(stop=100_000), behave(stop=0))
    with pytest.raises(SourceFailed, match="it broke off, after 100,000 bytes"):
        fetch(url, target, hasty)
    assert left(target) == ["file.bin.part", "file.bin.part.json"]
    server.seen.clear()
    server.serve("/f", CONTENT)
    fetch(url, target, hasty)
    assert target.read_bytes() == CONTENT
    assert server.ranges == ["bytes=100000-"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(
    server: Any, behave: Any, target: Path, hasty: Patience
) -> None:
    url = server.serve("/f", CONTENT, behave(stop=100_000, ranges=False), behave(ranges=False))
    fetch(url, target, hasty)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-"]


def test_a_file_that_changed_meanwhile_is_read_from_the_start(
    server: Any, behave: Any, target: Path, hasty: Patience
) -> None:
    url = server.serve("/f", CONTENT, behave(stop=100_000), behave(stop=0))
    with pytest.raises(SourceFailed):
        fetch(url, target, hasty)
    server.serve("/f", OTHER, behave(etag='"2"'))
    fetch(url, target, hasty)
    assert target.read_bytes() == OTHER


def test_a_changed_file_is_noticed_although_the_server_sends_its_rest(
    server: Any, behave: Any, target: Path, hasty: Patience
) -> None:
    def careless(handler: Any, content: bytes) -> None:
        wanted = handler.headers.get("Range")
        if not wanted:
            behave(etag='"2"')(handler, content)
            return
        start = int(wanted[6:-1])
        end = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206, len(content) - start, ETag='"2"', Content_Range=end)
        handler.wfile.write(content[start:])

    url = server.serve("/f", CONTENT, behave(stop=100_000), behave(stop=0))
    with pytest.raises(SourceFailed):
        fetch(url, target, hasty)
    server.serve("/f", OTHER, careless)
    fetch(url, target, hasty)
    assert target.read_bytes() == OTHER


def test_without_a_validator_a_hash_decides_whether_the_pieces_fit(
    server: Any, behave: Any, target: Path, hasty: Patience, sha256: Callable[[bytes], str]
) -> None:
    url = server.serve("/f", CONTENT, behave(stop=100_000, etag=None), behave(stop=0, etag=None))
    hashes = {"sha256": sha256(OTHER)}
    with pytest.raises(SourceFailed, match="broke off"):
        fetch(url, target, hasty, hashes=hashes)
    server.seen.clear()
    server.serve("/f", OTHER, behave(etag=None))
    fetch(url, target, hasty, hashes=hashes)
    assert target.read_bytes() == OTHER
    assert server.ranges == ["bytes=100000-", None]  # the mixture fails, a whole one is fetched


@pytest.mark.parametrize("etag", [None, 'W/"1"'], ids=["none", "weak"])
def test_without_a_validator_or_hash_it_starts_anew(
    server: Any, behave: Any, target: Path, hasty: Patience, etag: str | None
) -> None:
    url = server.serve("/f", CONTENT, behave(stop=100_000, etag=etag), behave(etag=etag))
    fetch(url, target, hasty)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_whole_part_of_a_call_that_was_killed_is_checked_and_taken(
    server: Any, target: Path, hasty: Patience
) -> None:
    url = server.serve("/f", CONTENT)
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(CONTENT)
    note = {"url": url, "validator": '"1"', "total": len(CONTENT)}
    target.with_name("file.bin.part.json").write_text(json.dumps(note))
    fetch(url, target, hasty)
    assert target.read_bytes() == CONTENT
    assert server.seen == []
    assert left(target) == ["file.bin"]


def test_a_server_that_announced_too_much_is_asked_once_more(
    server: Any, behave: Any, target: Path, hasty: Patience
) -> None:
    def all_but_the_end(handler: Any, content: bytes) -> None:
        handler.head(200, len(content) + 1, ETag='"1"')  # so that the client waits for one byte more
        handler.wfile.write(content)

    url = server.serve("/f", CONTENT, all_but_the_end, behave())
    fetch(url, target, hasty, size=None)
    assert target.read_bytes() == CONTENT


def test_a_stalling_server_is_left_and_asked_again(
    server: Any, behave: Any, target: Path, hasty: Patience
) -> None:
    url = server.serve("/f", CONTENT, behave(stop=100_000, pause=300), behave())
    start = time.monotonic()
    fetch(url, target, replace(hasty, stall=2))
    assert target.read_bytes() == CONTENT
    assert time.monotonic() - start < 200
    assert server.ranges == [None, "bytes=100000-"]


def test_a_busy_server_is_waited_for(
    server: Any, behave: Any, status: Any, target: Path, hasty: Patience
) -> None:
    url = server.serve("/f", CONTENT, status(503, Retry_After="7200"), status(429), behave())
    start = time.monotonic()
    fetch(url, target, hasty)
    assert target.read_bytes() == CONTENT
    assert time.monotonic() - start < 200  # not the two hours it asks for: `longest_wait`


@pytest.mark.parametrize(
    ("code", "requests", "match"),
    [(404, 1, "404 Not Found"), (403, 1, "403 Forbidden"), (410, 1, "410 Gone"), (503, 3, "503 Service Una")],
)
def test_a_refusal_is_told_and_only_a_passing_one_repeated(
    server: Any, status: Any, target: Path, hasty: Patience, code: int, requests: int, match: str
) -> None:
    url = server.serve("/f", b"", status(code))
    with pytest.raises(SourceFailed, match=match):
        fetch(url, target, hasty)
    assert len(server.seen) == requests
    assert left(target) == []


@pytest.mark.parametrize(
    ("behaviour", "content", "match"),
    [
        ({"kind": "text/html; charset=utf-8"}, b"<html>sign in</html>", "a web page came in place"),
        ({}, b"\n<!DOCTYPE html><html>gone", "a web page came in place"),
        ({}, b"neither zip nor page", "what came is no zip file: it begins with b'neit'"),
        ({}, b"", "no zip file"),
    ],
    ids=["page-by-type", "page-by-looks", "other", "empty"],
)
def test_what_is_plainly_not_the_file_is_refused(
    server: Any,
    behave: Any,
    target: Path,
    hasty: Patience,
    behaviour: dict[str, Any],
    content: bytes,
    match: str,
) -> None:
    url = server.serve("/f", content, behave(**behaviour))
    with pytest.raises(SourceFailed, match=match):
        fetch(url, target, hasty, magic="zip")
    assert not target.exists()


def test_the_wrong_bytes_are_refused_and_not_kept(
    server: Any, target: Path, hasty: Patience, sha256: Callable[[bytes], str]
) -> None:
    url = server.serve("/f", OTHER)
    with pytest.raises(SourceFailed, match=f"its sha256 is {sha256(OTHER)}, expected {sha256(CONTENT)}"):
        fetch(url, target, hasty, size=len(CONTENT), hashes={"sha256": sha256(CONTENT)})
    assert left(target) == []
    assert len(server.seen) == 1


def test_another_size_is_refused_before_anything_is_fetched(
    server: Any, target: Path, hasty: Patience
) -> None:
    url = server.serve("/f", CONTENT)
    with pytest.raises(SourceFailed, match="announces 300,000 bytes, expected 300,001"):
        fetch(url, target, hasty, size=300_001)
    with pytest.raises(SourceFailed, match="announces 300,000 bytes, far more than about 1,000"):
        fetch(url, target, hasty, at_most=2_000)
    assert left(target) == []


def test_a_wrong_announcement_never_makes_a_whole_file(
    server: Any, behave: Any, target: Path, hasty: Patience
) -> None:
    url = server.serve("/f", CONTENT, behave(announce=400_000))
    with pytest.raises(SourceFailed, match=r"it broke off, after 300,000 bytes|another piece"):
        fetch(url, target, hasty)
    assert not target.exists()


def test_too_short_an_announcement_is_found_by_the_size(
    server: Any, behave: Any, in_chunks: Any, target: Path, hasty: Patience
) -> None:
    url = server.serve("/f", CONTENT, in_chunks)
    with pytest.raises(SourceFailed, match="sends more than 200,000 bytes"):
        fetch(url, target, hasty, size=200_000)
    with pytest.raises(SourceFailed, match="it has 300,000 bytes, expected 400,000"):
        fetch(url, target, hasty, size=400_000)
    fetch(url, target, hasty, size=300_000)
    assert target.read_bytes() == CONTENT


def test_redirects_are_followed_but_not_in_a_circle(
    server: Any, status: Any, target: Path, hasty: Patience
) -> None:
    server.serve("/f", CONTENT)
    url = server.serve("/old", b"", status(302, Location="/f"))
    fetch(url, target, hasty)
    assert target.read_bytes() == CONTENT
    circle = server.serve("/circle", b"", status(302, Location="/circle"))
    with pytest.raises(SourceFailed, match="redirects in a circle"):
        fetch(circle, target.with_name("other"), hasty)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("http://127.0.0.1:1/f", "the connection was refused"),
        ("http://no.such.host.invalid/f", "no such host, or no network"),
        ("nonsense", "MissingSchema"),
    ],
)
def test_no_server_is_a_reason_not_a_crash(target: Path, hasty: Patience, url: str, match: str) -> None:
    with pytest.raises(SourceFailed, match=match):
        fetch(url, target, hasty)
    assert left(target) == []


@pytest.mark.parametrize("note", [b"", b"[1]", b"{", b'{"url": "elsewhere"}'])
def test_a_damaged_note_only_costs_what_had_come(
    server: Any, target: Path, hasty: Patience, note: bytes
) -> None:
    url = server.serve("/f", CONTENT)
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(b"x" * 1000)
    target.with_name("file.bin.part.json").write_bytes(note)
    fetch(url, target, hasty)
    assert target.read_bytes() == CONTENT


def test_waits_grow_and_end() -> None:
    patience = Patience(first_wait=1, longest_wait=60)
    waits = [patience.wait(n, None) for n in range(1, 10)]
    for n, wait in enumerate(waits[:5]):
        assert 0.75 * 2**n <= wait <= 1.25 * 2**n
    assert waits[-1] == 60
    assert patience.wait(1, 17.0) == 17
    assert patience.wait(1, 9999.0) == 60
