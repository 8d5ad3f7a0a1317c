"""The table of what each field of a recipe changes, from the records of a run to Markdown, CSV and JSON."""

import functools
import inspect
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from experiments.reporting.frame import FIGURES, number, write_csv, write_text
from experiments.reporting.frame import table as table_of
from experiments.run.effects import ALL, BASE, POINTS, RecipeEffects, applies, other_recipe, owner_of
from gl_ris.analysis import Interval, bootstrap, differences, explained
from gl_ris.files import write_json
from gl_ris.masks import decode_rle
from gl_ris.metrics import RISMetrics, mask_areas
from gl_ris.predictions import NO_PROPOSALS, Prediction
from gl_ris.recipe import Recipe
from gl_ris.tally import subset_label

NAME = "recipe_effects"
Records = Sequence[Prediction]

_HEADS = ["Point", "Field", "Value", "oIoU", "change", "mIoU", "change", "other choices %", "misses", "Note"]
_TOWERS = {"vit": "VisionTransformer", "resnet": "ModifiedResNet"}
_LABEL = "a label alone: changes no figure here, only which phrases of PhraseCut are called unseen"
_TALLIED = "the base recipe's choices, tallied again"
_RETARGETED = "the base recipe's choices, measured against the other targets"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    point: int | None  # of the published code
    name: str  # the field, or what the line is about
    value: Any = ""
    figures: Mapping[str, float] = field(default_factory=dict)  # in percent; empty where it does not apply
    # of the figures and, paired, of their changes from the base; empty where there is no line of changes
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    change_intervals: Mapping[str, Interval] = field(default_factory=dict)
    changed: float | None = None  # percent of the expressions with another choice than under the base recipe
    expressions: int | None = None  # how many are behind the figures
    missed: int | None = None  # how many of them have no choice
    note: str = ""  # why the line does not apply, or how it was measured


class EffectsTable:
    """Measures the lines of the table from the records of a run of ``model`` on ``data``."""

    def __init__(self, model: RecipeEffects, data: Any, records: Records, sure: bool = True) -> None:
        self.model, self.sure = model, sure
        self.own, self.other = Recipe.named(model.base), Recipe.named(other_recipe(model.base))
        self.retarget = _retargeting(data, self.other.target_overlap)
        self._records: defaultdict[str, list[Prediction]] = defaultdict(list)
        for record in records:
            self._records[record.method].append(record)

    def rows(self) -> list[Row]:
        """Return the base recipe, each field by its point, all at once, the precisions, then more."""
        base, other = self.model.base, other_recipe(self.model.base)
        rows = [self._measured(Row(None, BASE, base), self._records[BASE])]
        rows += [self._field(name, value) for name, value in self.model.flips.items()]
        everything = self._records[ALL] if self.retarget is None else self.retarget(self._records[ALL])
        rows.append(
            self._measured(Row(None, ALL, other), everything, self.other.skip_images_without_proposals)
        )
        halves = {one.precision: one.title for one in self.model.variants if one.precision != "fp32"}
        rows += [self._measured(Row(None, "precision", p), self._records[t]) for p, t in halves.items()]
        return rows + [self._measured(Row(None, title), self._records[title]) for title in self.model.more]

    def _field(self, name: str, value: Any) -> Row:
        row, base, tower = Row(POINTS[name], name, value), self._records[BASE], name.partition("_")[0]
        if tower in _TOWERS and tower != self.model.tower:
            return replace(row, note=f"does not apply: for a {_TOWERS[tower]} only")
        if not applies(name, self.model.method):
            return replace(row, note=f"does not apply: for method {owner_of(name)} only")
        if name == "unseen":
            both = ", ".join(self._both_definitions())
            return replace(row, note=_LABEL + (f"; oIoU by the base recipe: {both}" if both else ""))
        if name == "skip_images_without_proposals":
            return self._measured(replace(row, note=_TALLIED), base, value)
        if name != "target_overlap":
            return self._measured(row, self._records[name])
        if self.retarget is None:
            return replace(row, note="does not apply: these data have no option overlap")
        return self._measured(replace(row, note=_RETARGETED), self.retarget(base))

    def _both_definitions(self) -> list[str]:
        """Give the base recipe's oIoU by each definition of unseen, where the data have them."""
        subsets = self.model.evaluation.subsets if self.model.evaluation else {}
        return [
            f"{subset_label(name, self.own)} {figures.methods[BASE]['oIoU']:.2f} of {figures.n_evaluated:,}"
            for name, figures in subsets.items()
            if name.startswith("unseen_") and figures.n_evaluated
        ]

    def _measured(self, row: Row, records: Records, skip: bool | None = None) -> Row:
        """Fill in the figures of some records; ``skip`` leaves out images without proposals."""
        skip = self.own.skip_images_without_proposals if skip is None else skip
        pairs = [
            (own, base)
            for own, base in zip(records, self._records[BASE], strict=True)
            if not (skip and own.failure == NO_PROPOSALS) and own.iou is not None
        ]
        areas = torch.tensor([(own.intersection, own.union) for own, _ in pairs], dtype=torch.int64)
        metrics = RISMetrics()
        metrics.update_areas(*areas.reshape(-1, 2).T)
        changed = sum(own.choice != base.choice for own, base in pairs)
        return replace(
            row,
            **(_intervals(pairs) if self.sure and pairs else {}),
            figures=metrics.compute(),
            changed=None if row.name == BASE or not pairs else 100 * changed / len(pairs),
            expressions=len(pairs),
            missed=sum(own.failure is not None for own, _ in pairs),
        )


