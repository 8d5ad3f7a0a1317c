"""The expressions of a report: what each method of each run made of them, as the page's script reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from experiments.reporting.comparison import Key, Run, labels_of
from gl_ris.headroom import KINDS
from gl_ris.misses import HIT, Seen
from gl_ris.predictions import Prediction
from gl_ris.slices import Slicing

UNEXPLAINED, UNMEASURED = "missed", "not measured"
# what the page calls each kind, and in a sentence behind a method
LABELS: Mapping[str, Sequence[str]] = {
    HIT: ("hit", "took the target (IoU of 0.5 or more)"),
    **KINDS,
    UNEXPLAINED: ("missed", "missed the target"),
    UNMEASURED: ("not measured", "was not measured: the data have no target"),
}


@dataclass(frozen=True)
class Column:
    """A method of a run, and its records in the order of the page."""

    label: str
    run: int
    method: str
    records: Sequence[Prediction]
    seen: Mapping[int | str, Seen]  # what the run tells of each image

    def kind(self, record: Prediction) -> str:
        """Return one of `LABELS`."""
        if record.iou is None:
            return UNMEASURED
        if (seen := self.seen.get(record.image_id)) is not None:
            return seen.kind(record)
        return HIT if 2 * (record.intersection or 0) >= (record.union or 0) > 0 else UNEXPLAINED

    def result(self, record: Prediction) -> dict[str, Any]:
        """Say what was made of an expression; a key only where it says something."""
        seen = self.seen.get(record.image_id)
        ious = seen.ious(record) if seen is not None else []
        best = max(range(len(ious)), key=ious.__getitem__, default=None)
        said = {
            "kind": list(LABELS).index(self.kind(record)),
            "iou": None if record.iou is None else round(record.iou, 4),
            "score": None if record.score is None else float(f"{record.score:.5g}"),
            "choice": record.choice,
            "chosen": record.chosen,
            "failure": record.failure,
            "tied": record.tied or None,
            "abstained": record.abstained or None,
            "best": None if best is None else [best, round(ious[best], 4)],
            "ranked": [[n, x, round(ious[n], 4) if ious else None] for n, x in record.ranked or ()],
        }
        return {name: value for name, value in said.items() if value not in (None, [])}


def columns_of(runs: Sequence[Run], keys: Sequence[Key]) -> list[Column]:
    """Lay out the methods of runs, those of one name beside each other."""
    labels, columns = labels_of([run.path for run in runs]), []
    names = dict.fromkeys(method for run in runs for method in run.methods)
    for method in names:
        for place, run in enumerate(runs):
            if method not in run.methods:
                continue
            label = f"{labels[place]}: {method}" if len(runs) > 1 else method
            records = [run.methods[method][key] for key in keys]
            columns.append(Column(label, place, method, records, _seen(run)))
    return columns


def _seen(run: Run) -> dict[int | str, Seen]:
    records = (record for own in run.methods.values() for record in own.values())
    return {record.image_id: Seen(record.image) for record in records if record.image is not None}


def document(columns: Sequence[Column], slices: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return what the script reads: names once, and for each expression what is known of it."""
    first = columns[0]
    images = list(dict.fromkeys(record.image_id for record in first.records))
    places = {image: place for place, image in enumerate(images)}
    of = _slices_of(first, slices)
    items = []
    for row, record in enumerate(first.records):
        parsed = next((one.records[row].parsed for one in columns if one.records[row].parsed), None)
        phrase = next((one.records[row].noun_phrase for one in columns if one.records[row].noun_phrase), None)
        items.append(
            {
                "image": places[record.image_id],
                "ref": record.ref_id,
                "sent": record.sent_id,
                "text": record.expression,
                **({"phrase": phrase} if phrase else {}),
                **({"parsed": parsed} if parsed else {}),
                "slices": of[row],
                "results": _results([column.records[row] for column in columns], columns),
            }
        )
    return {
        "columns": [column.label for column in columns],
        "kinds": list(LABELS.values()),
        "names": list(LABELS),
        "slices": slices,
        "images": [[image, None, None] for image in images],
        "items": items,
    }


def _results(records: Sequence[Prediction], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Say what each column made of an expression; those of one mask are the ``same``."""
    masks = [str(record.segmentation) for record in records]
    pairs = zip(columns, records, masks, strict=True)
    return [{**column.result(record), "same": masks.index(mask)} for column, record, mask in pairs]


def _slices_of(column: Column, slices: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Return for each expression the numbers of the slices it is in."""
    facts = {image: seen.facts for image, seen in column.seen.items()}
    values = Slicing(replace(record, image=facts.get(record.image_id)) for record in column.records).values
    return [
        [number for number, (kind, value) in enumerate(slices) if value in values[kind][row]]
        for row in range(len(column.records))
    ]
