"""A small parquet file can stand for a large table; it is refused before it is unpacked."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from datamodules import RefCOCOM
from datamodules.hf.files import read_rows
from datamodules.hf.pages import footer, pages
from datamodules.hf.rows import refcoco_m_row
from gl_ris.errors import UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGE = {"bytes": b"x", "path": "a"}
SAMPLE = {"id": 1, "sentences": ["a dog"], "mask": {"counts": "04", "size": [2, 2]}}


def write(path: Path, samples: Any, image: Any = IMAGE, rows: int = 1, **options: Any) -> Path:
    columns = {"image": [image] * rows, "image_id": list(range(rows)), "file_name": ["a.jpg"] * rows}
    table = pa.table({**columns, "samples": pa.array([samples] * rows)})
    pq.write_table(table, path, **{"compression": "zstd", **options})
    return path


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}], ids=str)
def test_the_pages_are_those_of_the_footer(options: dict[str, Any]) -> None:
    file = io.BytesIO()
    table = pa.table({"a": list(range(30_000)), "b": [[str(k)] * (k % 4) for k in range(30_000)]})
    pq.write_table(table, file, data_page_size=5_000, row_group_size=10_000, **options)
    metadata = pq.ParquetFile(file).metadata
    for group, number in ((g, n) for g in range(3) for n in range(2)):
        chunk = metadata.row_group(group).column(number)
        known = footer(file)[4][group][1][number][3]
        assert known[3] == [part.encode() for part in chunk.path_in_schema.split(".")]
        assert (known[7], known[9]) == (chunk.total_compressed_size, chunk.data_page_offset)
        assert known.get(11) == chunk.dictionary_page_offset
        start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
        found = list(pages(file, start, chunk.total_compressed_size))
        headers = chunk.total_compressed_size - sum(page.packed for page in found)
        assert sum(page.unpacked for page in found) + headers == chunk.total_uncompressed_size
        texts = found[1:] if chunk.has_dictionary_page else found
        assert sum(page.values for page in texts) == chunk.num_values


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}], ids=str)
def test_a_text_of_hundreds_of_megabytes_in_a_small_file(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path / "a.parquet", [{**SAMPLE, "sentences": ["a" * 100_000_000]}], **options)
    assert path.stat().st_size < 20_000
    before = pa.total_allocated_bytes()
    with pytest.raises(
        UserError, match=r"of its column 'samples.*sentences.*' would unpack to 100,000,0\d\d by"
    ):
        next(read_rows(path, RefCOCOM.columns))
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_an_image_of_hundreds_of_megabytes_in_a_small_file(tmp_path: Path) -> None:
    write(tmp_path / "validation.parquet", [SAMPLE], {"bytes": bytes(100_000_000), "path": "a"})
    (scene,) = RefCOCOM(tmp_path, proposals=None).predict_dataloader()
    assert "of its column 'image.bytes' would unpack to 100,000," in str(scene.error)


def test_one_text_many_times_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{**SAMPLE, "sentences": ["a" * 9_999] * 50_000}])
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match=r"1 of its rows hold 499,9\d\d,\d+ bytes"):
        next(read_rows(path, RefCOCOM.columns))


def test_more_values_than_a_file_can_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{**SAMPLE, "sentences": [None] * 5_000_000}])
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match=r"would unpack to 5,\d+,\d+ values or more|to [\d,]+ values or more"):
        next(read_rows(path, RefCOCOM.columns))


def test_what_is_packed_well_is_read(tmp_path: Path) -> None:
    texts = ["the same dog " * 100] * 20
    path = write(tmp_path / "a.parquet", [{**SAMPLE, "sentences": texts}], rows=500)
    rows = [row for _, row in read_rows(path, RefCOCOM.columns)]
    assert len(rows) == 500
    record = refcoco_m_row(rows[7], "row", "val")
    assert record.referents[0].sentences == tuple(texts)


@pytest.mark.parametrize("cut", [0, 1, 3, 30])
def test_a_damaged_header_is_told(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.parquet", [SAMPLE])
    content = bytearray(path.read_bytes())
    start = 4 + cut
    content[start : start + 12] = b"\xff" * 12
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is not a readable parquet file|was refused"):
        list(read_rows(path, ["image"]))
