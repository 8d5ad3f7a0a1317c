"""What there is to check of a folder of one's own: its rows, by the column ``split`` where it has one."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from datamodules.checking.problems import Problems
from datamodules.own_folder import ALL, Folder, find_annotations, records_of, rows_of
from datamodules.own_rows import BadRow, Row
from datamodules.records import ImageRecord


def own_overview(folder: Path, problems: Problems) -> tuple[dict[str, dict[str, int]], dict[str, set[Any]]]:
    """Count expressions, masks and images by split, and tell every row that cannot be used."""
    rows, bad = rows_of(find_annotations(folder), ALL)
    records, more = _records(folder, rows)
    for line, reason in sorted([*bad, *more]):
        problems.add("row", f"line {line}: {reason}")
    sound = {ref.ref_id: record.image_id for record in records for ref in record.referents}
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.id in sound:
            found[row.split or ALL].append(row)
    images = {split: {sound[row.id] for row in own} for split, own in found.items()}
    counts = {
        split: {
            "expressions": len(own),
            "with masks": sum(row.mask is not None for row in own),
            "images": len(images[split]),
        }
        for split, own in found.items()
    }
    return counts, images


class SoundRows(Folder):
    """The rows of a split that can be used, ``all`` being those that name none."""

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Return a record per image."""
        rows, _ = rows_of(find_annotations(self.root), ALL)
        return _records(self.root, [row for row in rows if (row.split or ALL) == self.split])[0]


def _records(folder: Path, rows: list[Row]) -> tuple[list[ImageRecord], list[BadRow]]:
    return records_of(rows, folder, folder, upright=True, allow_missing=False)
