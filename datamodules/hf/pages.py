"""How much a column of a parquet file will be when it is unpacked, read off before anything is.

What the footer says of it may be wrong; what counts while it is read are the headers of its pages. Both are
records in Thrift's compact protocol, read here, and nothing of the pages themselves is. pyarrow is not asked
for chunks, since a damaged footer may end the process then.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gl_ris.errors import UserError

# What a column of a row group may be without a doubt, in bytes and in values; and by how much its pages may
# be packed beyond that. Annotations are packed to a twentieth, images not at all.
_PLAIN_BYTES, _PLAIN_VALUES = 32 << 20, 1 << 20
_MOST_PACKED = 100
_LARGEST_HEADER = 1 << 20  # A header has tens of bytes, and hundreds if it has statistics with long values.

# numbers of the fields of a footer, a row group, a chunk, what is known of a chunk, and the header of a page
_GROUPS, _CHUNKS, _KNOWN = 4, 1, 3
_PATH, _SIZE, _DATA_OFFSET, _DICTIONARY_OFFSET = 3, 7, 9, 11
_UNPACKED, _PACKED, _DATA, _DICTIONARY, _DATA_2 = 2, 3, 5, 7, 8


class Page(NamedTuple):
    """What the header of a page says."""

    packed: int  # bytes in the file, without the header
    unpacked: int  # bytes
    values: int


def check_columns(path: Path, columns: Sequence[str], group: int | None = None) -> None:
    """Raise a `UserError` if a column, by its first name, would unpack to more than a true one can.

    All row groups are looked at, or one; a `ValueError` if the file is damaged.
    """
    with path.open("rb") as file:
        groups = footer(file)[_GROUPS]
        for own in groups if group is None else [groups[group]]:
            for chunk in own[_CHUNKS]:
                if chunk[_KNOWN][_PATH][0].decode() in columns:
                    _check(path, file, chunk[_KNOWN])


def footer(file: BinaryIO) -> dict[int, Any]:
    """Read the footer of a file, by the numbers of its fields."""
    end = file.seek(-8, 2)
    size = int.from_bytes(file.read(4), "little")
    if size > end:
        raise ValueError("the footer is damaged")
    file.seek(end - size)
    return _Reader(file, size).struct()


def _check(path: Path, file: BinaryIO, chunk: dict[int, Any]) -> None:
    start, size = chunk[_DATA_OFFSET], chunk[_SIZE]
    if 0 < chunk.get(_DICTIONARY_OFFSET, 0) < start:
        start = chunk[_DICTIONARY_OFFSET]
    unpacked = values = 0
    for page in pages(file, start, size):
        unpacked, values = unpacked + page.unpacked, values + page.values
        for total, plain, what in ((unpacked, _PLAIN_BYTES, "bytes"), (values, _PLAIN_VALUES, "values")):
            if total > max(plain, _MOST_PACKED * size):
                name = b".".join(chunk[_PATH]).decode()
                raise UserError(
                    f"'{path}' was refused: {size:,} bytes of its column '{name}' would unpack to "
                    f"{total:,} {what} or more. Fetch the file from a source you trust."
                )


def pages(file: BinaryIO, start: int, size: int) -> Iterator[Page]:
    """Yield the pages of a column chunk; a `ValueError` where the file is damaged."""
    place = start
    while place < start + size:
        file.seek(place)
        header = _Reader(file, _LARGEST_HEADER)
        fields = header.struct()
        kinds = [fields[kind] for kind in (_DATA, _DICTIONARY, _DATA_2) if isinstance(fields.get(kind), dict)]
        said = [fields.get(_PACKED), fields.get(_UNPACKED), *(kind.get(1) for kind in kinds)]
        numbers = [number for number in said if type(number) is int and number >= 0]
        if len(numbers) < len(said):
            raise ValueError("the header of a page is damaged")
        yield Page(numbers[0], numbers[1], sum(numbers[2:]))
        place = file.tell() + numbers[0]


class _Reader:
    """Reads values of Thrift's compact protocol from a file, at most so many bytes; none has a map."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

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
            return self._take(8)
        if kind == 8:
            return self._take(self._varint())
        if kind in (9, 10) and depth < 8:
            head = self._byte()
            count = min(head >> 4 if head < 0xF0 else self._varint(), self._left + 1)
            return [self._value(head & 0x0F, depth + 1) for _ in range(count)]
        if kind == 12 and depth < 8:
            return self.struct(depth + 1)
        raise ValueError("a record is damaged")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number
            if shift > 63:
                raise ValueError("a record is damaged")

    def _zigzag(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _take(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0 or len(read := self._file.read(count)) < count:
            raise ValueError("a record breaks off")
        return read
