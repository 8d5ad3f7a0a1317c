"""What two methods, or two runs, made of the same expressions: paired differences, and which changed."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reporting.finished import Methods, named, read_methods
from experiments.reporting.frame import (
    FIGURES,
    ends_of,
    frame_of,
    interval_in,
    note_on_intervals,
    number,
    render,
    write_csv,
    write_text,
)
from gl_ris.analysis import DRAWS, SEED, Areas, differences, image_sums, intervals, percent
from gl_ris.errors import UserError
from gl_ris.expression_ids import Key
from gl_ris.files import write_json
from gl_ris.predictions import Prediction, areas_of
from gl_ris.results import Results

_PLACE = ("dataset", "partition", "split")
_KINDS = ("first", "second", "difference")
_CHANGED = (
    *("first", "second", "image_id", "ref_id", "sent_id", "expression", "iou_first", "iou_second"),
    *("difference", "mask_iou", "choice_first", "choice_second"),
)


class Run(NamedTuple):
    """A finished run."""

    path: Path
    results: Results
    methods: Methods


class Comparison(NamedTuple):
    """The document of a comparison, and a row for each expression with another mask."""

    document: dict[str, Any]
    changed: list[dict[str, Any]]


def read_run(path: Path) -> Run:
    """Read a run; a `UserError` if it is not finished, or keeps no predictions."""
    methods = read_methods(path)
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
        pair = dict(zip(_KINDS, names, strict=False))
        others = [pair | other for other in _changed(*records)]
        rows.append(pair | _row(records, others))
        changed += others
    left = {str(run.path): len(next(iter(run.methods.values()))) - len(keys) for run in runs}
    document = {
        "schema": 1,
        "experiment": "compare",
        **{name: getattr(runs[0].results, name) for name in _PLACE},
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
    for other, name in itertools.product(others, _PLACE):
        was, now = getattr(first.results, name), getattr(other.results, name)
        if was != now:
            raise UserError(
                f"'{first.path}' and '{other.path}' do not compare: {name} is {was} and {now}; name runs on "
                "the same data."
            )
    own = next(iter(first.methods.values()), {})
    keys = list(own)
    for path, records in [(run.path, records) for run in runs for records in run.methods.values()]:
        lacking = [*(key for key in keys if key not in records), *(records.keys() - set(keys))]
        if lacking and not common:
            raise UserError(
                f"'{first.path}' and '{path}' differ in {len(lacking):,} expressions, the first of them "
                f"{named(lacking[0])}; common=true compares those that both have."
            )
        keys = [key for key in keys if key in records]
        for key in keys:
            if (was := own[key].expression) != (now := records[key].expression):
                texts = f"'{was:.60}' and '{now:.60}'"
                raise UserError(f"'{first.path}' and '{path}' have {texts} as expression {named(key)}.")
    if not keys:
        raise UserError(f"'{runs[-1].path}' has no expression in common with '{first.path}'.")
    return keys


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


def _changed(first: Sequence[Prediction], second: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return the expressions with another mask, those that lost most first."""
    found = [
        {
            **dict(zip(("image_id", "ref_id", "sent_id"), one.key, strict=True)),
            "expression": one.expression,
            **{"iou_first": one.iou, "iou_second": other.iou, "difference": _difference(one, other)},
            "mask_iou": shared,
            **{"choice_first": one.choice, "choice_second": other.choice},
        }
        for one, other in zip(first, second, strict=True)
        if (shared := _mask_iou(one, other)) < 1
    ]
    return sorted(found, key=lambda row: (row["difference"] is None, row["difference"]))


def _difference(one: Prediction, other: Prediction) -> float | None:
    known = one.target != () and one.iou is not None and other.iou is not None
    return other.iou - one.iou if known else None  # type: ignore[operator]


def _mask_iou(one: Prediction, other: Prediction) -> float:
    """Return the IoU of two masks; 1 where both are the same or neither has a pixel, 0 where one has none."""
    if one.segmentation == other.segmentation:
        return 1.0
    known = [code for code in (one.segmentation, other.segmentation) if code is not None]
    if known[0]["size"] != known[-1]["size"]:
        sizes = f"{known[0]['size']} and {known[-1]['size']}"
        raise UserError(
            f"The masks of image {one.image_id} have sizes {sizes}; the runs are of other images."
        )
    from pycocotools import mask

    codes: list[Any] = [{**code, "counts": code["counts"].encode()} for code in known]
    some = [code for code in codes if mask.area(code)]
    return float(mask.iou(some[:1], some[1:], [0])[0, 0]) if len(some) == 2 else 1.0 - len(some)


