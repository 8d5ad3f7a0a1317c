from __future__ import annotations

import io
import multiprocessing
import os
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.fetching.catalogue import Item, item_from
from datamodules.fetching.obtain import FetchFailed, Settings, obtain
from datamodules.fetching.transfer import Patience
from gl_ris.errors import UserError

MEMBERS = {"toy/refs(unc).p": b"\x80\x02]q\x00.", "toy/instances.json": b"{}" * 20_000}


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zipped(MEMBERS)


def toy(urls: list[str], **download: Any) -> Item:
    entry = {
        "title": "a toy",
        "terms": "none",
        "makes": [{"path": "toy/refs(unc).p"}, {"path": "toy/instances.json"}],
        "other_sources": ["a friend"],
        "downloads": [
            {
                "file": "toy.zip",
                "magic": "zip",
                "size": len(ARCHIVE),
                "unpacked": 100_000,
                "place": {"toy/": "toy/"},
                "urls": urls,
                **download,
            }
        ],
    }
    return item_from("toy", entry)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def settings(tmp_path: Path, hasty: Patience, said: list[str]) -> Settings:
    return Settings(tmp_path / "data", hasty, progress=False, say=said.append)


def files(folder: Path) -> list[str]:
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"
    )


DONE = ["toy/instances.json", "toy/refs(unc).p"]


def test_the_first_source_that_gives_the_file_is_taken(
    server: Any, behave: Any, settings: Settings, said: list[str], sha256: Callable[[bytes], str]
) -> None:
    page = server.serve("/page", b"<html>", behave(kind="text/html"))
    wrong = server.serve("/wrong", bytes(len(ARCHIVE)))
    good, unused = server.serve("/good", ARCHIVE), server.serve("/unused", ARCHIVE)
    item = toy([server.url("/none"), page, wrong, good, unused], sha256=sha256(ARCHIVE))
    obtain(item, settings)
    assert files(settings.root) == DONE
    assert (settings.root / "toy/instances.json").read_bytes() == MEMBERS["toy/instances.json"]
    assert [path for path, _ in server.seen] == ["/none", "/page", "/wrong", "/good"]
    told = "\n".join(said)
    assert "404 Not Found" in told
    assert "a web page came" in told
    assert "no zip file" in told
    assert said[-1] == "  done; checked: size and sha256"
    assert f"  from {good}" in said


def test_a_second_call_does_nothing_and_says_so(server: Any, settings: Settings, said: list[str]) -> None:
    item = toy([server.serve("/f", ARCHIVE)])
    obtain(item, settings)
    server.seen.clear()
    before = {p: os.stat(settings.root / p).st_mtime_ns for p in files(settings.root)}
    said.clear()
    obtain(item, settings)
    assert said == ["toy: already there", "  done; checked: names and numbers of files"]
    assert server.seen == []
    assert {p: os.stat(settings.root / p).st_mtime_ns for p in files(settings.root)} == before


def test_what_was_lost_is_fetched_again_and_what_was_put_there_by_hand_is_taken(
    server: Any, settings: Settings, said: list[str]
) -> None:
    item = toy([server.serve("/f", ARCHIVE)])
    obtain(item, settings)
    (settings.root / "toy/instances.json").unlink()
    obtain(item, settings)
    assert files(settings.root) == DONE
    for name, content in MEMBERS.items():
        (settings.root / name).write_bytes(content)
    server.seen.clear()
    said.clear()
    obtain(item, settings)
    assert said[0] == "toy: already there"
    assert server.seen == []


def test_where_no_source_answers_it_says_what_to_put_where(
    server: Any, status: Any, settings: Settings, sha256: Callable[[bytes], str]
) -> None:
    gone, down = server.serve("/gone", b"", status(410)), "http://127.0.0.1:1/toy.zip"
    with pytest.raises(FetchFailed) as raised:
        obtain(toy([gone, down], sha256=sha256(ARCHIVE)), settings)
    root = settings.root
    assert str(raised.value).splitlines() == [
        "toy could not be fetched:",
        f"  {gone}",
        "      410 Gone",
        f"  {down}",
        "      the connection was refused",
        "",
        "To get it by hand, bring these files:",
        f"  {root}/toy/refs(unc).p",
        f"  {root}/toy/instances.json",
        "",
        f"Or only the file toy.zip ({len(ARCHIVE):,} bytes, sha256 {sha256(ARCHIVE)}), as",
        f"  {root}/downloads/toy.zip",
        "",
        "Other places to look:",
        "  a friend",
        "",
        "Then run the same command again: it checks what is there (toy).",
    ]


def test_an_archive_brought_by_hand_is_checked_and_used(server: Any, settings: Settings) -> None:
    item = toy([server.url("/none")])
    settings.downloads.mkdir(parents=True)
    (settings.downloads / "toy.zip").write_bytes(ARCHIVE[:-1])
    with pytest.raises(
        UserError, match=r"toy\.zip' is not the file that it should be: it has .* Move it away"
    ):
        obtain(item, settings)
    (settings.downloads / "toy.zip").write_bytes(ARCHIVE)
    obtain(item, settings)
    assert files(settings.root) == DONE
    assert server.seen == []


