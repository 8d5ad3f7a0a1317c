"""Which files are taken, which are refused, and what the user is told."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import RefCOCOBenchmark, RefCOCOM
from datamodules.hf.files import check_form, find_split
from gl_ris.errors import UserError

Row = dict[str, Any]
Write = Callable[..., Path]
REFCOCO = "jxu124/refcoco"


@pytest.mark.parametrize(
    "name",
    [
        "jxu124/refcoco/data/validation-00000-of-00001-bfeafdc84ca37aa2.parquet",
        "refcoco/data/validation-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
        "validation-00000-of-00001.parquet",
        "refcoco/validation.parquet",
        "default/validation/0000.parquet",
    ],
)
def test_where_a_split_may_lie(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    assert find_split(REFCOCO, tmp_path, "validation") == [tmp_path / name]
    with pytest.raises(UserError, match="No parquet files of 'test' of jxu124/refcoco"):
        find_split(REFCOCO, tmp_path, "test")


def test_test_is_not_testb(tmp_path: Path) -> None:
    for name in ("test-00000-of-00001", "testB-00000-of-00001"):
        (tmp_path / f"{name}.parquet").touch()
    assert [path.name for path in find_split(REFCOCO, tmp_path, "test")] == ["test-00000-of-00001.parquet"]


def test_the_cache_of_the_hub_is_looked_into(tmp_path: Path, hub_cache: Path) -> None:
    repository = hub_cache / "datasets--jxu124--refcoco"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("1" * 40)
    folder = repository / "snapshots" / ("1" * 40) / "data"
    folder.mkdir(parents=True)
    (folder / "testB-00000-of-00001-60990e4598892dc1.parquet").touch()
    assert find_split(REFCOCO, tmp_path, "testB") == [
        folder / "testB-00000-of-00001-60990e4598892dc1.parquet"
    ]
    with pytest.raises(UserError, match="No parquet files of 'train'"):
        find_split(REFCOCO, tmp_path, "train")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["-00000-of-00001-0026a9046a1edcf9", "-00000-of-00001-82af0c1b600890ac"], "several versions of one"),
        (["-00000-of-00001", "-00000-of-00002", "-00001-of-00002"], "several versions of one split"),
        (["-00000-of-00003", "-00002-of-00003"], "lacks part 00001 of a split in 00003 parts"),
    ],
    ids=["two-revisions", "two-totals", "missing"],
)
def test_parts_that_do_not_make_a_split(tmp_path: Path, names: list[str], match: str) -> None:
    for name in names:
        (tmp_path / f"test{name}.parquet").touch()
    with pytest.raises(UserError, match=match):
        find_split(REFCOCO, tmp_path, "test")


def test_what_is_nowhere_comes_with_what_to_put_where(tmp_path: Path, hub_cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        RefCOCOBenchmark(tmp_path, split="testA").setup()
    text, name = str(caught.value), "jxu124/refcoco-benchmark"
    assert text.startswith(
        f"No parquet files of 'refcoco_unc_testA' of {name}: they are not in '{tmp_path}/jxu124"
    )
    for part in (
        str(hub_cache),
        f"Put data/refcoco_unc_testA-*.parquet of the repository into '{tmp_path}/{name}/data': ",
        f"hf download {name} --repo-type dataset --include 'data/refcoco_unc_testA-*' --local-dir '",
    ):
        assert part in text


def test_files_of_no_known_form_do_not_hide_what_is_absent(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "mine-0.parquet", "refcoco-m", [], without="samples")
    with pytest.raises(UserError, match="No parquet files of 'validation' of moondream/refcoco-m"):
        RefCOCOM(tmp_path).setup()


@pytest.mark.parametrize(
    ("form", "rows"),
    [("questions", [{"question_id": "1", "answer": ["a dog"], "segmentation": [1.0]}]), ("benchmark", [])],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, write: Write, form: str, rows: list[Row]) -> None:
    write(tmp_path / "validation-00000-of-00001.parquet", form, rows)
    with pytest.raises(UserError, match=r"of another form .* it lacks the columns image_id, "):
        RefCOCOM(tmp_path).setup()


def test_columns_that_are_missing_are_named(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path / "a.parquet", "refcoco-m", [], without="image")
    with pytest.raises(UserError, match=r"it lacks the columns image and has image_id, file_name, samples\."):
        check_form(path, (*RefCOCOM.columns, "image"))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a readable parquet file"),
        (b"<!doctype html>", "not a readable parquet file .*fetch the file anew"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n",
            "pointer .*run: git lfs pull",
        ),
        (b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1", "not a readable parquet file"),
    ],
    ids=["empty", "page", "lfs", "footer"],
)
def test_what_is_no_parquet_file_is_named(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "validation.parquet").write_bytes(content)
    with pytest.raises(UserError, match=match):
        RefCOCOM(tmp_path).setup()


def test_two_gigabytes_of_something_else_are_refused_at_once(tmp_path: Path) -> None:
    with (tmp_path / "validation.parquet").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(UserError, match="not a readable parquet file"):
        RefCOCOM(tmp_path).setup()


def test_text_that_is_no_utf8_is_named(tmp_path: Path, write: Write, m_rows: list[Row]) -> None:
    path = write(tmp_path / "validation.parquet", "refcoco-m", m_rows)
    path.write_bytes(path.read_bytes().replace("狗".encode(), b"\xff\xfe\xfd"))
    with pytest.raises(UserError, match=r"not a readable parquet file \('utf-8'"):
        RefCOCOM(tmp_path).setup()


def test_without_pyarrow_the_command_to_install_it(
    tmp_path: Path, write: Write, m_rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "validation.parquet", "refcoco-m", m_rows)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"pip install 'pyarrow>=17'"):
        RefCOCOM(tmp_path).setup()


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "validation.parquet"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_an_error_or_a_counted_failure(fuzzed: Path, data: st.DataObject) -> None:
    import pyarrow.parquet as pq

    if not fuzzed.with_suffix(".whole").exists():
        table = {
            "image": [{"bytes": b"\x89PNG" + bytes(90), "path": None}] * 3,
            "image_id": [1, 2, 3],
            "file_name": ["a", "b", "c"],
            "samples": [
                [{"id": k, "sentences": ["a dog"], "mask": {"counts": "l1", "size": [6, 10]}}]
                for k in range(3)
            ],
        }
        import pyarrow as pa

        pq.write_table(pa.table(table), fuzzed.with_suffix(".whole"), row_group_size=2)
    content = bytearray(fuzzed.with_suffix(".whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    fuzzed.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    found = []
    with contextlib.suppress(UserError):
        found = list(RefCOCOM(fuzzed.parent).predict_dataloader())
    assert all(scene.error for scene in found)  # the images of the whole file are no images
