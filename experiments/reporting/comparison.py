"""What two methods, or two runs, made of the same expressions: paired differences, and which changed."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.reporting.frame import (
    FIGURES,
    ends_of,
    frame_of,
    note_on_intervals,
    number,
    render,
    write_csv,
    write_text,
)
from experiments.run.folder import PROGRESS
from gl_ris.analysis import DRAWS, SEED, Interval, differences, image_sums, intervals, percent
from gl_ris.errors import UserError
from gl_ris.files import write_json
from gl_ris.predictions import Prediction, areas_of, read_predictions
from gl_ris.results import Results

_PLACE = ("dataset", "partition", "split")
Key = tuple[int | str, int | str, int | str]  # image, ref, expression
Records = Mapping[Key, Prediction]


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its document, and by method the records of its expressions."""

    path: Path
    results: Results
    methods: Mapping[str, Records]


@dataclass(frozen=True)
class Comparison:
    """The document of a comparison, and a row for each expression with another mask."""

    document: dict[str, Any]
    changed: list[dict[str, Any]]


def read_run(path: Path) -> Run:
    """Read a run; a `UserError` if it is not finished, or keeps no predictions."""
    if not (path / "results.json").is_file() or (path / PROGRESS).exists():
        raise UserError(f"There is no finished run in '{path}'; go on with it by run_dir={path} resume=true.")
    methods: dict[str, dict[Key, Prediction]] = {}
    for record in read_predictions(path / "predictions.jsonl"):
        key = record.image_id, record.ref_id, record.sent_id
        if methods.setdefault(record.method, {}).setdefault(key, record) is not record:
            raise UserError(f"Expression {_named(key)} is there twice in '{path / 'predictions.jsonl'}'.")
    return Run(path, Results.read(path / "results.json"), methods)


def compare(runs: Sequence[Run], common: bool) -> Comparison:
    """Compare the methods of one run, or those of several.

    A `UserError`, unless they are of the same expressions of a split, or of a part of it that they have in
    ``common``, if that is wanted.
    """
    keys = common_keys(runs, common)
    labels = labels_of([run.path for run in runs])
    rows, changed = [], []
    for first, second in _pairs(runs):
        names = [f"{labels[run]}: {method}" if len(runs) > 1 else method for run, method in (first, second)]
        records = [[runs[run].methods[method][key] for key in keys] for run, method in (first, second)]
        others = [*_changed(*records)]
        rows.append(_row(names, records, others))
        changed += [dict(zip(("first", "second"), names, strict=True)) | other for other in others]
    left = {str(run.path): len(next(iter(run.methods.values()))) - len(keys) for run in runs}
    results = runs[0].results
    document = {
        "schema": 1,
        "experiment": "compare",
        **{name: getattr(results, name) for name in _PLACE},
        "runs": [str(run.path) for run in runs],
        "n_expressions": len(keys),
        "n_left_out": left,
        "resampling": {"draws": DRAWS, "seed": SEED},
        "rows": rows,
    }
    return Comparison(document, changed)


def common_keys(runs: Sequence[Run], common: bool) -> list[Key]:
    """Return what all have records of, in the order of the first run, after checking that they compare."""
    first, *others = runs
    keys = list(next(iter(first.methods.values()), {}))
    for other, name in itertools.product(others, _PLACE):
        was, now = getattr(first.results, name), getattr(other.results, name)
        if was != now:
            raise UserError(f"'{first.path}' and '{other.path}' do not compare: {name} is {was} and {now}.")
    own = next(iter(first.methods.values()), {})
    for path, records in [(run.path, records) for run in runs for records in run.methods.values()]:
        wanted = set(keys)
        lacking = [key for key in keys if key not in records]
        lacking += [key for key in records if key not in wanted]
        if lacking and not common:
            raise UserError(
                f"'{first.path}' and '{path}' differ in {len(lacking):,} expressions, the first of them "
                f"{_named(lacking[0])}; common=true compares those that both have."
            )
        keys = [key for key in keys if key in records]
        for key in keys:
            if (was := own[key].expression) != (now := records[key].expression):
                texts = f"'{was:.60}' and '{now:.60}'"
                raise UserError(f"'{first.path}' and '{path}' have {texts} as expression {_named(key)}.")
    if not keys:
        raise UserError(f"'{runs[-1].path}' has no expression in common with '{first.path}'.")
    return keys


def _named(key: Key) -> str:
    return f"{key[2]} (image {key[0]}, ref {key[1]})"


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Name runs by their folders, with the path where two folders have one name."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _pairs(runs: Sequence[Run]) -> list[tuple[tuple[int, str], tuple[int, str]]]:
    """Pair run and method with run and method: of one run all, of several the same, or else all."""
    sides = [(place, method) for place, run in enumerate(runs) for method in run.methods]
    found = [
        (one, other)
        for one, other in itertools.combinations(sides, 2)
        if len(runs) == 1 or one[0] != other[0]
    ]
    if not found:
        raise UserError(f"'{runs[0].path}' has one method only; name another run to compare it with.")
    return [pair for pair in found if pair[0][1] == pair[1][1]] or found