def test_a_hostile_archive_leaves_nothing_behind(server: Any, settings: Settings) -> None:
    hostile = zipped({**MEMBERS, "../../escaped": b"x"})
    item = toy([server.serve("/f", hostile)], size=len(hostile))
    with pytest.raises(FetchFailed, match=r"'\.\./\.\./escaped' leads out of its folder"):
        obtain(item, settings)
    assert files(settings.root.parent) == []


def test_a_bomb_is_bounded_by_what_the_catalogue_expects(server: Any, settings: Settings) -> None:
    with pytest.raises(FetchFailed, match="more than 3,000 bytes"):
        obtain(toy([server.serve("/f", ARCHIVE)], unpacked=1000), settings)
    assert files(settings.root) == []


def test_a_file_that_is_there_and_differs_is_not_replaced(server: Any, settings: Settings) -> None:
    (settings.root / "toy").mkdir(parents=True)
    (settings.root / "toy/instances.json").write_bytes(b"mine")
    item = toy([server.serve("/f", ARCHIVE)])
    with pytest.raises(UserError, match=r"instances\.json' is there already and differs"):
        obtain(item, settings)
    assert (settings.root / "toy/instances.json").read_bytes() == b"mine"
    (settings.root / "toy/instances.json").unlink()
    server.seen.clear()
    obtain(item, settings)
    assert files(settings.root) == DONE
    assert server.seen == []  # what was fetched had been kept


def test_other_files_of_the_folder_stay(server: Any, settings: Settings) -> None:
    (settings.root / "toy/images").mkdir(parents=True)
    (settings.root / "toy/images/1.jpg").write_bytes(b"mine")
    obtain(toy([server.serve("/f", ARCHIVE)]), settings)
    assert files(settings.root) == sorted([*DONE, "toy/images/1.jpg"])


def test_an_archive_that_lacks_something_is_told(server: Any, settings: Settings) -> None:
    lacking = zipped({"toy/instances.json": b"{}"})
    with pytest.raises(FetchFailed, match=r"lacks toy/refs\(unc\)\.p"):
        obtain(toy([server.serve("/f", lacking)], size=len(lacking)), settings)


def test_a_single_file_goes_to_its_place(server: Any, settings: Settings) -> None:
    entry = {
        "title": "weights",
        "terms": "none",
        "makes": [{"path": "weights/w.pth"}],
        "downloads": [
            {
                "file": "w.pth",
                "magic": "torch",
                "about": 2 * len(ARCHIVE),
                "place": {"": "weights/w.pth"},
                "urls": [server.serve("/w", ARCHIVE)],
            }
        ],
    }
    obtain(item_from("w", entry), settings)
    assert files(settings.root) == ["weights/w.pth"]
    (settings.root / "weights/w.pth").write_bytes(b"<html>sign in</html>")  # as a browser may have saved it
    with pytest.raises(UserError, match=r"w\.pth' is not the file that it should be: a web page came"):
        obtain(item_from("w", entry), settings)


def test_a_disk_that_may_not_be_written_is_a_sentence(server: Any, settings: Settings) -> None:
    settings.root.write_bytes(b"a file where the folder should be")
    with pytest.raises(
        UserError, match=r"(exists|Not a directory)\. Mend that, or give --root another folder"
    ):
        obtain(toy([server.serve("/f", ARCHIVE)]), settings)


def _obtain(item: Item, root: Path, patience: Patience) -> None:
    obtain(item, Settings(root, patience, progress=False, say=lambda _: None))


def _start(item: Item, settings: Settings) -> Any:
    process = multiprocessing.get_context("fork").Process(
        target=_obtain, args=(item, settings.root, settings.patience)
    )
    process.start()
    return process


def test_a_process_killed_in_the_middle_costs_only_what_had_not_come(
    server: Any, behave: Any, settings: Settings, hasty: Patience
) -> None:
    url = server.serve("/f", ARCHIVE, behave(stop=20_000, pause=30), behave())
    item = toy([url])
    process = _start(item, Settings(settings.root, Patience(stall=60)))
    part = settings.downloads / "toy.zip.part"
    for _ in range(10_000):
        if part.is_file() and server.seen:
            break
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.join(5)
    obtain(item, settings)
    assert files(settings.root) == DONE


def test_two_processes_at_once_fetch_it_once(server: Any, behave: Any, settings: Settings) -> None:
    url = server.serve("/f", ARCHIVE, behave(stop=20_000, pause=0.2), behave())
    processes = [_start(toy([url]), settings) for _ in range(3)]
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert files(settings.root) == DONE
    assert server.ranges == [None, "bytes=20000-"]
