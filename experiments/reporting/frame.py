"""The frame behind every report, its forms, and the results of several runs as one document."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gl_ris.analysis import explained
from gl_ris.analysis import number as number
from gl_ris.errors import EvaluationError
from gl_ris.files import plain, read_table
from gl_ris.files import write_text as write_text

if TYPE_CHECKING:
    from pandas import DataFrame

FIGURES = ("oIoU", "mIoU")

# What must be equal in two results for their figures to compare.
_SAME = ("dataset", "split", "partition", "n_images", "n_expressions_expected")
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"±": r"$\pm$"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


def frame_of(rows: Iterable[Mapping[str, Any] | Sequence[Any]], columns: Any = None) -> DataFrame:
    """Make a frame of mappings, or of values in the order of ``columns``; NaN becomes None."""
    from pandas import DataFrame

    # as objects, so that whole numbers stay what they are also in a column that has gaps
    return DataFrame(plain(list(rows)), columns=columns, dtype=object)


def escape(text: str) -> str:
    """Write a text so that LaTeX sets it as it is."""
    return text.translate(_LATEX)


def render(
    frame: DataFrame,
    form: Literal["csv", "markdown", "latex"],
    text: Collection[int] = (0,),
    italics: Collection[int] = (),
) -> str:
    """Write a frame as CSV (any values, at full precision), aligned Markdown or rows of a LaTeX tabular.

    The latter two take text (see `number`). Markdown aligns the columns at the places ``text`` to the left,
    others as numbers; LaTeX sets the rows ``italics`` apart.
    """
    if form == "csv":
        return str(frame.to_csv(index=False, lineterminator="\n"))
    lines = [list(map(str, frame.columns)), *frame.to_numpy().tolist()]
    if form == "latex":
        # the first line is that of the heads
        looks = [r"\emph{%s}" if row in italics else "%s" for row in range(-1, len(frame))]
        cells = [[look % escape(cell) for cell in line] for look, line in zip(looks, lines, strict=True)]
        return "\n".join(f"{' & '.join(line)} \\\\" for line in cells)
    from tabulate import tabulate

    head, *body = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    sides = ["left" if column in text else "right" for column in range(len(head))]
    return tabulate(body, head, "pipe", disable_numparse=True, colalign=sides)


def note_on_intervals(document: Mapping[str, Any]) -> list[str]:
    """Say what ± means, if a result document has intervals."""
    resampling = document.get("resampling")
    return [f"±: {explained(resampling['draws'])}."] if resampling else []


def ends_of(name: str, interval: Sequence[float] | None) -> dict[str, float]:
    """Return the columns of a CSV for an interval; none where there is no interval."""
    return dict(zip((f"{name}_low", f"{name}_high"), interval, strict=True)) if interval else {}


def interval_in(row: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Return the interval of a figure from a row that has `ends_of` it; None if it has not."""
    return (row[f"{name}_low"], row[f"{name}_high"]) if f"{name}_low" in row else None


def unique_names(models: Mapping[str, str]) -> dict[str, str]:
    """Return for each baseline the name of its model, or one of its own where several have that name.

    Example:
        >>> unique_names({"lavt": "LAVT", "lavt-tiny": "LAVT", "cris": "CRIS"})
        {'lavt': 'LAVT (lavt)', 'lavt-tiny': 'LAVT (lavt-tiny)', 'cris': 'CRIS'}
    """
    taken = list(models.values())
    return {key: f"{name} ({key})" if taken.count(name) > 1 else name for key, name in models.items()}


def table(rows: Iterable[Sequence[str]], heads: Sequence[str], text: Collection[int] = (0,)) -> str:
    """Write rows of text as a table in Markdown; see `render`."""
    return render(frame_of(rows, heads), "markdown", text)


def note(name: str, **facts: Any) -> str:
    """Return a text of ``notes.yaml`` with the facts filled in."""
    text: str = read_table(Path(__file__).with_name("notes.yaml"))[name]
    return text.format_map(facts)


def bullets(notes: Iterable[str]) -> str:
    """Write notes as a list in Markdown."""
    return "\n".join(f"* {one}" for one in notes)


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Any = None) -> None:
    """Write rows as CSV, at full precision, complete or not at all; see `frame_of`."""
    write_text(path, render(frame_of(rows, columns), "csv"))


def check_same_test(documents: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that results, by the names of their runs, are of the same images; else an `EvaluationError`."""
    first, known = next(iter(documents.items()))
    for (name, document), key in itertools.product(documents.items(), _SAME):
        if document[key] != known[key]:
            raise EvaluationError(
                f"The cells '{first}' and '{name}' do not compare: {key} is {known[key]} in one and "
                f"{document[key]} in the other."
            )


def merged(
    documents: Sequence[Mapping[str, Any]], methods: Mapping[str, Mapping[str, float | None]], **more: Any
) -> dict[str, Any]:
    """Build one result document of those of several runs on the same expressions, with their ``methods``.

    Proposals, counts and upper bound are those of the first. ``more``: see `gl_ris.results.Results`.
    """
    kept = ("n_expressions_skipped", "counting", "every_miss_upper_bound", "ties", "resampling", "filters")
    from gl_ris.results import STAGES, Results

    # seconds add up; the same expressions fail in every run, so failures do not
    inputs: dict[str, dict[str, str | None]] = {}
    for what, files in (item for one in documents for item in one.get("inputs", {}).items()):
        inputs.setdefault(what, {}).update(files)
    reasons = dict.fromkeys(reason for one in documents for reason in one["failures"])
    return Results.new(
        **{key: documents[0][key] for key in (*_SAME, "proposals", "upper_bound")},
        **{key: documents[0][key] for key in kept if key in documents[0]},
        n_expressions_evaluated=min(one["n_expressions_evaluated"] for one in documents),
        methods=methods,
        inputs=inputs,
        kernels={name: found for one in documents for name, found in one.get("kernels", {}).items()},
        seconds={stage: sum(one["seconds"].get(stage, 0.0) for one in documents) for stage in STAGES},
        failures={reason: max(one["failures"].get(reason, 0) for one in documents) for reason in reasons},
        **more,
    ).document()


def notes_on_skipped(part: Mapping[str, Any], of: str = "") -> list[str]:
    """Say what the figures come to where what a recipe left out counts as missed, if it left anything out."""
    skipped = part.get("n_expressions_skipped", 0)
    changed = {
        method: [number(row[name]) for name in FIGURES]
        for method, row in part.get("every_miss", {}).items()
        if skipped and row != part["methods"].get(method)
    }
    return [note("skipped", of=of, method=m, skipped=skipped, figures=f) for m, f in changed.items()]


def limit_of(document: Mapping[str, Any]) -> int | None:
    """Return to how many images a run was limited; None if it was not."""
    return (document["config"]["data"].get("init_args") or {}).get("limit")


def heading(what: str, document: Mapping[str, Any], limit: int | None) -> str:
    """Return a title: what is shown, on which data, and what a reader must know of them.

    Example:
        >>> heading("Few-shot", {"dataset": "refshapesg", "split": "val"}, None)
        'Few-shot on refshapesg val (RefShapes, synthetic scenes)'
    """
    where = f"{what} on {document['dataset']} {document['split']}"
    notes = ["RefShapes, synthetic scenes"] if document["dataset"].startswith("refshapes") else []
    notes += [f"first {limit:,} images only"] if limit is not None else []
    return f"{where} ({'; '.join(notes)})" if notes else where
