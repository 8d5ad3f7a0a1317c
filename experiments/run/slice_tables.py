"""``slices.csv`` and ``slices.md`` of a run: its figures by kind of expression, target and image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gl_ris.analysis import explained, number
from gl_ris.files import write_rows, write_text
from gl_ris.results import Results
from gl_ris.slices import FEW_EXPRESSIONS, FEW_IMAGES

_FIGURES = ("oIoU", "mIoU", "Pr@0.5")
_HEADS = ("Kind", "Slice", "Expressions", "Images", *_FIGURES)


def write_slices(folder: Path, results: Results) -> None:
    """Write both files, each complete or not at all; what is small in italics."""
    write_rows(folder / "slices.csv", _lines(results))
    write_text(folder / "slices.md", markdown(results))


def _rows(results: Results) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for method, kinds in (results.slices or {}).items():
        for kind, values in kinds.items():
            for value, one in values.items():
                yield method, kind, value, msgspec.to_builtins(one)


def _lines(results: Results) -> Iterator[list[Any]]:
    ends = [(name, place) for name in _FIGURES if results.intervals for place in (0, 1)]
    heads = [f"{name}_{('low', 'high')[place]}" for name, place in ends]
    yield ["method", "kind", "slice", "n_expressions", "n_images", *_FIGURES, *heads, "small"]
    for method, kind, value, one in _rows(results):
        sure = [one["intervals"][name][place] for name, place in ends]
        figures, small = [one[name] for name in _FIGURES], int(one.get("small", False))
        yield [method, kind, value, one["n"], one["n_images"], *figures, *sure, small]


def markdown(results: Results) -> str:
    """Lay out the slices, a table for each method."""
    parts = [f"# Slices of {results.dataset} {results.split}, proposals: {results.proposals}"]
    lines: dict[str, list[list[str]]] = {}
    for method, kind, value, one in _rows(results):
        sure = one.get("intervals", {})
        figures = [number(one[name], interval=sure.get(name)) for name in _FIGURES]
        cells = [kind, value, f"{one['n']:,}", f"{one['n_images']:,}", *figures]
        # Markdown has no grey
        small = [f"*{cell}*" for cell in cells]
        lines.setdefault(method, []).append(small if one.get("small") else cells)
    for method, rows in lines.items():
        # by hand: a run this small would wait for a library's import
        table = [_HEADS, ("---", "---", *["---:"] * 5), *rows]
        parts.append(f"## {method}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in table))
    notes = [f"±: {explained(results.resampling['draws'])}."] if results.resampling else []
    few = f"fewer than {FEW_EXPRESSIONS} expressions or {FEW_IMAGES} images, too few to read anything from"
    notes.append(f"In italics: {few}.")
    notes.append("An expression can be in several slices of one kind. Every miss counts.")
    notes += [f"Not there: {kind}: {reason}." for kind, reason in (results.slices_left_out or {}).items()]
    return "\n\n".join([*parts, "\n".join(f"* {note}" for note in notes)]) + "\n"