def _row(records: Sequence[Sequence[Prediction]], changed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Lay out what a comparison of two says."""
    ids = [record.image_id for record in records[0]]
    moves = [row["difference"] or 0 for row in changed]
    absent = sum(record.target == () for record in records[0])
    row = _figures(ids, [_areas(map(areas_of, one)) for one in records], dict(enumerate(FIGURES)))
    row |= {"n_expressions_no_target": absent}
    if absent:  # all of them: right where nothing is chosen is a hit of one pixel, and otherwise a miss
        every = [_areas(map(_with_absent, one)) for one in records]
        row |= {key: value for key, value in _figures(ids, every, {1: "gIoU"}).items() if key not in row}
    row |= {"n_changed": len(changed), "changed_percent": 100 * len(changed) / len(ids)}
    return row | {"n_better": sum(d > 0 for d in moves), "n_worse": sum(d < 0 for d in moves)}


def _areas(pairs: Iterable[tuple[int | None, int | None]]) -> tuple[Areas, Areas]:
    intersections, unions = zip(*pairs, strict=True)
    return intersections, unions


def _with_absent(record: Prediction) -> tuple[int | None, int | None]:
    return (int(record.iou or 0), 1) if record.target == () else areas_of(record)


def _figures(
    image_ids: Sequence[int | str], pair: Sequence[tuple[Areas, Areas]], names: Mapping[int, str]
) -> dict[str, Any]:
    """Return figures of `gl_ris.analysis.percent` by place, of two and their difference, with intervals."""
    ids, sums = image_sums(image_ids, pair)
    own, sure = intervals(sums), list(differences(image_ids, pair[0], pair[1]).values())
    row: dict[str, Any] = {"n_images": len(ids), "n_expressions": int(sums[:, 0, 3].sum())}
    for place, name in names.items():
        first, second = percent(sums.sum(axis=0))[:, place].tolist()
        ends = (own[0][place], own[1][place], sure[place])
        for kind, value, interval in zip(_KINDS, (first, second, second - first), ends, strict=True):
            row |= {f"{name}_{kind}": value, **ends_of(f"{name}_{kind}", interval)}
    return row


def write_all(folder: Path, found: Comparison) -> None:
    """Write ``compare.json``, ``.md`` and ``.csv``, and ``changed.csv``, a line per expression."""
    write_json(folder / "compare.json", found.document)
    write_text(folder / "compare.md", report(found.document) + "\n")
    write_csv(folder / "compare.csv", found.document["rows"])
    write_csv(folder / "changed.csv", found.changed, _CHANGED)


def report(document: Mapping[str, Any]) -> str:
    """Return the table as Markdown, with what must be known to read it."""
    names = [*FIGURES, *(["gIoU"] if any("gIoU_first" in row for row in document["rows"]) else [])]
    keys = [f"{name}_{kind}" for name, kind in itertools.product(names, _KINDS)]
    lines = [
        [
            *(row["first"], row["second"]),
            *(
                number(row.get(key), "+.2f" if key.endswith("difference") else ".2f", interval_in(row, key))
                for key in keys
            ),
            *(number(row["changed_percent"]), f"{row['n_better']:,}", f"{row['n_worse']:,}"),
        ]
        for row in document["rows"]
    ]
    heads = ["First", "Second", *(key.replace("_", " ") for key in keys), "changed %", "better", "worse"]
    table = render(frame_of(lines, heads), "markdown", text=(0, 1))
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
    if absent := row["n_expressions_no_target"]:
        yield f"{absent:,} more known to have no target: in gIoU and in changes alone."
    if unknown := document["n_expressions"] - row["n_expressions"] - absent:
        yield f"{unknown:,} more without a target: in changes alone."
    yield "Changed: the mask is another one; better and worse, by its IoU. Each is in changed.csv."
    for path, count in document["n_left_out"].items():
        if count:
            yield f"{count:,} expressions of '{path}' are left out, which not all have."
