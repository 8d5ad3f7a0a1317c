"""Parquet files, read a few rows at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.images import read_image
from datamodules.records import ImageRecord, Key
from gl_ris.errors import UserError

_ROWS_AT_ONCE = 256
_IMAGES_AT_ONCE = 8
_BUFFER = 1 << 20
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row is.

    Attributes:
        path: The file.
        group: Index of its row group.
        row: Index inside of the group.
    """

    path: Path
    group: int
    row: int


def parquet_library() -> Any:
    """Import ``pyarrow.parquet``.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet files need pyarrow, an optional extra; install it: pip install 'pyarrow>=17'."
        ) from error
    return pyarrow.parquet


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a file, of which only the end is read.

    Raises:
        UserError: If pyarrow or the file is missing, or it is no parquet file.
    """
    with _named(path), _open(path) as file:
        return list(file.schema_arrow.names)


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Read some columns of all rows, in order; no other column is touched.

    Args:
        path: The file.
        columns: Names of columns that it has.

    Yields:
        Where the row is, and the row by column.

    Raises:
        UserError: If pyarrow or the file is missing, or the file is damaged.
    """
    with _named(path), _open(path) as file:
        for group in range(file.num_row_groups):
            number = 0
            for batch in _batches(file, _ROWS_AT_ONCE, group, columns):
                for row in batch.to_pylist():
                    yield Place(path, group, number), row
                    number += 1


class ParquetImages:
    """Reads images that lie inside of parquet files, encoded as jpeg or png.

    One row group is streamed at a time, page by page, so that scenes in the order of the rows cost one pass
    over the files. A step back begins the row group anew. Every process opens the files itself.

    Args:
        places: Where the image of each image id is.
        column: The column; its values are the encoded image or a dict that has it as ``bytes``.
    """

    def __init__(self, places: Mapping[Key, Place], column: str = "image") -> None:
        self.places = places
        self.column = column
        self._group: tuple[Path, int] | None = None
        self._next = 0
        self._values: Iterator[Any] = iter(())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the open file."""
        return type(self), (self.places, self.column)

    def __call__(self, record: ImageRecord) -> Tensor:
        """Read the image of ``record``, uint8 ``(3, H, W)``; see `datamodules.images.read_image`.

        Raises:
            ValueError: If there is none, or it is damaged or of another size; the message is the reason.
        """
        content = self._content(self.places[record.image_id])
        return read_image(io.BytesIO(content), record.height, record.width)

    def _content(self, place: Place) -> bytes:
        try:
            value = self._value(place)
        except UserError:
            raise
        except Exception as error:  # damage inside of a file shows as nearly every exception there is
            self._group = None
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"image cannot be read from '{place.path.name}' ({reason:.120})") from error
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError(f"'{place.path.name}' holds no image in row {place.row} of group {place.group}")
        return content

    def _value(self, place: Place) -> Any:
        if self._group != (place.path, place.group) or place.row < self._next:
            self._group, self._next = (place.path, place.group), 0
            self._values = _column_values(place, self.column)
        for value in self._values:
            self._next += 1
            if self._next > place.row:
                return value.as_py()
        raise ValueError("the file has become shorter")


def _column_values(place: Place, column: str) -> Iterator[Any]:
    with _open(place.path) as file:
        for batch in _batches(file, _IMAGES_AT_ONCE, place.group, [column]):
            yield from batch.column(0)


def _open(path: Path) -> Any:
    return parquet_library().ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)


def _batches(file: Any, size: int, group: int, columns: Sequence[str]) -> Iterator[Any]:
    """Read batches of rows without threads, which would not outlive a fork into workers."""
    return file.iter_batches(size, row_groups=[group], columns=list(columns), use_threads=False)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises into an error that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # pyarrow's exceptions have no base of their own below Exception
        raise UserError(f"'{path}' is not a readable parquet file ({_reason(path, error)}).") from error


def _reason(path: Path, error: Exception) -> str:
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                return "it is the pointer that git leaves without LFS; run: git lfs pull"
    return f"{' '.join(str(error).split()) or type(error).__name__:.200}; fetch the file anew"