def _changed(first: Sequence[Prediction], second: Sequence[Prediction]) -> Iterator[dict[str, Any]]:
    """Yield the expressions with another mask, those that lost most first."""
    found = [
        {
            "image_id": one.image_id,
            "ref_id": one.ref_id,
            "sent_id": one.sent_id,
            "expression": one.expression,
            "iou_first": one.iou,
            "iou_second": other.iou,
            "difference": _difference(one, other),
            "mask_iou": shared,
            "choice_first": one.choice,
            "choice_second": other.choice,
        }
        for one, other in zip(first, second, strict=True)
        if (shared := _mask_iou(one, other)) < 1
    ]
    yield from sorted(found, key=lambda row: (row["difference"] is None, row["difference"]))


def _difference(one: Prediction, other: Prediction) -> float | None:
    targeted = None not in (*areas_of(one), *areas_of(other))
    return other.iou - one.iou if targeted and one.iou is not None and other.iou is not None else None


def _mask_iou(one: Prediction, other: Prediction) -> float:
    """Return the IoU of two masks; 1 where both are the same or neither is there, 0 where one is not."""
    if one.segmentation == other.segmentation:
        return 1.0
    if one.segmentation is None or other.segmentation is None:
        return 0.0
    if one.segmentation["size"] != other.segmentation["size"]:
        sizes = f"{one.segmentation['size']} and {other.segmentation['size']}"
        raise UserError(
            f"The masks of image {one.image_id} have sizes {sizes}; the runs are of other images."
        )
    from pycocotools import mask

    pair: list[Any] = [{**m, "counts": m["counts"].encode()} for m in (one.segmentation, other.segmentation)]
    return float(mask.iou(pair[:1], pair[1:], [0])[0, 0])


def _row(
    names: Sequence[str],
    records: Sequence[Sequence[Prediction]],
    changed: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Lay out what a comparison of two says."""
    image_ids = [record.image_id for record in records[0]]
    first, second = (
        ([areas_of(record)[0] for record in one], [areas_of(record)[1] for record in one]) for one in records
    )
    ids, sums = image_sums(image_ids, [first, second])
    sure: dict[str, Interval] = differences(image_ids, first, second)
    own = intervals(sums)
    figures = percent(sums.sum(axis=0))
    moves = [row["difference"] for row in changed if row["difference"]]
    row: dict[str, Any] = {"first": names[0], "second": names[1]}
    row |= {"n_images": len(ids), "n_expressions": int(sums[:, 0, 3].sum())}
    for place, name in enumerate(FIGURES):
        values = figures[:, place].tolist()
        row |= {f"{name}_first": values[0], **ends_of(f"{name}_first", own[0][place])}
        row |= {f"{name}_second": values[1], **ends_of(f"{name}_second", own[1][place])}
        row |= {f"{name}_difference": values[1] - values[0], **ends_of(f"{name}_difference", sure[name])}
    row |= {"n_changed": len(changed), "changed_percent": 100 * len(changed) / len(image_ids)}
    return row | {"n_better": sum(d > 0 for d in moves), "n_worse": sum(d < 0 for d in moves)}


def write_all(folder: Path, found: Comparison) -> None:
    """Write ``compare.json``, ``.md`` and ``.csv``, and ``changed.csv``, a line per expression."""
    write_json(folder / "compare.json", found.document)
    write_text(folder / "compare.md", report(found.document) + "\n")
    write_csv(folder / "compare.csv", found.document["rows"])
    heads = [*("first", "second", "image_id", "ref_id", "sent_id", "expression", "iou_first", "iou_second")]
    heads += ["difference", "mask_iou", "choice_first", "choice_second"]
    write_csv(folder / "changed.csv", found.changed, heads)


def report(document: Mapping[str, Any]) -> str:
    """Return the table as Markdown, with what must be known to read it."""
    kinds = ("first", "second", "difference")
    heads = ["First", "Second", *(f"{name} {kind}" for name in FIGURES for kind in kinds)]
    lines = []
    for row in document["rows"]:
        cells = [row["first"], row["second"]]
        for name, kind in itertools.product(FIGURES, kinds):
            key = f"{name}_{kind}"
            ends = (row[f"{key}_low"], row[f"{key}_high"])
            cells.append(number(row[key], "+.2f" if kind == "difference" else ".2f", ends))
        cells += [number(row["changed_percent"]), f"{row['n_better']:,}", f"{row['n_worse']:,}"]
        lines.append(cells)
    table = render(frame_of(lines, [*heads, "changed %", "better", "worse"]), "markdown", text=(0, 1))
    place = " ".join(str(document[name]) for name in _PLACE if document[name])
    return f"# Comparison on {place}\n\n{table}\n\n" + "\n".join(f"* {note}" for note in _notes(document))


def _notes(document: Mapping[str, Any]) -> Iterator[str]:
    row = document["rows"][0]
    yield from note_on_intervals(document)
    yield (
        "Differences are second less first, paired: the same images are drawn for both. Where the interval "
        "(both ends: compare.csv) has 0 in it, these images do not tell the two apart."
    )
    yield f"{row['n_expressions']:,} expressions on {row['n_images']:,} images; every miss counts."
    yield "Changed: the mask is another one; better and worse, by its IoU. Each is in changed.csv."
    for path, count in document["n_left_out"].items():
        if count:
            yield f"{count:,} expressions of '{path}' are left out, which not all have."
