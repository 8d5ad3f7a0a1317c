"""The table of what each field of a recipe changes, made from the records of a run."""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from experiments.reporting.effects import ALL, BASE, POINTS, RecipeEffects, other_recipe
from gl_ris.iou import mask_areas
from gl_ris.masks import decode_rle
from gl_ris.metrics import RISMetrics
from gl_ris.recipe import Recipe
from gl_ris.results import Prediction
from gl_ris.subsets import subset_label
from gl_ris.zero_shot import NO_PROPOSALS

Records = Sequence[Prediction]

_TOWERS = {"vit": "VisionTransformer", "resnet": "ModifiedResNet"}
_LABEL = "a label alone: changes no figure here, only which phrases of PhraseCut are called unseen"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        point: Point of the published code, or None.
        name: The field, or what the line is about.
        value: Its value in this line; empty if it has none.
        figures: In percent; empty where the line does not apply.
        changed: Share of the expressions with another choice than under the base recipe, in percent.
        expressions: Behind the figures.
        missed: How many of them have no choice.
        note: Why the line does not apply, or how it was measured.
    """

    point: int | None
    name: str
    value: Any = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    changed: float | None = None
    expressions: int | None = None
    missed: int | None = None
    note: str = ""


class EffectsTable:
    """Measures the lines of the table.

    Args:
        model: After its run.
        data: The data module that it was run on.
        records: Of that run, all methods.
    """

    def __init__(self, model: RecipeEffects, data: Any, records: Records) -> None:
        self.model = model
        self.own, self.other = Recipe.named(model.base), Recipe.named(other_recipe(model.base))
        self.tower = model.tower
        self.retarget = _retargeting(data, self.other.target_overlap)
        self._records: defaultdict[str, list[Prediction]] = defaultdict(list)
        for record in records:
            self._records[record.method].append(record)

    def rows(self) -> list[Row]:
        """Return the base recipe, each field by its point, all at once, then the precisions."""
        everything = self._records[ALL]
        if self.retarget is not None:
            everything = self.retarget(everything)
        skip = self.other.skip_images_without_proposals
        return [
            self._measured(Row(None, BASE, self.model.base), self._records[BASE]),
            *(self._field(name, value) for name, value in self.model.flips.items()),
            self._measured(Row(None, ALL, other_recipe(self.model.base)), everything, skip),
            *(
                self._measured(Row(None, "precision", variant.precision), self._records[variant.title])
                for variant in self.model.variants
                if variant.precision != "fp32"
            ),
        ]

    def _field(self, name: str, value: Any) -> Row:
        row, tower = Row(POINTS[name], name, value), name.partition("_")[0]
        if tower in _TOWERS and tower != self.tower:
            return replace(row, note=f"does not apply: for a {_TOWERS[tower]} only")
        if name == "skip_images_without_proposals":
            note = "the base recipe's choices, tallied again"
            return self._measured(replace(row, note=note), self._records[BASE], value)
        if name == "unseen":
            return replace(row, note=_LABEL + self._both_definitions())
        if name == "target_overlap":
            if self.retarget is None:
                return replace(row, note="does not apply: these data have no option overlap")
            note = "the base recipe's choices, measured against the other targets"
            return self._measured(replace(row, note=note), self.retarget(self._records[BASE]))
        return self._measured(row, self._records[name])

    def _both_definitions(self) -> str:
        """Give the base recipe's oIoU by each definition, where the data have them."""
        subsets = self.model.evaluation.subsets if self.model.evaluation else {}
        found = [
            f"{subset_label(name, self.own)} {figures.methods[BASE]['oIoU']:.2f} of {figures.n_evaluated:,}"
            for name, figures in subsets.items()
            if name.startswith("unseen_") and figures.n_evaluated
        ]
        return f"; oIoU by the base recipe: {', '.join(found)}" if found else ""

    def _measured(self, row: Row, records: Records, skip: bool | None = None) -> Row:
        """Fill in the figures of some records; ``skip`` leaves out images without proposals."""
        skip = self.own.skip_images_without_proposals if skip is None else skip
        pairs = [
            (own, base)
            for own, base in zip(records, self._records[BASE], strict=True)
            if not (skip and own.failure == NO_PROPOSALS)
        ]
        metrics = RISMetrics()
        metrics.update_areas(
            torch.tensor([own.intersection for own, _ in pairs], dtype=torch.int64),
            torch.tensor([own.union for own, _ in pairs], dtype=torch.int64),
        )
        changed = sum(own.choice != base.choice for own, base in pairs)
        return replace(
            row,
            figures=metrics.compute(),
            changed=None if row.name == BASE or not pairs else 100 * changed / len(pairs),
            expressions=len(pairs),
            missed=sum(own.failure is not None for own, _ in pairs),
        )


def _retargeting(data: Any, rule: Any) -> Callable[[Records], list[Prediction]] | None:
    """Return what measures records against targets made by another rule; None if the data have no such rule.

    Proposals stay what they were in the run, also those from the annotations.
    """
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
        mask = target(record.index, record.ref_id)
        if mask is None:
            return record
        chosen = torch.zeros_like(mask) if record.segmentation is None else decode_rle(record.segmentation)
        intersection, union = (int(area) for area in mask_areas(chosen, mask))
        return msgspec.structs.replace(
            record, intersection=intersection, union=union, iou=intersection / union if union else 0.0
        )

    return lambda records: [measured(record) for record in records]
