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

from experiments.reporting.frame import (
    FIGURES,
    bullets,
    ends_of,
    escape,
    frame_of,
    interval_in,
    limit_of,
    note,
    note_on_intervals,
    number,
    render,
    write_csv,
    write_text,
)
from experiments.reporting.paper import PaperTable, made_by, unlike_known
from gl_ris.files import write_json
from gl_ris.results import UPPER_BOUND

if TYPE_CHECKING:
    from pandas import DataFrame

OURS, EVERY_MISS, PAPER, ALL = "ours", "ours, every miss counted", "paper", "All"
PLACE = ("dataset", "partition", "split", "subset")
_NUMBERS = ("n_images", "n_expressions_expected", "n_expressions_evaluated")
_COUNTED = ("proposals", *_NUMBERS, "n_failed", "n_skipped", "seconds")
_INTERVALS = {"methods": "intervals", "every_miss": "every_miss_intervals"}
_INSIDE = ("methods", "every_miss", *_INTERVALS.values(), "unlike_the_papers", "made_by")
_SHOWN = {
    "Data set": "{name}",
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

    label: str  # the name of its line
    encoder: str  # as the line shows it; empty if it has none
    context: str  # the name of its column within those of a data set; empty in tables without such columns
    title: str | None  # what results call it; None where nothing of ours belongs (a line of the paper alone)
    variant: dict[str, Any] | None  # the method with its settings, for ``model.methods``, if it is to be run
    paper: str | None  # the row of the paper's table that belongs beside it


def runs_of(document: Mapping[str, Any], folder: str) -> Iterator[Row]:
    """Yield what a table makes of a result document: a row for all expressions, and one for each subset.

    The seconds are those of the whole run; the upper bound is one of the methods.
    """
    subsets = document.get("subsets") or {}
    for part in (document, *subsets.values()):
        failures, every_miss = part["failures"], part.get("every_miss", {})
        bound = {UPPER_BOUND: part["every_miss_upper_bound"]} if every_miss else {}
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
            "unlike_the_papers": unlike_known(document),
            "made_by": made_by(document),
            "failures": failures,
            **{key: document[key] for key in ("git_commit", "created")},
            "methods": {**part["methods"], UPPER_BOUND: part["upper_bound"]},
            "every_miss": {**every_miss, **bound},
            **{key: part.get(key, {}) for key in _INTERVALS.values()},
            "resampling": document.get("resampling"),
        }


def supervised_entries(trained: Iterable[Results]) -> list[Entry]:
    """Return a line for each supervised model, in whichever runs it was evaluated."""
    titles = dict.fromkeys(map(_title, trained))
    return [Entry(title, "", "", title, None, None) for title in titles]


