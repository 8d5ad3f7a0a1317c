"""A table of the paper: scores of methods on data sets and splits, with the published ones beside them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from experiments.cli.command import CONFIGS
from experiments.reporting.frame import (
    FIGURES,
    escape,
    frame_of,
    limit_of,
    number,
    render,
    write_csv,
    write_text,
)
from gl_ris.errors import unknown_name
from gl_ris.files import write_json

if TYPE_CHECKING:
    from pandas import DataFrame

UPPER_BOUND = "Upper bound"
OURS, PAPER, ALL = "ours", "paper", "All"
PLACE = ("dataset", "partition", "split", "subset")
_NUMBERS = ("n_images", "n_expressions_expected", "n_expressions_evaluated")
_COUNTED = ("proposals", *_NUMBERS, "n_failed", "n_skipped", "seconds")
_SHOWN = {
    "Proposals": "{proposals}",
    "Images": "{n_images:,}",
    "Expressions": "{n_expressions_evaluated:,} of {n_expressions_expected:,}",
    "Failed": "{n_failed:,}",
    "Skipped": "{n_skipped:,}",
    "Seconds": "{seconds:.1f}",
}
Row = dict[str, Any]
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """One method of a table."""

    # Name of its line, and the encoder as the line shows it; empty if it has none.
    label: str
    encoder: str
    # Name of its column within those of a data set; empty in tables without such columns.
    context: str
    # What results call it; None where nothing of ours belongs (a line of the paper alone).
    title: str | None
    # The method with its settings, for ``model.methods``; None if nothing is to be run for it.
    variant: dict[str, Any] | None
    # Row of the paper's table that belongs beside it.
    paper: str | None


def runs_of(document: Mapping[str, Any], folder: str) -> Iterator[Row]:
    """Yield what a table makes of a result document: a row for all expressions, and one for each subset.

    The seconds are those of the whole run; the upper bound is one of the methods.
    """
    subsets = document.get("subsets") or {}
    for part in (document, *subsets.values()):
        failures: Mapping[str, int] = part["failures"]
        skipped = sum(count for reason, count in failures.items() if reason.startswith("skipped"))
        yield {
            **{key: str(document[key]) for key in PLACE[:3]},
            **({"subset": part.get("label", ALL)} if subsets else {}),
            "proposals": document["proposals"],
            **{key: part[key] for key in _NUMBERS},
            "n_failed": sum(failures.values()) - skipped,
            "n_skipped": skipped,
            "seconds": document["seconds"]["total"],
            "folder": folder,
            "whole_split": limit_of(document) is None,
            "failures": failures,
            **{key: document[key] for key in ("git_commit", "created")},
            "methods": {**part["methods"], UPPER_BOUND: part["upper_bound"]},
        }


def supervised_entries(trained: Iterable[Results]) -> list[Entry]:
    """Return a line for each supervised model, in whichever runs it was evaluated."""
    titles = dict.fromkeys(map(_title, trained))
    return [Entry(title, "", "", title, None, None) for title in titles]


def joined(document: Results, trained: Iterable[Results]) -> Results:
    """Put the figures of supervised models beside those of zero-shot methods on the same data and split."""
    place = itemgetter("dataset", "partition", "split")
    models = [own for own in trained if place(own) == place(document)]

    def beside(part: Mapping[str, Any], parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        figures = [next(iter(own["methods"].values())) for own in parts]
        return {**part, "methods": part["methods"] | dict(zip(map(_title, models), figures, strict=True))}

    subsets = {
        name: beside(part, [own["subsets"][name] for own in models])
        for name, part in document.get("subsets", {}).items()
    }
    return beside(document, models) | ({"subsets": subsets} if subsets else {})


def _title(document: Results) -> str:
    """Return the name of a supervised model, without what it learnt from."""
    (method,) = document["methods"]
    return str(method).removesuffix(" k=all")


@dataclass(frozen=True)
class PaperTable:
    """One table as the paper publishes it."""

    number: str
    source: str
    # What must be known to compare with it.
    note: str
    # Data set, partition and split of each.
    columns: Sequence[tuple[str, ...]]
    # Figures by row in percent, one per column, None where the paper has none; and ``encoder``.
    rows: Mapping[str, Mapping[str, Any]]

    def figures(self, row: str, place: tuple[str, ...]) -> dict[str, float]:
        """Return the figures of a row at ``(data set, partition, split)``, in percent; empty if none."""
        if place not in self.columns:
            return {}
        values = {name: self.rows[row].get(name) for name in FIGURES}
        column = self.columns.index(place)
        return {name: of[column] for name, of in values.items() if of and of[column] is not None}


def paper_table(number: str, needed: Iterable[str] = ()) -> PaperTable:
    """Return a table of ``configs/paper.yaml``; `UserError` if it or a row of ``needed`` is not there."""
    document = yaml.safe_load((CONFIGS / "paper.yaml").read_text(encoding="utf-8"))
    if number not in document["tables"]:
        raise unknown_name("table of the paper", number, document["tables"])
    table = document["tables"][number]
    for row in needed:
        if row not in table["rows"]:
            raise unknown_name(f"row of the paper's table {number}", row, table["rows"])
    columns = [tuple(column.split()) for column in table["columns"]]
    return PaperTable(number, document["source"], table["note"], columns, table["rows"])


@dataclass(frozen=True)
class Table:
    """Everything that the forms show."""

    title: str
    # Of the column that names the lines.
    heading: str
    # What Markdown and LaTeX show, of oIoU and mIoU.
    figures: Sequence[str]
    entries: Sequence[Entry]
    # The data sets and splits; see `runs_of`.
    runs: Sequence[Row]
    # The paper's table, if there is one to compare with.
    paper: PaperTable | None = None

    @cached_property
    def names(self) -> dict[tuple[str, ...], str]:
        """Name each place, e.g. "g val (umd)": by its partition too where the data set has several."""
        places = [place_of(run) for run in self.runs]
        partitions = Counter(data for data, _ in {place[:2] for place in places})
        return {
            place: " ".join([data, split, *([f"({partition})"] if partitions[data] > 1 else []), *subset])
            for place in places
            for data, partition, split, *subset in [place]
        }

    @cached_property
    def rows(self) -> list[Row]:
        """A row for each score: source, method, encoder, context, place, figures; ours first, with counts."""
        return [row for entry in self.entries for row in (*self._ours(entry), *self._papers(entry))]

    def _ours(self, entry: Entry) -> Iterator[Row]:
        for run in self.runs if entry.title is not None else ():
            found = run["methods"][entry.title]
            figures = {name: found.get(name) for name in FIGURES}
            yield _row(OURS, entry, entry.encoder, run) | figures | {key: run[key] for key in _COUNTED}

    def _papers(self, entry: Entry) -> Iterator[Row]:
        if self.paper is None or entry.paper is None:
            return
        encoder = str(self.paper.rows[entry.paper].get("encoder", ""))
        for run in self.runs:
            # a limited run does not compare with the paper
            if run["whole_split"] and (figures := self.paper.figures(entry.paper, place_of(run))):
                yield _row(PAPER, entry, encoder, run) | figures

    def block(self, figure: str) -> tuple[DataFrame, list[int]]:
        """Arrange a figure as in the paper, as text; also return which lines are the paper's."""
        contexts = dict.fromkeys(row["context"] for row in self.rows)
        columns = itertools.product(dict.fromkeys(map(place_of, self.rows)), contexts)
        heads = {(p, context): f"{self.names[p]}: {context}".removesuffix(": ") for p, context in columns}
        lines: dict[tuple[str, ...], dict[Any, float | None]] = {}
        for row in self.rows:
            if figure in row:
                line = lines.setdefault((row["source"], row["method"], row["encoder"]), {})
                line[place_of(row), row["context"]] = row[figure]
        shown = [
            [f"{method} (paper)" if source == PAPER else method, encoder or "-"]
            + [number(line.get(column)) for column in heads]
            for (source, method, encoder), line in lines.items()
        ]
        papers = [index for index, (source, *_) in enumerate(lines) if source == PAPER]
        return frame_of(shown, [self.heading, "Encoder", *heads.values()]), papers

    def counts(self) -> DataFrame:
        """Return what was counted in each run, as text to be read."""
        return frame_of(
            {"Data set": self.names[place_of(run)]}
            | {what: form.format_map(run) for what, form in _SHOWN.items()}
            for run in self.runs
        )

    def notes(self) -> list[str]:
        """Return what a reader must know: whose numbers are whose, what failed, what was limited."""
        lines = []
        if self.paper is not None and any(row["source"] == PAPER for row in self.rows):
            published = f"{self.paper.source}, Table {self.paper.number}, {self.paper.note}"
            lines = [f"Lines marked (paper) are published numbers: {published}."]
            lines[0] += " All others were measured here."
        for run in self.runs:
            name = self.names[place_of(run)]
            if not run["n_expressions_expected"]:
                lines.append(f"{name}: no expression of the split is in it.")
            if run.get("subset", ALL) == ALL:
                lines += [] if run["whole_split"] else [f"{name}: limited to {run['n_images']:,} images."]
                failures = run["failures"].items()
                lines += [f"{name}: {reason}: {count:,} expressions." for reason, count in failures]
        return lines


