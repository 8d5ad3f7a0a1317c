"""How much a column of a parquet file will be when it is unpacked, read off before anything is.

What the footer says of it may be wrong; what counts while it is read are the headers of its pages, small
records in Thrift's compact protocol. They are read here, and nothing of the pages themselves.
"""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from gl_ris.errors import UserError

# What a column of a row group may be without a doubt, in bytes and in values; and by how much its pages may
# be packed beyond that. Annotations are packed to a twentieth, images not at all.
_PLAIN_BYTES, _PLAIN_VALUES = 32 << 20, 1 << 20
_MOST_PACKED = 100
_LARGEST_HEADER = 1 << 20  # A header has tens of bytes, and hundreds if it has statistics with long values.

_UNPACKED, _PACKED, _DATA, _DICTIONARY, _DATA_2 = 2, 3, 5, 7, 8  # numbers of the fields of a page's header


class Page(NamedTuple):
    """What the header of a page says."""

    packed: int  # bytes in the file, without the header
    unpacked: int  # bytes
    values: int


def check_columns(
    path: str, file: BinaryIO, metadata: Any, columns: Sequence[str], groups: Sequence[int]
) -> None:
    """Raise a `UserError` if a column, by its first name, would unpack to more than a true one can.

    ``metadata`` is pyarrow's, of the file that is open; only its row ``groups`` are looked at.
    """
    for group in groups:
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            if chunk.path_in_schema.split(".")[0] in columns:
                _check(path, file, chunk)


def _check(path: str, file: BinaryIO, chunk: Any) -> None:
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None and 0 < chunk.dictionary_page_offset < start:
        start = chunk.dictionary_page_offset
    size = chunk.total_compressed_size
    unpacked = values = 0
    for page in pages(file, start, size):
        unpacked, values = unpacked + page.unpacked, values + page.values
        for total, plain, what in ((unpacked, _PLAIN_BYTES, "bytes"), (values, _PLAIN_VALUES, "values")):
            if total > max(plain, _MOST_PACKED * size):
                raise UserError(
                    f"'{path}' was refused: {size:,} bytes of its column '{chunk.path_in_schema}' would "
                    f"unpack to {total:,} {what} or more. Fetch the file from a source you trust."
                )


def pages(file: BinaryIO, start: int, size: int) -> Iterator[Page]:
    """Yield the pages of a column chunk; a `ValueError` where the file is damaged."""
    place = start
    while place < start + size:
        file.seek(place)
        header = _Reader(file)
        fields = header.struct()
        kinds = [fields[kind] for kind in (_DATA, _DICTIONARY, _DATA_2) if isinstance(fields.get(kind), dict)]
        said = [fields.get(_PACKED), fields.get(_UNPACKED), *(kind.get(1) for kind in kinds)]
        numbers = [number for number in said if type(number) is int and number >= 0]
        if len(numbers) < len(said):
            raise ValueError("the header of a page is damaged")
        yield Page(numbers[0], numbers[1], sum(numbers[2:]))
        place = file.tell() + numbers[0]


class _Reader:
    """Reads values of Thrift's compact protocol from a file, but for lists: a page's header has none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, _LARGEST_HEADER

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Read fields by number up to the stop byte."""
        fields: dict[int, Any] = {}
        last = 0
        while head := self._byte():
            number = last + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._value(head & 0x0F, depth)
            last = number
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._skip(8)
        if kind == 8:
            return self._skip(self._varint())
        if kind == 12 and depth < 8:
            return self.struct(depth + 1)
        raise ValueError("the header of a page is damaged")

    def _byte(self) -> int:
        self._left -= 1
        read = self._file.read(1)
        if not read or self._left < 0:
            raise ValueError("the header of a page breaks off")
        return read[0]

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number
            if shift > 63:
                raise ValueError("the header of a page is damaged")

    def _zigzag(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _skip(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError("the header of a page is too long")
        self._file.seek(count, 1)
