"""From the predictions of `Figures` to sheets of panels, and how each was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from experiments.reporting.panels import Page, Panel, Row, draw
from experiments.run.figure_items import CHOICES, DISAGREE, HEAT, Figures, Found, Item, Key, disagreeing
from gl_ris.errors import UserError
from gl_ris.files import write_json
from gl_ris.heat import as_pictures
from gl_ris.masks import decode_rle
from gl_ris.predictions import Prediction
from gl_ris.results import git_commit, versions

FIRST = "Target"


@dataclass(frozen=True)
class Sheet:
    """What one picture shows: expressions, with the predictions whose choices are drawn."""

    name: str
    found: Found
    titles: Sequence[str] = ()
    heading: str = ""
    across: int = 1


class Asked(NamedTuple):
    """An expression of a scene, the image with its target, and what the methods chose."""

    scene: Any
    row: int
    shown: Panel
    records: Sequence[Prediction]


class FigureReport:
    """Draws what a run of `Figures` on ``data`` has found, by expression.

    A `UserError` if there is nothing to draw, or the data are not those of the predictions.
    """

    def __init__(self, model: Figures, data: Any, found: Found) -> None:
        self.model, self.data, self.found = model, data, found
        self._index = {image_id: index for index, image_id in enumerate(data.image_ids())}
        self.sheets = list(self._sheets())

    def write(self, folder: Path, settings: Mapping[str, Any]) -> list[Path]:
        """Write sheets as PNG and PDF, and how they were made as JSON; return all files."""
        paths = list[Path]()
        panels = {CHOICES: self._choices, HEAT: self._heat}[self.model.shows]
        for sheet in self.sheets:
            rows = [self._row(asked, panels(asked)) for asked in self._asked(sheet)]
            page = Page(rows, self.model.width, sheet.titles, sheet.heading, sheet.across)
            paths += draw(page, folder / sheet.name)
        document = folder / f"{self.model.name}.json"
        write_json(document, self._document(settings))
        return [*paths, document]

    def _sheets(self) -> Iterator[Sheet]:
        methods = [record.method for record in next(iter(self.found.values()))]
        yield Sheet(str(self.model.name), self._chosen(), [FIRST, *methods])

    def _chosen(self) -> Found:
        found = disagreeing(self.found) if self.model.items == DISAGREE else self.found
        if not found:
            raise UserError(
                f"The methods choose the same mask for all of {len(self.found):,} expressions; look at more "
                "images by limit=, or take items=random."
            )
        items = [Item(self._place(key), *key) for key in found]
        return {key: found[key] for key in self.model.chosen or [one.key for one in self.model.choose(items)]}

    def _place(self, key: Key) -> int:
        if key[0] not in self._index:
            raise UserError(
                f"The predictions are of image {key[0]}, which the data have not; give data= and limit= as "
                "they were in that run."
            )
        return self._index[key[0]]

    def _asked(self, sheet: Sheet) -> Iterator[Asked]:
        from tqdm import tqdm

        for key, records in tqdm(sheet.found.items(), f"drawing {sheet.name}", unit="row", disable=None):
            scene, known = self.data.scenes[self._place(key)], records[0].iou is not None
            row = list(zip(scene.ref_ids, scene.sent_ids, strict=True)).index(key[1:])
            image = scene.image.permute(1, 2, 0).cpu().numpy()
            target = scene.targets[scene.referents[row]].cpu().numpy() if known else None
            yield Asked(scene, row, Panel(image, target, corner="" if known else "no target"), records)

    def _row(self, asked: Asked, panels: Sequence[Panel]) -> Row:
        phrase = next((record.noun_phrase for record in asked.records if record.noun_phrase), None)
        return Row(asked.records[0].expression, phrase, panels)

    def _choices(self, asked: Asked) -> list[Panel]:
        bare = replace(asked.shown, target=None)
        return [asked.shown, *(_with_choice(bare, record) for record in asked.records)]

    def _heat(self, asked: Asked) -> list[Panel]:
        first, *others = self._choices(asked)
        maps = [self._map(asked, record) for record in asked.records]
        return [first, *(replace(panel, heat=heat) for panel, heat in zip(others, maps, strict=True))]

    def _map(self, asked: Asked, record: Prediction) -> Any:
        """Compute the heat map of a method for an expression once more; None where it chose nothing."""
        if record.segmentation is None:
            return None
        scorer = cast("Any", self.model.scorers[self.model.methods.index(record.method)])
        size = asked.shown.image.shape[:2]
        with torch.no_grad():
            context = scorer.clip.context(asked.scene.image, torch.zeros(0, *size, dtype=torch.bool))
            context.scene = asked.scene
            maps = scorer.maps(context, asked.scene.expressions)[asked.row, None]
        return as_pictures(maps.float(), size)[0].cpu().numpy()

    def _document(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        data, model = self.data, self.model
        return {
            "schema": 1,
            "figure": model.name,
            **{name: getattr(model, name) for name in ("shows", "items", "n", "seed", "width")},
            **{name: getattr(data, name) for name in ("split", "partition")},
            "dataset": data.dataset_name,
            "proposals": model.proposals_name(data),
            "sheets": {sheet.name: [_told(*one) for one in sheet.found.items()] for sheet in self.sheets},
            "config": settings,
            "versions": versions(),
            "git_commit": git_commit(),
            "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        }


def _with_choice(panel: Panel, record: Prediction) -> Panel:
    """Draw a choice over an image; in the corner its IoU, or why there is none."""
    chosen = None if record.segmentation is None else decode_rle(record.segmentation).numpy()
    measured = "" if record.iou is None else f"IoU {100 * record.iou:.0f}"
    return replace(panel, chosen=chosen, corner=record.failure or measured)


def _told(key: Key, records: Sequence[Prediction]) -> dict[str, Any]:
    first = records[0]
    return {
        **dict(zip(("image_id", "ref_id", "sent_id"), key, strict=True)),
        "expression": first.expression,
        "noun_phrase": first.noun_phrase,
        "methods": {
            record.method: {name: getattr(record, name) for name in ("choice", "score", "iou", "failure")}
            for record in records
        },
    }
