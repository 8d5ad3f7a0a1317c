"""From the results of a table's runs to its scores, and from these to lines and columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.grid.table_settings import UPPER_BOUND, Entry
from experiments.reporting.paper import PaperTable

OURS, PAPER = "ours", "paper"
PLACE = ("dataset", "partition", "split", "subset")
_SKIPPED = "skipped"


@dataclass(frozen=True)
class Column:
    """One data set and split, as its run left it, or a subset of its expressions.

    Attributes:
        document: Content of its ``results.json``.
        folder: Name of its folder in that of the table.
        subset: Name of the subset; None for all expressions.
    """

    document: Mapping[str, Any]
    folder: str
    subset: str | None = None

    def with_subsets(self) -> list[Column]:
        """Return this column, and one for each subset that its results have."""
        return [self, *(replace(self, subset=name) for name in self.document.get("subsets", {}))]

    @property
    def part(self) -> Mapping[str, Any]:
        """The figures and counts: the document, or its subset."""
        return self.document if self.subset is None else self.document["subsets"][self.subset]

    @property
    def place(self) -> tuple[str, ...]:
        """Data set, partition and split, and label of the subset where the data set has subsets."""
        place = tuple(str(self.document[key]) for key in PLACE[:3])
        return (*place, self.part.get("label", "All")) if self.document.get("subsets") else place

    @property
    def whole(self) -> bool:
        """Whether all of the split was evaluated."""
        return self.document["config"]["data"].get("init_args", {}).get("limit") is None

    def figures(self, title: str) -> Mapping[str, float | None]:
        """Return the figures of a method, or of the upper bound."""
        return {**self.part["methods"], UPPER_BOUND: self.part["upper_bound"]}[title]

    def counts(self) -> dict[str, Any]:
        """Return what belongs beside the scores: images, expressions, failures, seconds, and where from.

        The seconds are those of the run, which counts all subsets at once.
        """
        failures: Mapping[str, int] = self.part["failures"]
        skipped = sum(count for reason, count in failures.items() if reason.startswith(_SKIPPED))
        return {
            **dict(zip(PLACE, self.place, strict=False)),
            "proposals": self.document["proposals"],
            **{f"n_{name}": self.part[f"n_{name}"] for name in _COUNTED},
            "n_failed": sum(failures.values()) - skipped,
            "n_skipped": skipped,
            "seconds": self.document["seconds"]["total"],
        }


_COUNTED = ("images", "expressions_expected", "expressions_evaluated")


@dataclass(frozen=True)
class Score:
    """One method on one data set and split, by us or by the paper.

    Attributes:
        source: ``"ours"`` or ``"paper"``.
        method: Name of the line.
        encoder: Its encoder, or empty.
        context: Its column within those of a data set, or empty.
        place: Data set, partition and split, and subset where there are any; see `Column.place`.
        figures: oIoU and mIoU in percent, as far as there are any.
    """

    source: str
    method: str
    encoder: str
    context: str
    place: tuple[str, ...]
    figures: Mapping[str, float | None]

    @property
    def line(self) -> tuple[str, str, str]:
        """What tells its line from others."""
        return self.source, self.method, self.encoder


@dataclass(frozen=True)
class Block:
    """The lines of one figure.

    Attributes:
        figure: oIoU or mIoU.
        heads: Names of the columns.
        lines: Source, method and encoder of each line, with a value per column.
    """

    figure: str
    heads: tuple[str, ...]
    lines: tuple[tuple[tuple[str, str, str], tuple[float | None, ...]], ...]


def collect(entries: Sequence[Entry], columns: Sequence[Column], paper: PaperTable | None) -> list[Score]:
    """Return all scores, ours and then the paper's for each method; the paper's only where they compare.

    They compare where data set, partition and split are those of the paper and no limit left anything out.
    """
    return [score for entry in entries for score in (*_ours(entry, columns), *_papers(entry, columns, paper))]


def _ours(entry: Entry, columns: Sequence[Column]) -> Iterable[Score]:
    if entry.title is None:
        return
    for column in columns:
        found = column.figures(entry.title)
        figures = {name: found.get(name) for name in ("oIoU", "mIoU")}
        yield Score(OURS, entry.label, entry.encoder, entry.context, column.place, figures)


def _papers(entry: Entry, columns: Sequence[Column], paper: PaperTable | None) -> Iterable[Score]:
    if paper is None or entry.paper is None:
        return
    for column in columns:
        figures = paper.figures(entry.paper, column.place) if column.whole else {}
        if figures:
            encoder = paper.encoder(entry.paper)
            yield Score(PAPER, entry.label, encoder, entry.context, column.place, figures)


def lay_out(scores: Sequence[Score], figures: Sequence[str]) -> list[Block]:
    """Arrange scores as in the paper: a block per figure, a line per method, a column per data set and split.

    Methods with a context have a column for each context there is.
    """
    places = list(dict.fromkeys(score.place for score in scores))
    contexts = list(dict.fromkeys(score.context for score in scores))
    names = place_names(places)
    heads = tuple(f"{names[place]}: {context}".removesuffix(": ") for place in places for context in contexts)
    blocks = []
    for figure in figures:
        values = {
            (score.line, score.place, score.context): score.figures[figure]
            for score in scores
            if figure in score.figures
        }
        lines = tuple(
            (line, tuple(values.get((line, place, context)) for place in places for context in contexts))
            for line in dict.fromkeys(line for line, _, _ in values)
        )
        blocks.append(Block(figure, heads, lines))
    return blocks


def place_names(places: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Name each ``(data set, partition, split)``, by its partition too where the data set has several.

    A subset, where there is one, comes last.

    Example:
        >>> list(place_names([("refcocog", "umd", "val"), ("refcocog", "google", "val")]).values())
        ['refcocog val (umd)', 'refcocog val (google)']
        >>> list(place_names([("phrasecut", "official", "test", "Unseen")]).values())
        ['phrasecut test Unseen']
    """
    places = list(places)
    several = {place[0] for place in places if any(o[0] == place[0] and o[1] != place[1] for o in places)}
    return {
        place: " ".join([place[0], place[2], *([f"({place[1]})"] if place[0] in several else []), *place[3:]])
        for place in places
    }


def notes(columns: Sequence[Column], scores: Sequence[Score], paper: PaperTable | None) -> list[str]:
    """Return what a reader must know: whose numbers are whose, what failed, what was limited."""
    found = []
    names = place_names(column.place for column in columns)
    if paper is not None and any(score.source == PAPER for score in scores):
        found.append(
            f"Lines marked (paper) are published numbers: {paper.source}, Table {paper.number}, {paper.note}"
            ". All others were measured here."
        )
    for column in columns:
        if not column.part["n_expressions_expected"]:
            found.append(f"{names[column.place]}: no expression of the split is in it.")
        if column.subset is not None:
            continue
        if not column.whole:
            found.append(f"{names[column.place]}: limited to {column.document['n_images']:,} images.")
        for reason, count in column.document["failures"].items():
            found.append(f"{names[column.place]}: {reason}: {count:,} expressions.")
    return found
