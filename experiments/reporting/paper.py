"""The numbers that the paper publishes, from ``configs/paper.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from experiments.cli.command import CONFIGS
from gl_ris.errors import unknown_name


@dataclass(frozen=True)
class PaperTable:
    """One published table.

    Attributes:
        number: Its number in the paper.
        source: The paper.
        note: What must be known to compare with it.
        columns: ``(data set, partition, split)`` of each column.
        rows: Figures by row, one value per column, None where the paper has none; and ``encoder``.
    """

    number: str
    source: str
    note: str
    columns: Sequence[tuple[str, ...]]
    rows: Mapping[str, Mapping[str, Any]]

    def check(self, rows: Iterable[str]) -> None:
        """Check that the table has these rows.

        Raises:
            UserError: It lacks one.
        """
        for row in rows:
            if row not in self.rows:
                raise unknown_name(f"row of the paper's table {self.number}", row, self.rows)

    def figures(self, row: str, place: tuple[str, ...]) -> dict[str, float]:
        """Return the figures of a row at ``(data set, partition, split)``, in percent; empty if none."""
        if place not in self.columns:
            return {}
        index = self.columns.index(place)
        found = {name: values[index] for name, values in self.rows[row].items() if name != "encoder"}
        return {name: value for name, value in found.items() if value is not None}

    def encoder(self, row: str) -> str:
        """Return the encoder of a row, empty if it has none."""
        return str(self.rows[row].get("encoder", ""))


def paper_table(number: str) -> PaperTable:
    """Return a table of the paper.

    Raises:
        UserError: There is none of that number.

    Example:
        >>> paper_table("3").figures("local x local", ("refcocog", "umd", "val"))
        {'oIoU': 25.23}
    """
    document = yaml.safe_load((CONFIGS / "paper.yaml").read_text(encoding="utf-8"))
    if number not in document["tables"]:
        raise unknown_name("table of the paper", number, document["tables"])
    table = document["tables"][number]
    columns = [tuple(column.split()) for column in table["columns"]]
    return PaperTable(number, document["source"], table["note"], columns, table["rows"])
