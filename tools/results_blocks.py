"""What stands between the markers of a page, made of what runs have left; see ``tools/results.yaml``."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reporting.frame import frame_of, interval_in, number, render
from gl_ris.errors import UserError, in_short

Row = dict[str, Any]

_MARKED = re.compile(r"(<!-- results: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_FIGURE = re.compile(r"(?<![\d.,])[1-9]\d*\.\d\d(?![\d.])")  # as figures are written: two decimals
_LAST = re.compile(r"\|[^|\n]*\|$", re.MULTILINE)  # the last column of a table


class Block(NamedTuple):
    """Markers of a page, with what stands between them."""

    name: str
    line: int  # of the page, where the text begins
    text: str


def blocks_of(page: str) -> list[Block]:
    """Return the marked parts of a page, in their order."""
    return [
        Block(found[2], page.count("\n", 0, found.start(3)) + 1, found[3]) for found in _MARKED.finditer(page)
    ]


def filled(page: str, texts: Mapping[str, str]) -> str:
    """Put texts between the markers of a page; those without a text stay as they are."""
    return _MARKED.sub(lambda found: found[1] + texts.get(found[2], found[3]) + found[4], page)


def made(kind: Mapping[str, Any], work: Path) -> str | None:
    """Make the text of a block by its kind, the first key; None if a run that it is made of is not there."""
    try:
        return f"\n{KINDS[next(iter(kind))](work, **kind)}\n\n"
    except FileNotFoundError:
        return None


def document_in(path: Path) -> dict[str, Any]:
    """Read a document of a run; `FileNotFoundError` if it is not there, `UserError` if it is damaged."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"'{path}' is damaged ({in_short(error, 100)}); delete it, and its job is run again."
        ) from error


def sources_of(kind: Mapping[str, Any]) -> list[str]:
    """Return the files, as JOB/FILE, that a block is made of."""
    own = kind[next(iter(kind))]
    return [own] if isinstance(own, str) else list(own["files"])


def _terminal(work: Path, terminal: str) -> str:
    """Show a text as a terminal does."""
    text = (work / terminal).read_text(encoding="utf-8").strip("\n")
    return f"```text\n{text}\n```"


def _report(work: Path, report: str, by: str | None = None) -> str:
    """Show a report without its title and its column of seconds.

    It is a Markdown file, or what the ``report`` of the module ``by`` makes of a result document.
    """
    text = (work / report).read_text(encoding="utf-8")
    text = text if by is None else import_module(by).report(document_in(work / report))
    parts = [part for part in text.strip().split("\n\n") if not part.startswith("# ")]
    return "\n\n".join(
        _LAST.sub("|", part) if part.split("\n")[0].endswith("Seconds |") else part for part in parts
    )


def _crossed(work: Path, crossed: Mapping[str, Any]) -> str:
    """Show rows of several files as one table.

    ``lines`` maps the keys that name a line to its heads, ``columns`` has the keys that name a column, and
    ``cell`` is a form of what stands where they cross; ``where`` keeps rows by what they have under a key,
    in the order in which it has them. Rows without an encoder are in the lines of every encoder; those
    that no column names are left out. A `UserError` if no row has all that a line is named by.
    """
    lines, columns, where = crossed["lines"], crossed["columns"], crossed.get("where", {})
    rows = [row for file in crossed["files"] for row in _rows(work / file)]
    rows = [row for row in rows if {*columns} <= {*row}]
    rows = [row for row in rows if all(row.get(key) in kept for key, kept in where.items())]
    rows.sort(key=lambda row: [kept.index(row[key]) for key, kept in where.items()])
    keys = dict.fromkeys(tuple(row[key] for key in lines) for row in rows if {*lines} <= {*row})
    if not keys:
        files, asked = ", ".join(crossed["files"]), ", ".join([*lines, *where])
        raise UserError(f"No row of {files} has what its table in tools/results.yaml asks for ({asked}).")
    table: dict[tuple[Any, ...], Row] = {key: {} for key in keys}
    for row, key in ((row, key) for row in rows for key in keys):
        own = zip(lines, key, strict=True)
        if all(row.get(name) == part or (name == "encoder" and name not in row) for name, part in own):
            table[key][", ".join(str(row[name]) for name in columns)] = _cell(crossed["cell"], row)
    firsts = [key[0] for key in keys]
    heads = dict.fromkeys(column for line in table.values() for column in line)
    shown = [
        [*map(_written, key), *(line.get(column, "-") for column in heads)]
        for key, line in sorted(table.items(), key=lambda item: firsts.index(item[0][0]))
    ]
    return render(frame_of(shown, [*lines.values(), *heads]), "markdown", text=range(len(lines)))