def _intervals(pairs: Sequence[tuple[Prediction, Prediction]]) -> dict[str, Any]:
    """Return the intervals of a line, and of its changes from the base; none of those of the base itself."""
    ids = [own.image_id for own, _ in pairs]
    own, base = (
        ([one.intersection for one in records], [one.union for one in records])
        for records in zip(*pairs, strict=True)
    )
    changes = {} if all(one is other for one, other in pairs) else differences(ids, base, own)
    return {"intervals": bootstrap(ids, *own), "change_intervals": changes}


def _retargeting(data: Any, rule: Any) -> Callable[[Records], list[Prediction]] | None:
    """Return what measures records against targets made by another rule; None if the data have none."""
    if "overlap" not in inspect.signature(type(data)).parameters:
        return None

    @functools.lru_cache(maxsize=256)
    def target(index: int, ref_id: Any) -> Tensor | None:
        record = data.records[index]
        referent = next(referent for referent in record.referents if referent.ref_id == ref_id)
        try:
            return referent.mask(record.height, record.width, rule)
        except ValueError:  # a faulty annotation, a miss by any rule
            return None

    def measured(record: Prediction) -> Prediction:
        mask = None if record.iou is None else target(record.index, record.ref_id)
        if mask is None:
            return record
        # The choice stays what it was in the run, also where proposals are the annotations.
        chosen = torch.zeros_like(mask) if record.segmentation is None else decode_rle(record.segmentation)
        intersection, union = map(int, mask_areas(chosen, mask))
        iou = intersection / union if union else 0.0
        return msgspec.structs.replace(record, intersection=intersection, union=union, iou=iou)

    return lambda records: [measured(record) for record in records]


def write_effects(folder: Path, rows: Sequence[Row], document: Mapping[str, Any]) -> str:
    """Write ``recipe_effects.md``, ``.csv`` and ``.json`` into a run folder, and return the Markdown table.

    The first row is what the others are compared with; ``document`` is the result document of the run.
    """
    table = markdown(rows)
    table += f"\n\n±: {explained()}; changes are paired." if rows[0].intervals else ""
    heading = f"{document['dataset']} {document['split']}, proposals: {document['proposals']}"
    write_text(folder / f"{NAME}.md", f"{heading}\n\n{table}\n")
    flat = [{**asdict(row), "value": _value(row.value), **row.figures, **_ends(row)} for row in rows]
    columns = [name for name in flat[0] if name not in ("figures", "intervals", "change_intervals")]
    write_csv(folder / f"{NAME}.csv", flat, columns)
    # the figures are those of the rows
    figures = ("methods", "upper_bound", "every_miss", "every_miss_upper_bound", "intervals", "slices")
    about = {name: value for name, value in document.items() if name not in figures}
    write_json(folder / f"{NAME}.json", {**about, "rows": [asdict(row) for row in rows]})
    return table


def _ends(row: Row) -> dict[str, float | None]:
    """Return the columns of the ends of intervals, empty where a line has none."""
    return {
        f"{name}{kind}_{end}": value
        for kind, found in (("", row.intervals), ("_change", row.change_intervals))
        for name in FIGURES
        for end, value in zip(("low", "high"), found.get(name, (None, None)), strict=True)
    }


def markdown(rows: Sequence[Row]) -> str:
    """Lay out the lines as a Markdown table that is also aligned as plain text."""
    cells = []
    for row in rows:
        figures = []
        for name in FIGURES:
            value = row.figures.get(name)
            change = None if value is None or row is rows[0] else value - rows[0].figures[name]
            figures.append(number(value, interval=row.intervals.get(name)))
            figures.append(number(change, "+.2f", row.change_intervals.get(name)))
        misses = "-" if row.missed is None else f"{row.missed:,} of {row.expressions:,}"
        about = [str(row.point or "-"), row.name, _value(row.value) or "-"]
        cells.append([*about, *figures, number(row.changed), misses, row.note])
    return table_of(cells, _HEADS, text=(0, 1, 2, 9))


def _value(value: Any) -> str:
    """Write a value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)
