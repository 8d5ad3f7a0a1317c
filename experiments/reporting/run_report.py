"""``report.html``: finished runs on one page that holds everything it shows."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from experiments.reporting.comparison import Run, common_keys, compare, labels_of, read_run
from experiments.reporting.frame import FIGURES, note_on_intervals
from experiments.reporting.report_items import LABELS, Column, columns_of, document
from experiments.reporting.report_pictures import Pictures
from gl_ris.files import atomic_file, to_json
from gl_ris.results import UPPER_BOUND, Results, format_counts, views_of

_PAGE = Path(__file__).parent / "page"
_PLAIN = {"intervals": {}, "small": False}  # what a slice leaves out where it says nothing
_SLICED = (*FIGURES, "Pr@0.5")
_MADE = (
    "experiment",
    "created",
    "git_commit",
    "versions",
    "kernels",
    "seconds",
    "proposal_store",
    "inputs",
    "config",
)


def write_report(
    paths: Sequence[Path], folder: Path, limit: int | None, heat: bool, common: bool
) -> list[str]:
    """Write ``report.html`` of finished runs into a folder, and say what is in it.

    At most ``limit`` images are embedded, by default what `report_pictures.BUDGET` holds; with heat maps,
    which are computed anew, if ``heat``. `UserError` if a run is not finished, if they are of other
    expressions, unless those in ``common`` are wanted, or if their images are not there any more.
    """
    runs = [read_run(path) for path in paths]
    keys = common_keys(runs, common)
    columns = columns_of(runs, keys)
    found = document(columns, [*_slice_names(runs[0].results)])
    pictures, left_out = [], dict[str, int]()
    if limit != 0:
        source = Pictures(columns, paths, heat)
        pictures, left_out = [*source.embed(found, limit)], dict(source.left_out)
    context = {
        **_context(runs, columns, common),
        "pictures": pictures,
        "n_pictures": len(pictures),
        "n_images": len(found["images"]),
        "n_items": len(found["items"]),
        "left_out": left_out,
        "data": _as_script(to_json(found).decode()),
    }
    out = folder / "report.html"
    with atomic_file(out) as file:
        file.write(_render(context))
    return [
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, {len(keys):,} expressions, {len(pictures):,} of "
        f"{len(found['images']):,} images embedded",
        *(f"Left out: {count:,} {what}" for what, count in left_out.items()),
    ]


def _render(context: Mapping[str, Any]) -> bytes:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    page = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = {kind: (_PAGE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}
    # what is not in these two is not run, whatever the data hold
    policy = {f"{kind}_hash": _hash(text) for kind, text in parts.items()}
    mark = secrets.token_hex(16)  # in place of the size, which is known in the end
    whole: dict[str, Any] = {name: Markup(text) for name, text in {**parts, "data": context["data"]}.items()}
    whole["pictures"] = [(number, code, Markup(paths)) for number, code, paths in context["pictures"]]
    text = page.get_template("report.html").render({**context, **policy, **whole, "size": mark})
    made = text.encode("utf-8", "backslashreplace")
    return made.replace(mark.encode(), f"{len(made) / 1e6:.1f} MB".encode())


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _as_script(text: str) -> str:
    """Write JSON so that it ends no script element: "<" can only be inside a text there."""
    return text.replace("<", "\\u003c")


def _slice_names(results: Results) -> Iterator[tuple[str, str]]:
    kinds: dict[str, dict[str, None]] = {}
    for own in (results.slices or {}).values():
        for kind, values in own.items():
            kinds.setdefault(kind, {}).update(dict.fromkeys(values))
    yield from ((kind, value) for kind, values in kinds.items() for value in values)


def _context(runs: Sequence[Run], columns: Sequence[Column], common: bool) -> dict[str, Any]:
    """Lay out what stands above the gallery."""
    labels = labels_of([run.path for run in runs])
    several = len(runs) > 1 or len(runs[0].methods) > 1
    compared = compare(runs, common).document if several else None
    first = runs[0].results
    place = " ".join(filter(None, (first.dataset, first.split, first.partition and f"({first.partition})")))
    return {
        "title": place,
        "labels": labels,
        "columns": [column.label for column in columns],
        "results": [run.results for run in runs],
        "blocks": [*_blocks(runs, columns)],
        "misses": [*_misses(runs, columns)],
        "kinds": LABELS,
        "slices": _slices(runs, columns),
        "sliced": _SLICED,
        "compared": compared,
        "widest": _widest(compared),
        "notes": [*note_on_intervals(first.document()), *_left_out(compared)],
        "counts": [
            [(line[:13].strip(), line[13:]) for line in format_counts(r.results).splitlines()] for r in runs
        ],
        "settings": [_settings(run.results) for run in runs],
        "created": datetime.now().astimezone().isoformat(" ", "minutes"),
        "figures": FIGURES,
        "upper_bound": UPPER_BOUND,
    }


def _blocks(runs: Sequence[Run], columns: Sequence[Column]) -> Iterator[dict[str, Any]]:
    """Yield the figures of all and of each subset: rows are the methods, and the bound of each run."""
    shown = [views_of(run.results) for run in runs]
    parts = [{", ".join(filter(None, (name, how))): part for name, how, part in one} for one in shown]
    bounds = zip(labels_of([run.path for run in runs]), range(len(runs)), strict=True)
    wanted = [(column.label, column.run, column.method) for column in columns]
    wanted += [
        (f"{name}: {UPPER_BOUND}" if len(runs) > 1 else UPPER_BOUND, n, UPPER_BOUND) for name, n in bounds
    ]
    for title in dict.fromkeys(title for own in parts for title in own):
        rows, names = [], dict[str, None]()
        for label, run, method in wanted:
            if (part := parts[run].get(title)) is None:
                continue
            bound = {"oIoU": part.upper_bound.oIoU, "mIoU": part.upper_bound.mIoU}
            figures: Mapping[str, float | None] = {**part.methods, UPPER_BOUND: bound}.get(method, {})
            if figures.get("oIoU") is not None or method != UPPER_BOUND:
                sure, n = (part.intervals or {}).get(method, {}), part.n_expressions_evaluated
                rows.append({"label": label, "method": method, "figures": figures, "sure": sure, "n": n})
                names |= dict.fromkeys(figures)
        yield {"title": title, "rows": rows, "names": names}


def _misses(runs: Sequence[Run], columns: Sequence[Column]) -> Iterator[dict[str, Any]]:
    for number, column in enumerate(columns):
        results = runs[column.run].results
        if (room := results.headroom.get(column.method)) is not None:
            kinds = results.errors[column.method]
            yield {"column": number, "label": column.label, "room": room, "kinds": kinds}


def _slices(runs: Sequence[Run], columns: Sequence[Column]) -> dict[str, dict[str, list[tuple[int, Any]]]]:
    """Return by kind and value what each column has there."""
    found: dict[str, dict[str, list[tuple[int, Any]]]] = {}
    for number, column in enumerate(columns):
        for kind, values in (runs[column.run].results.slices or {}).get(column.method, {}).items():
            for value, one in values.items():
                found.setdefault(kind, {}).setdefault(value, []).append(
                    (number, {**_PLAIN, **msgspec.to_builtins(one)})
                )
    return found


def _widest(compared: Mapping[str, Any] | None) -> float:
    """Return how far from 0 the intervals of differences reach, in points."""
    rows = compared["rows"] if compared else []
    ends = (row[f"{name}_difference_{end}"] for row in rows for name in FIGURES for end in ("low", "high"))
    return max([abs(end) for end in ends if end is not None and end == end], default=1) or 1


def _left_out(compared: Mapping[str, Any] | None) -> Iterator[str]:
    for path, count in (compared["n_left_out"] if compared else {}).items():
        if count:
            yield f"{count:,} expressions of '{path}', which not all have, are neither compared nor below."


def _settings(results: Results) -> str:
    content = {name: value for name, value in results.document().items() if name in _MADE}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