class _Figure(float):
    """A number of a row, written with its interval where a form asks for nothing else."""

    text: str

    def __format__(self, form: str) -> str:
        return super().__format__(form) if form else self.text


class _Nothing:
    """What a row does not have, in whatever form."""

    def __format__(self, form: str) -> str:
        return "-"


def _figure(row: Row, name: str) -> _Figure:
    figure = _Figure(row[name])
    figure.text = number(row[name], interval=interval_in(row, name))
    return figure


def _cell(form: str, row: Row) -> str:
    """Write a row's figures in their form, those between slashes without the ones that it has not."""
    parts = {
        name: _figure(row, name) if isinstance(value, float) else _written(value)
        for name, value in row.items()
    }
    figures = form.format_map(defaultdict(_Nothing, parts)).split(" / ")
    text = " / ".join(figure for figure in figures if figure != "-") or "-"
    # too few to read anything from
    return f"*{text}*" if row.get("small") else text


def _written(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a CSV without their empty cells, or those of the misses of a result document."""
    if path.suffix == ".json":
        yield from ({"job": path.parent.name, **row} for row in _misses(document_in(path)))
        return
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {"job": path.parent.name, **{key: _value(text) for key, text in row.items() if text}}


def _misses(document: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row for hits and each kind of miss, and one for each way of doing better, by their names."""
    for method, room in document["headroom"].items():
        common = {"dataset": document["dataset"], "method": method}
        share = 100 * room["hits"] / room["expressions"]
        yield common | {"kind": "hit", "count": room["hits"], "share": share}
        for kind, one in document["errors"][method].items():
            yield common | {"kind": kind} | one
        for name in ("now", "ranking", "masks"):
            yield common | {"room": name} | room[name]


def _value(text: str) -> Any:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def differences(block: Block, now: str, page: str) -> list[str]:
    """Name each number of a block that is not what its runs say ``now``, with file, line and both values.

    Seconds may differ.
    """
    found = []
    both = zip_longest(block.text.splitlines(), now.splitlines(), fillvalue="")
    for line, (was, new) in enumerate(both, block.line):
        if was == new or (was.startswith("Seconds") and new.startswith("Seconds")):
            continue
        numbers = zip_longest(_NUMBER.findall(was), _NUMBER.findall(new), fillvalue="nothing")
        changes = [pair for pair in numbers if pair[0] != pair[1]] or [(was.strip(), new.strip())]
        found += [
            f"{page}:{line}: {block.name}: {old!r} in the page, {is_!r} in the run" for old, is_ in changes
        ]
    return found


def strays(page: str, name: str, known: Iterable[str]) -> list[str]:
    """Name the figures in the text of a page, outside of its blocks, that are not ``known``."""
    known, text = {*known}, _MARKED.sub(lambda found: "\n" * found[0].count("\n"), page)
    return [
        f"{name}:{place}: {figure!r} in the text, and in none of the runs' tables"
        for place, line in enumerate(text.splitlines(), 1)
        for figure in _FIGURE.findall(line)
        if figure not in known
    ]


def figures_in(text: str) -> set[str]:
    """Return the figures in a text: numbers of 1 or more with two decimals."""
    return {*_FIGURE.findall(text)}


KINDS: dict[str, Callable[..., str]] = {"terminal": _terminal, "report": _report, "crossed": _crossed}
