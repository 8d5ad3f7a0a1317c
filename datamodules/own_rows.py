"""The rows of a CSV or JSONL file of one's own: what is asked about which image."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from datamodules.files import MAX_PICKLE, Id, clean_text
from datamodules.records import Key
from gl_ris.errors import UserError, did_you_mean, in_short

SUFFIXES = (".csv", ".jsonl")
COLUMNS = ("file", "expression", "mask", "id", "split")
_NEEDED = COLUMNS[:2]
_DELIMITERS = ",;\t"  # what spreadsheets write between cells, by country
_LONGEST = 1 << 27  # characters of a cell: a large outline as text

BadRow = tuple[int, str]  # number of its line, and what is wrong with it


class Row(NamedTuple):
    """One expression about one image."""

    line: int  # of the file that it stands in, from 1 on
    file: str
    expression: str
    mask: Any  # a path, or an outline as JSON or as what is made of it; None where there is none
    id: Key  # the number of the line where the file has no ids
    split: str | None


def read_rows(path: Path) -> tuple[list[Row], list[BadRow]]:
    """Read a file of rows; return the sound ones, and what is wrong with the others.

    `UserError` if it cannot be read, has no row, lacks a column, or has one of nearly a known name.
    """
    try:
        if path.stat().st_size > MAX_PICKLE:
            raise UserError(f"'{path}' is a file of {path.stat().st_size:,} bytes, more than is read.")
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UserError(f"'{path}' cannot be read ({in_short(error)}); save it as UTF-8.") from error
    contents = list(_csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(text))
    if not contents:
        raise UserError(f"'{path}' has no row.")
    if columns := {name for _, content in contents if isinstance(content, dict) for name in content}:
        _check_columns(path, columns)
    ids = any(isinstance(content, dict) and content.get("id") not in (None, "") for _, content in contents)
    rows, bad = [], []
    for line, content in contents:
        try:
            rows.append(_row(line, content, ids))
        except ValueError as reason:
            bad.append((line, str(reason)))
    return rows, bad


_Content = tuple[int, dict[str, Any] | str]  # What a line holds; of one that cannot be read, the reason.


def _csv_rows(path: Path, text: str) -> Iterator[_Content]:
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    before = csv.field_size_limit(_LONGEST)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = [name.strip() for name in next(lines, [])]
        start = lines.line_num + 1
        for cells in lines:
            if len(cells) > len(names):
                yield start, f"it has {len(cells)} cells, the first line {len(names)}"
            elif any(cells):
                yield start, dict(zip(names, cells, strict=False))
            start = lines.line_num + 1
    except csv.Error as error:
        raise UserError(f"'{path}' is no CSV from line {start} on: {in_short(error)}.") from error
    finally:
        csv.field_size_limit(before)


def _json_rows(text: str) -> Iterator[_Content]:
    # lines end where JSON's do, not at every character that Unicode takes for an end
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(line, type=dict[str, Any])
            except (ValueError, RecursionError) as error:
                yield number, f"it is no JSON object ({in_short(error)})"


def _check_columns(path: Path, columns: Iterable[str]) -> None:
    """Refuse a file without a needed column, or with one whose name is nearly that of one that is missing."""
    missing = [name for name in COLUMNS if name not in columns]
    for name in sorted(set(columns) - set(COLUMNS)):
        if hint := did_you_mean(name, missing):
            raise UserError(f"'{path}' has a column '{name:.60}'.{hint}")
    if lacking := [name for name in _NEEDED if name in missing]:
        known = f"the columns are {', '.join(COLUMNS)}, of which the first two must be there"
        raise UserError(f"'{path}' lacks the column {' and '.join(lacking)}; {known}.")


def _row(line: int, content: dict[str, Any] | str, ids: bool) -> Row:
    """Check the fields of a row; ValueError with what is wrong."""
    if isinstance(content, str):
        raise ValueError(content)
    file, expression = (_text(content, name) for name in _NEEDED)
    mask, key, split = (content.get(name) for name in COLUMNS[2:])
    if not isinstance(mask, str | list | dict | None):
        raise ValueError(f"mask is {mask!r:.60}, neither a file nor an outline")
    if isinstance(mask, str):
        mask = mask.strip() or None
    return Row(line, file, expression, mask, _id(key) if ids else line, str(split) if split else None)


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str | None):
        raise ValueError(f"{name} is {value!r:.60}, which is no text")
    if value is None or not value.strip():
        raise ValueError(f"{name} is empty")
    return clean_text(value.strip())


def _id(key: Any) -> Key:
    if key is None or key == "":
        raise ValueError("id is empty, while other rows have one")
    try:
        return msgspec.convert(key, Id)
    except msgspec.ValidationError as error:
        raise ValueError(f"id is {key!r:.60}, neither a short text nor a whole number") from error
