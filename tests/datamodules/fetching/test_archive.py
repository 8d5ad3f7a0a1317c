from __future__ import annotations

import os
import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from datamodules.fetching.archive import move_into_place, name_fault, unpack
from datamodules.fetching.transfer import SourceFailed

ALL = {"": ""}


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_come_to_their_place_and_others_are_named(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(3_000_000)
    members = {"set/refs(unc).p": content, "set/deep/a.json": b"{}", "__MACOSX/x": b"?", "more/b": b"b"}
    archive = make_zip(tmp_path / "a", members)
    place = {"set/": "data/", "more/b": "moved/c"}
    assert unpack(archive, tmp_path / "out", place, 10**7, progress=False) == ["__MACOSX/x"]
    assert files(tmp_path / "out") == {
        "data/refs(unc).p": content,
        "data/deep/a.json": b"{}",
        "moved/c": b"b",
    }


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "//x", "a/..", "..", "C:/x", "a\\..\\x", "a\nb", "./../x"],
)
def test_a_name_that_leads_out_refuses_the_archive(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "a", {"good": b"1", name: b"2"})
    with pytest.raises(SourceFailed, match="was refused"):
        unpack(archive, tmp_path / "deep" / "out", ALL, 10**6, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    assert not Path("/etc/x").exists()


def test_a_name_cut_by_a_nul_byte_is_judged_as_written(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a", {"goodX/../x": b"2"})
    archive.write_bytes(archive.read_bytes().replace(b"goodX", b"good\0"))
    with pytest.raises(SourceFailed, match="was refused"):
        unpack(archive, tmp_path / "out", ALL, 10**6, progress=False)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_refuse_it(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as file:
        info = zipfile.ZipInfo("inside")
        info.external_attr = (kind | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(SourceFailed, match="'inside' is a link or a device"):
        unpack(tmp_path / "a", tmp_path / "out", ALL, 10**6, progress=False)


def test_a_bomb_is_refused_by_what_it_announces(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a", {f"{n}": bytes(1_000_000) for n in range(20)}, zipfile.ZIP_DEFLATED)
    assert archive.stat().st_size < 10**7
    with pytest.raises(SourceFailed, match="unpack to more than 10,000,000 bytes"):
        unpack(archive, tmp_path / "out", ALL, 10_000_000, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_bomb_that_announces_too_little_is_stopped(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a", {"0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    data = archive.read_bytes()
    archive.write_bytes(data.replace(struct.pack("<L", 50_000_000), struct.pack("<L", 1000)))
    with pytest.raises(SourceFailed, match=r"longer than it says|damaged"):
        unpack(archive, tmp_path / "out", ALL, 10_000_000, progress=False)
    assert sum(len(content) for content in files(tmp_path / "out").values()) <= 2_000_000


def test_an_archive_inside_is_a_file_like_any_other(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner", {"0": bytes(10_000_000)}, zipfile.ZIP_DEFLATED).read_bytes()
    archive = make_zip(tmp_path / "a", {"inner.zip": inner})
    unpack(archive, tmp_path / "out", ALL, 100_000, progress=False)
    assert files(tmp_path / "out") == {"inner.zip": inner}


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.97])
def test_an_archive_that_breaks_off_is_damaged(tmp_path: Path, keep: float) -> None:
    archive = make_zip(tmp_path / "a", {str(n): random.Random(n).randbytes(10_000) for n in range(20)})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(SourceFailed, match="damaged"):
        unpack(archive, tmp_path / "out", ALL, 10**6, progress=False)


def test_flipped_bytes_are_found_by_the_checksum(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(100_000)
    archive = make_zip(tmp_path / "a", {"x": content})
    data = bytearray(archive.read_bytes())
    data[50_000] ^= 1
    archive.write_bytes(data)
    with pytest.raises(SourceFailed, match="damaged"):
        unpack(archive, tmp_path / "out", ALL, 10**6, progress=False)
    assert "x" not in files(tmp_path / "out")


def test_an_encrypted_or_doubled_member_refuses_the_archive(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a", {"x": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(SourceFailed, match="'x' is encrypted"):
        unpack(archive, tmp_path / "out", ALL, 10**6, progress=False)
    doubled = make_zip(tmp_path / "b", {"one/x": b"1", "two/x": b"2"})
    with pytest.raises(SourceFailed, match="two members would become 'x'"):
        unpack(doubled, tmp_path / "out", {"one/": "", "two/": ""}, 10**6, progress=False)


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"readme": b"1"})
    with pytest.raises(SourceFailed, match=r"a\.zip holds none of the files it should"):
        unpack(archive, tmp_path / "out", {"set/": ""}, 10**6, progress=False)


def test_what_an_interrupted_call_left_is_taken_over(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a", {"x": b"12345", "y": b"67"})
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_bytes(b"12345")
    (out / ".y.draft").write_bytes(b"6")
    before = os.stat(out / "x").st_mtime_ns
    unpack(archive, out, ALL, 100, progress=False)
    assert files(out) == {"x": b"12345", "y": b"67"}
    assert os.stat(out / "x").st_mtime_ns == before


def test_moving_keeps_what_is_there_and_refuses_to_replace_it(tmp_path: Path) -> None:
    draft, root = tmp_path / "draft", tmp_path / "root"
    for path, content in {"set/a": b"1", "set/deep/b": b"2", "new/c": b"3"}.items():
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        (draft / path).write_bytes(content)
    (root / "set").mkdir(parents=True)
    (root / "set" / "mine").write_bytes(b"mine")
    (root / "set" / "a").write_bytes(b"another")
    with pytest.raises(FileExistsError):
        move_into_place(draft, root)
    assert files(root) == {"set/mine": b"mine", "set/a": b"another"}
    (root / "set" / "a").unlink()
    move_into_place(draft, root)
    assert files(root) == {"set/mine": b"mine", "set/a": b"1", "set/deep/b": b"2", "new/c": b"3"}


@pytest.mark.parametrize("name", ["a", "a/b.jpg", "refs(unc).p", "ä/狗", "a b", "..a", "a../b", "a/C:b"])
def test_ordinary_names_are_fine(name: str) -> None:
    assert name_fault(name) is None
