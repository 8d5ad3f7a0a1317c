"""A report as a table for people and as a document for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datamodules.checking.counts import Expected
from datamodules.checking.problems import ERRORS, KINDS
from datamodules.checking.run import Report

_SCHEMA = 1


def as_text(report: Report, strict: bool) -> str:
    """Write a report: counts beside published ones, then problems with examples."""
    target, problems = report.target, report.problems
    lines = [f"{target.name} ({target.partition}) in {target.folder}"]
    if report.found:
        lines += ["", *_table(report)]
    if target.published:
        lines += ["", f"counts: {target.published.source}"]
    for split, looked in report.looked.items():
        lines.append(_looked(split, looked))
    for kind in problems.ordered():
        grave = "ERROR" if kind in ERRORS or (strict and kind != "not compared") else "note"
        lines += ["", f"{grave}: {kind}, {problems.counts[kind]:,} times: {KINDS[kind]}"]
        lines += [f"  {example}" for example in problems.examples[kind]]
    verdict = "MISMATCH" if problems.failed(strict) else "fine"
    return "\n".join([*lines, "", f"{target.name} ({target.partition}): {verdict}"])


def _table(report: Report) -> list[str]:
    known = report.target.published.splits if report.target.published else {}
    rows = [["split", *report.kinds]]
    for split, found in report.found.items():
        expected = known.get(split, {})
        rows.append([split, *(_cell(getattr(found, kind), expected.get(kind)) for kind in report.kinds)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _cell(found: int, expected: Expected | None) -> str:
    if expected is None:
        return f"{found:,}"
    if not expected.verified:
        return f"{found:,} (not verified: {expected.count:,})"
    return f"{found:,} ok" if found == expected.count else f"{found:,} EXPECTED {expected.count:,}"


def _looked(split: str, looked: Any) -> str:
    words = {"none": "not looked at", "exists": "looked for", "decode": "decoded"}[looked["how"]]
    where = f" in {looked['folder']}" if looked["folder"] else ""
    images = f"{looked['images']:,} images {words}{where}" if looked["images"] else "no image looked at"
    return f"{split}: {images}, {looked['masks']:,} masks drawn"


def as_document(reports: Sequence[Report], strict: bool) -> dict[str, Any]:
    """Make a document of reports, for JSON."""
    return {
        "schema": _SCHEMA,
        "fine": not any(report.problems.failed(strict) for report in reports),
        "strict": strict,
        "checked": [_document(report, strict) for report in reports],
    }


def _document(report: Report, strict: bool) -> dict[str, Any]:
    target, problems = report.target, report.problems
    known = target.published.splits if target.published else {}
    splits = {
        split: {kind: _count(getattr(found, kind), known.get(split, {}).get(kind)) for kind in report.kinds}
        for split, found in report.found.items()
    }
    kinds = {
        kind: {
            "error": kind in ERRORS,
            "count": problems.counts[kind],
            "examples": problems.examples[kind],
        }
        for kind in problems.ordered()
    }
    return {
        "name": target.name,
        "folder": target.folder,
        "format": target.format,
        "partition": target.partition,
        "source_of_counts": target.published.source if target.published else None,
        "fine": not problems.failed(strict),
        "splits": splits,
        "looked": report.looked,
        "problems": kinds,
    }


def _count(found: int, expected: Expected | None) -> dict[str, Any]:
    if expected is None:
        return {"found": found, "expected": None}
    return {"found": found, "expected": expected.count, "verified": expected.verified}
