"""The table of a result document, as plain text and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gl_ris.files import atomic_file

_Row = tuple[str, list[float | None]]


def format_table(document: Mapping[str, Any]) -> str:
    """Lay out a result document as a plain text table, with counts and times under it.

    Args:
        document: As `result_document` builds it, or as read back from ``results.json``.

    Returns:
        Lines without a final newline. Figures in percent with two decimals; "-" where there is none. Subsets
        have a block each under that of all expressions; one without an expression is said to have none.
    """
    subsets = document.get("subsets", {}).values()
    lines = ["", *([f"All: {_evaluated(document)}"] if subsets else []), *_block(document, document)]
    for subset in subsets:
        figures = _block(subset, document) if subset["n_expressions_expected"] else []
        lines += ["", f"{subset['label']}: {_evaluated(subset)}", *figures]
    return "\n".join([_heading(document), *lines, "", _counts(document), _times(document)])


def _block(part: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Lay out the figures of the document, or of a subset of it."""
    columns, rows = _table(part, document)
    cells = [["Method", *columns]]
    cells += [[name, *("-" if value is None else f"{value:.2f}" for value in row)] for name, row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(_aligned(row, widths)) for row in cells]
    rule = "-" * len(lines[0])
    bound = len(part["methods"]) + 1
    return [lines[0], rule, *lines[1:bound], *([rule, *lines[bound:]] if lines[bound:] else [])]


def write_table_csv(path: Path | str, document: Mapping[str, Any]) -> None:
    """Write the table as CSV, one row per method and one for the upper bound, atomically.

    Every row says what it was measured on, so files of several runs can be joined. Figures in percent at full
    precision, empty where there is none. Where there are subsets, a column ``subset`` has "All" or the label
    of one, and the rows of each follow those of all.
    """
    parts = [("All", document), *((part["label"], part) for part in document.get("subsets", {}).values())]
    setting = ("experiment", "dataset", "split", "partition", "proposals")
    extra = ["subset"] if len(parts) > 1 else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns, _ = _table(document, document)
    writer.writerow([*setting, *extra, "n_expressions_evaluated", "method", *columns])
    for label, part in parts:
        where = [*(document[key] for key in setting), *([label] if extra else [])]
        for name, row in _table(part, document)[1]:
            writer.writerow([*where, part["n_expressions_evaluated"], name, *row])
    with atomic_file(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _table(part: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[list[str], list[_Row]]:
    """Columns (every figure that any method of the document has) and rows (methods, then the upper bound).

    Methods that draw their masks have no upper bound, and the table no such row.
    """
    every = [*document["methods"].values(), document["upper_bound"]]
    columns = list(dict.fromkeys(["oIoU", "mIoU", *(name for row in every for name in row)]))
    bounded = any(value is not None for value in document["upper_bound"].values())
    bound = [("Upper bound", part["upper_bound"])] if bounded else []
    figures = [*part["methods"].items(), *bound]
    return columns, [(method, [row.get(name) for name in columns]) for method, row in figures]


def _evaluated(part: Mapping[str, Any]) -> str:
    """Say how many expressions a block is about."""
    expected, evaluated = part["n_expressions_expected"], part["n_expressions_evaluated"]
    if not expected:
        return "no expression of the split is in it"
    failed = sum((part.get("failures") or {}).values())
    missed = f", {failed:,} without a choice" if failed else ""
    return f"{evaluated:,} of {expected:,} expressions on {part['n_images']:,} images{missed}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    name, *figures = row
    return [
        name.ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True)),
    ]


def _heading(document: Mapping[str, Any]) -> str:
    partition = f" ({document['partition']})" if document["partition"] else ""
    return f"{document['dataset']} {document['split']}{partition}, proposals: {document['proposals']}"


def _counts(document: Mapping[str, Any]) -> str:
    expected, evaluated = document["n_expressions_expected"], document["n_expressions_evaluated"]
    missing = f" ({expected - evaluated:,} MISSING)" if evaluated != expected else ""
    failures = document.get("failures") or {}
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in failures.items()) or "none"
    return (
        f"Images       {document['n_images']:,}\n"
        f"Expressions  {evaluated:,} evaluated of {expected:,} expected{missing}\n"
        f"Failures     {reasons}" + (" (counted as misses)" if failures and not missing else "")
    )


def _times(document: Mapping[str, Any]) -> str:
    return "Seconds      " + ", ".join(f"{stage} {value:.1f}" for stage, value in document["seconds"].items())