def _row(source: str, entry: Entry, encoder: str, run: Row) -> Row:
    line = {"source": source, "method": entry.label, "encoder": encoder, "context": entry.context}
    return line | {key: run[key] for key in PLACE if key in run}


def place_of(row: Row) -> tuple[str, ...]:
    """Return data set, partition and split of a row, and its subset where it has one."""
    return tuple(row[key] for key in PLACE if key in row)


def write_all(folder: Path, table: Table, settings: Mapping[str, Any]) -> str:
    """Write ``table.md``, ``.tex``, ``.csv`` and ``.json`` into ``folder``, and return the Markdown."""
    text = markdown(table)
    write_text(folder / "table.md", text)
    write_text(folder / "table.tex", latex(table))
    # full precision; the counts are empty for the paper's scores
    write_csv(folder / "table.csv", table.rows, max(map(list, table.rows), key=len))
    write_json(folder / "table.json", document(table, settings))
    return text


def markdown(table: Table) -> str:
    """Return the table as Markdown; percent with two decimals."""
    parts = [f"# {table.title}"] if table.title else []
    for figure in table.figures:
        parts.append(f"{figure}\n\n{render(table.block(figure)[0], 'markdown', text=(0, 1))}")
    parts.append(render(table.counts(), "markdown", text=(0, 1)))
    notes = table.notes()
    parts += ["\n".join(f"* {note}" for note in notes)] if notes else []
    return "\n\n".join(parts) + "\n"


