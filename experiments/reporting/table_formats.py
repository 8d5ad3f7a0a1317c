"""A table as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.reporting.paper import PaperTable
from experiments.reporting.table_layout import PAPER, PLACE, Block, Column, Score, lay_out, notes, place_names

_LATEX = {
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
}
_LATEX |= {"^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
_COUNTS = ("Images", "Expressions", "Failed", "Skipped", "Seconds")


@dataclass(frozen=True)
class Table:
    """Everything that the formats show.

    Attributes:
        title: Of the table.
        heading: Of the column that names the lines.
        figures: What Markdown and LaTeX show, of oIoU and mIoU.
        columns: The runs.
        scores: See `experiments.reporting.table_layout.collect`.
        paper: The paper's table, if there is one to compare with.
    """

    title: str
    heading: str
    figures: Sequence[str]
    columns: Sequence[Column]
    scores: Sequence[Score]
    paper: PaperTable | None = None

    @property
    def blocks(self) -> list[Block]:
        """The lines and columns."""
        return lay_out(self.scores, self.figures)

    @property
    def notes(self) -> list[str]:
        """What a reader must know."""
        return notes(self.columns, self.scores, self.paper)


def markdown(table: Table) -> str:
    """Return the table as Markdown, aligned so that it reads in a terminal too; percent with two decimals."""
    parts = [f"# {table.title}"] if table.title else []
    for block in table.blocks:
        head = [table.heading, "Encoder", *block.heads]
        rows = [[_name(line), line[2] or "-", *map(_number, values)] for line, values in block.lines]
        parts.append(f"{block.figure}\n\n{grid(head, rows, left=2)}")
    parts.append(grid(["Data set", "Proposals", *_COUNTS], _count_rows(table.columns), left=2))
    parts += ["\n".join(f"* {note}" for note in table.notes)] if table.notes else []
    return "\n\n".join(parts) + "\n"


def latex(table: Table) -> str:
    r"""Return the table as LaTeX; it needs ``\usepackage{booktabs}``. The paper's lines are in italics."""
    blocks = table.blocks
    heads = blocks[0].heads
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_escape(table.title)}}}",
        rf"  \begin{{tabular}}{{ll{'r' * len(heads)}}}",
        r"    \toprule",
        _latex_row([_escape(name) for name in (table.heading, "Encoder", *heads)]),
    ]
    for block in blocks:
        lines += [r"    \midrule", rf"    \multicolumn{{{len(heads) + 2}}}{{l}}{{{block.figure}}} \\"]
        for line, values in block.lines:
            cells = [_escape(cell) for cell in (_name(line), line[2] or "-", *map(_number, values))]
            lines.append(_latex_row([rf"\emph{{{cell}}}" for cell in cells] if line[0] == PAPER else cells))
    lines += [r"    \bottomrule", r"  \end{tabular}", ""]
    for name, proposals, *counts in _count_rows(table.columns):
        described = ", ".join(f"{what.lower()} {count}" for what, count in zip(_COUNTS, counts, strict=True))
        lines.append(rf"  \par\footnotesize {_escape(f'{name}: proposals {proposals}, {described}.')}")
    lines += [rf"  \par\footnotesize {_escape(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def comma_separated(table: Table) -> str:
    """Return the table as CSV, one row per score; full precision, the counts empty for the paper's scores."""
    counts = {column.place: column.counts() for column in table.columns}
    names = [name for name in PLACE if any(name in count for count in counts.values())]
    beside = [name for name in next(iter(counts.values())) if name not in PLACE]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", "method", "encoder", "context", *names, "oIoU", "mIoU", *beside])
    for score in table.scores:
        count = {} if score.source == PAPER else counts[score.place]
        place = [*score.place, *("" for _ in names[len(score.place) :])]
        figures = [score.figures.get(name) for name in ("oIoU", "mIoU")]
        counted = [count.get(name, "") for name in beside]
        writer.writerow(
            [score.source, score.method, score.encoder, score.context, *place, *figures, *counted]
        )
    return text.getvalue()


def document(table: Table, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``table.json``: the runs with their counts, our scores, and the paper's apart.

    Args:
        table: The table.
        settings: What it was made of.
    """
    from datetime import UTC, datetime

    runs = [
        {**column.counts(), "folder": column.folder, "whole_split": column.whole}
        | {"failures": column.part["failures"]}
        | {name: column.document[name] for name in ("git_commit", "created")}
        for column in table.columns
    ]
    return {
        "schema": 1,
        "experiment": "tables",
        "title": table.title,
        "runs": runs,
        **{
            source: [_plain_score(score) for score in table.scores if score.source == source]
            for source in ("ours", "paper")
        },
        "notes": table.notes,
        "seconds": round(sum(c.counts()["seconds"] for c in table.columns if c.subset is None), 3),
        "config": settings,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _plain_score(score: Score) -> dict[str, Any]:
    place = dict(zip(PLACE, score.place, strict=False))
    return {
        "method": score.method,
        "encoder": score.encoder,
        "context": score.context,
        **place,
        **score.figures,
    }


def _count_rows(columns: Sequence[Column]) -> list[list[str]]:
    names = place_names(column.place for column in columns)
    rows = []
    for column in columns:
        counts = column.counts()
        expressions = f"{counts['n_expressions_evaluated']:,} of {counts['n_expressions_expected']:,}"
        numbers = [
            f"{counts['n_images']:,}",
            expressions,
            f"{counts['n_failed']:,}",
            f"{counts['n_skipped']:,}",
        ]
        rows.append([names[column.place], counts["proposals"], *numbers, f"{counts['seconds']:.1f}"])
    return rows


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Lay out a Markdown table; the first ``left`` columns are text, the others numbers."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rule = [":" + "-" * (w - 1) if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [
        [
            cell.ljust(w) if i < left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in cells
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def _latex_row(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _name(line: tuple[str, str, str]) -> str:
    return f"{line[1]} (paper)" if line[0] == PAPER else line[1]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
