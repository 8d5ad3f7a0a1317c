"""Lists of expressions to keep, or to leave out: a cleaned data set is such a list beside the whole one."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import msgspec

from datamodules.files import MAX_PICKLE, Id
from datamodules.records import ImageRecord, Referent
from gl_ris.errors import UserError, in_short
from gl_ris.expression_ids import ExpressionIds, Key, expression_keys
from gl_ris.files import decode
from gl_ris.hashes import sha256_of

_SHOWN = 3  # so many unknown ids are named


class _Row(msgspec.Struct):
    """What a list says of an expression; rows of another split are left alone."""

    sent_id: Id
    ref_id: Id | None = None
    split: str | None = None


def _json(path: Path) -> Sequence[Id | _Row]:
    return decode(path, list[Id | _Row], "JSON list of sentence ids", "Entries are ids or have sent_id.")


def _csv(path: Path) -> Sequence[Id | _Row]:
    with io.StringIO(path.read_text(encoding="utf-8-sig"), newline="") as text:
        rows = [{name: cell or None for name, cell in row.items() if name} for row in csv.DictReader(text)]
    return msgspec.convert(rows, list[_Row])


def _text(path: Path) -> Sequence[Id | _Row]:
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


READERS: dict[str, Callable[[Path], Sequence[Id | _Row]]] = {".json": _json, ".csv": _csv}


def listed(path: Path, ids: ExpressionIds, split: str) -> set[Key]:
    """Read a list: JSON (ids, or objects with ``sent_id``), CSV with that column, or a text with one a line.

    ``ref_id`` beside it, or the id ``<ref_id>_<sent_id>``, says which is meant where a ``sent_id`` repeats.
    A `UserError` if the file is missing or damaged, or names what is no expression of the split.
    """
    try:
        if path.stat().st_size > MAX_PICKLE:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        rows = READERS.get(path.suffix.lower(), _text)(path)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"The list of expressions '{path}' cannot be read ({in_short(error)}).") from error
    found, wrong = set[Key](), list[str]()
    for row in rows:
        try:
            if not isinstance(row, _Row):
                found.add(ids.named(str(row)))
            elif row.split in (None, split):
                found.add(ids.find({"sent_id": row.sent_id, "ref_id": row.ref_id}))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        some = "; ".join([*wrong[:_SHOWN], *(["..."] if len(wrong) > _SHOWN else [])])
        fix = "take them out, or choose their data by data= and split="
        raise UserError(f"'{path}': {len(wrong):,} of {len(rows):,} ids cannot be used: {some}; {fix}.")
    return found


class Filter:
    """The lists that a data module is given, and what became of them."""

    def __init__(self, sentences: str | Path | None, without: str | Path | None) -> None:
        given = {"sentences": sentences, "without": without}
        self.files = {name: Path(path).expanduser() for name, path in given.items() if path is not None}
        self.told: list[dict[str, Any]] = []  # for results: each list, and how many expressions it left out

    def apply(self, records: list[ImageRecord], split: str) -> list[ImageRecord]:
        """Return the records with the expressions that stay, and no image without one; see `listed`."""
        self.told = []
        ids = ExpressionIds(expression_keys(records) if self.files else ())
        for option, path in self.files.items():
            before = set(expression_keys(records))
            named = listed(path, ids, split)
            kept = before & named if option == "sentences" else before - named
            records = [left for record in records if (left := _left(record, kept)).referents]
            said = {"option": f"data.{option}", "file": path.name, "sha256": sha256_of(path)}
            self.told.append({**said, "n_expressions_left_out": len(before) - len(kept)})
        return records


def _left(record: ImageRecord, kept: set[Key]) -> ImageRecord:
    referents = []
    for ref in record.referents:
        stays = [(record.image_id, ref.ref_id, sent_id) in kept for sent_id in ref.sent_ids]
        referents += [_cut(ref, stays)] if any(stays) else []
    return dataclasses.replace(record, referents=tuple(referents))


def _cut(ref: Referent, stays: Sequence[bool]) -> Referent:
    # what was typed is not known of every data set
    parts = {name: part for name in ("sentences", "sent_ids", "raw") if (part := getattr(ref, name))}
    cut: dict[str, Any] = {name: tuple(compress(part, stays)) for name, part in parts.items()}
    return dataclasses.replace(ref, **cut)