def latex(table: Table) -> str:
    r"""Return the table as LaTeX; it needs ``\usepackage{booktabs}``. The paper's lines are in italics."""
    body: list[str] = []
    for figure in table.figures:
        frame, papers = table.block(figure)
        heads, *lines = render(frame, "latex", italics=papers).splitlines()
        width = len(frame.columns)
        body += [] if body else [r"\toprule", heads]
        body += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{{figure}}} \\", *lines]
    notes = [
        f"{counts.pop('Data set')}: {', '.join(f'{what.lower()} {count}' for what, count in counts.items())}."
        for counts in table.counts().to_dict("records")
    ]
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape(table.title)}}}",
        rf"  \begin{{tabular}}{{ll{'r' * (width - 2)}}}",
        *(f"    {line}" for line in (*body, r"\bottomrule")),
        "  \\end{tabular}\n",
        *(rf"  \par\footnotesize {escape(note)}" for note in (*notes, *table.notes())),
        "\\end{table}\n",
    ]
    return "\n".join(lines)


def document(table: Table, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``table.json``: the runs with their counts, our scores, and the paper's apart."""
    kept = ("method", "encoder", "context", *PLACE, *FIGURES)
    scores: dict[str, list[Row]] = {OURS: [], PAPER: []}
    for row in table.rows:
        scores[row["source"]].append({key: row[key] for key in kept if key in row})
    seconds = [run["seconds"] for run in table.runs if run.get("subset", ALL) == ALL]
    return {
        "schema": 1,
        "experiment": "tables",
        "title": table.title,
        "runs": [{key: value for key, value in run.items() if key != "methods"} for run in table.runs],
        **scores,
        "notes": table.notes(),
        "seconds": round(sum(seconds), 3),
        "config": settings,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