def joined(document: Results, trained: Iterable[Results]) -> Results:
    """Put the figures of supervised models beside those of zero-shot methods on the same data and split."""
    place = itemgetter(*PLACE[:3])
    models = [own for own in trained if place(own) == place(document)]

    def beside(part: Mapping[str, Any], parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        titled = dict(zip(map(_title, models), parts, strict=True))
        figures = {title: next(iter(own["methods"].values())) for title, own in titled.items()}
        sure: dict[str, Any] = {
            title: next(iter(own.get("intervals", {}).values()), {}) for title, own in titled.items()
        }
        # what draws its masks leaves nothing out
        added = {**dict.fromkeys(_INTERVALS, figures), **dict.fromkeys(_INTERVALS.values(), sure)}
        return {**part, **{key: part[key] | more for key, more in added.items() if key in part}}

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
class Table:
    """Everything that the forms show."""

    title: str
    heading: str  # Of the column that names the lines.
    figures: Sequence[str]  # What Markdown and LaTeX show, of oIoU and mIoU.
    entries: Sequence[Entry]
    runs: Sequence[Row]  # The data sets and splits; see `runs_of`.
    paper: PaperTable | None = None  # The paper's table, if there is one to compare with.

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
        """A row for each score: source, method, encoder, context, place, figures; ours first, with counts.

        Ours come a second time, with every miss counted, where some run has left something out.
        """
        twice = any(run["n_skipped"] and run["every_miss"] for run in self.runs)
        kinds = {OURS: "methods"} | ({EVERY_MISS: "every_miss"} if twice else {})
        return [
            row
            for entry in self.entries
            for row in (
                *(own for kind in kinds.items() for own in self._ours(entry, *kind)),
                *self._papers(entry),
            )
        ]

    def _ours(self, entry: Entry, source: str, key: str) -> Iterator[Row]:
        for run in self.runs if entry.title is not None else ():
            found, sure = run[key].get(entry.title, {}), run[_INTERVALS[key]].get(entry.title, {})
            figures = {name: found.get(name) for name in FIGURES}
            ends = {name: value for one in FIGURES for name, value in ends_of(one, sure.get(one)).items()}
            counts = {key: run[key] for key in _COUNTED}
            if source == EVERY_MISS:
                counts["n_expressions_evaluated"] += run["n_skipped"]
                counts |= {"n_failed": run["n_failed"] + run["n_skipped"], "n_skipped": 0}
            yield _row(source, entry, entry.encoder, run) | figures | counts | ends

    def _papers(self, entry: Entry) -> Iterator[Row]:
        if self.paper is None or entry.paper is None:
            return
        encoder = str(self.paper.rows[entry.paper].get("encoder", ""))
        for run in self.runs:
            # what is not of the same images and proposals does not compare with the paper
            comparable = run["whole_split"] and not self.paper.unlike(run, entry.paper)
            if comparable and (figures := self.paper.figures(entry.paper, place_of(run))):
                yield _row(PAPER, entry, encoder, run) | figures

    def block(self, figure: str) -> tuple[DataFrame, list[int]]:
        """Arrange a figure as in the paper, as text; also return which lines are the paper's."""
        contexts = dict.fromkeys(row["context"] for row in self.rows)
        columns = itertools.product(dict.fromkeys(map(place_of, self.rows)), contexts)
        heads = {(p, context): f"{self.names[p]}: {context}".removesuffix(": ") for p, context in columns}
        lines: dict[tuple[str, ...], dict[Any, str]] = {}
        for row in self.rows:
            if figure in row:
                line = lines.setdefault((row["source"], row["method"], row["encoder"]), {})
                text = number(row[figure], interval=interval_in(row, figure))
                line[place_of(row), row["context"]] = text
        marks = {PAPER: " (paper)", EVERY_MISS: " (every miss counted)"}
        shown = [
            [method + marks.get(source, ""), encoder or "-"] + [line.get(column, "-") for column in heads]
            for (source, method, encoder), line in lines.items()
        ]
        papers = [index for index, (source, *_) in enumerate(lines) if source == PAPER]
        return frame_of(shown, [self.heading, "Encoder", *heads.values()]), papers

    def counts(self) -> list[dict[str, str]]:
        """Return what was counted in each run, as text to be read."""
        named = [{"name": self.names[place_of(run)], **run} for run in self.runs]
        return [{what: form.format_map(run) for what, form in _SHOWN.items()} for run in named]

    def notes(self) -> list[str]:
        """Return what a reader must know: whose numbers are whose, what failed, what was limited."""
        sources = {row["source"] for row in self.rows}
        lines = next(filter(None, map(note_on_intervals, self.runs)), [])
        if self.paper is not None and PAPER in sources:
            lines.append(note("paper", paper=self.paper))
            rows = {one.label: str(one.paper) for one in self.entries if any(self._papers(one))}
            leagues = {label: self.paper.rows[row].get("league") for label, row in rows.items()}
            lines += [f"{label} (paper): {league}." for label, league in leagues.items() if league]
        lines += [note("every miss")] if EVERY_MISS in sources else []
        return lines + [line for run in self.runs for line in self._notes_on(run, self.names[place_of(run)])]

    def _notes_on(self, run: Row, name: str) -> Iterator[str]:
        if not run["n_expressions_expected"]:
            yield f"{name}: no expression of the split is in it."
        if run.get("subset", ALL) != ALL:
            return
        if not run["whole_split"]:
            yield f"{name}: limited to {run['n_images']:,} images."
        elif self.paper and place_of(run)[:3] in self.paper.columns:
            rows = {one.label: one.paper for one in self.entries if one.paper}
            left_out = {label: why for label, row in rows.items() if (why := self.paper.unlike(run, row))}
            for why in dict.fromkeys(left_out.values()):
                own = [label for label in left_out if left_out[label] == why]
                of = f" of {', '.join(own)}" if len(own) < len(rows) else ""
                yield f"{name}: not beside the paper's figures{of}: {why}."
        yield from (f"{name}: {reason}: {count:,} expressions." for reason, count in run["failures"].items())


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
    frames = {figure: table.block(figure)[0] for figure in table.figures}
    parts += [f"{figure}\n\n{render(frame, 'markdown', text=(0, 1))}" for figure, frame in frames.items()]
    parts += [render(frame_of(table.counts()), "markdown", text=(0, 1)), bullets(table.notes())]
    return "\n\n".join(filter(None, parts)) + "\n"


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
        for counts in table.counts()
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
    scores: dict[str, list[Row]] = {OURS: [], PAPER: []}
    for row in table.rows:
        own = scores.setdefault("every_miss" if row["source"] == EVERY_MISS else row["source"], [])
        own.append({key: value for key, value in row.items() if key not in ("source", *_COUNTED)})
    seconds = [run["seconds"] for run in table.runs if run.get("subset", ALL) == ALL]
    return {
        "schema": 1,
        "experiment": "tables",
        "title": table.title,
        "runs": [{key: value for key, value in run.items() if key not in _INSIDE} for run in table.runs],
        **scores,
        "notes": table.notes(),
        "seconds": round(sum(seconds), 3),
        "config": settings,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
