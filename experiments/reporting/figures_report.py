"""From the predictions of `Figures` to pages of panels, and how they were made."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import torch

from experiments.reporting.panels import Page, Panel, Row, draw
from experiments.run.figure_items import DISAGREE, ERRORS, HEAT, Figures, Found, Item, disagreeing
from gl_ris.errors import UserError
from gl_ris.files import write_json
from gl_ris.headroom import KINDS, with_images
from gl_ris.heat import as_pictures
from gl_ris.masks import decode_rle
from gl_ris.misses import HIT
from gl_ris.predictions import Prediction
from gl_ris.progress import bar
from gl_ris.results import git_commit, versions

_SIDE = 1.7  # of a panel among misses, in inches
_TOLD = ("image_id", "ref_id", "sent_id", "expression", "noun_phrase", "method", "choice", "score", "iou")


class FigureReport:
    """Draws what the methods chose for some of the expressions that were ``found`` in ``data``.

    A `UserError` if there is nothing to draw, or the data are not those of the predictions.
    """

    def __init__(self, model: Figures, data: Any, found: Found) -> None:
        self.model, self.data = model, data
        self._index = {image_id: index for index, image_id in enumerate(data.image_ids())}
        if foreign := [key[0] for key in found if key[0] not in self._index]:
            raise UserError(
                f"The data have no image {foreign[0]}; give data= and limit= as they were in the run."
            )
        missed = model.shows == ERRORS
        # by name of the file: what it is headed by, and what it shows
        self.sheets = dict(self._missed(found)) if missed else {str(model.name): ("", self._chosen(found))}

    def write(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Write sheets as PNG and PDF, and how they were made as JSON."""
        told = dict[str, Any]()
        for name, (heading, found) in self.sheets.items():
            rows = [self._row(*one) for one in bar(f"drawing {name}", "row", found.items())]
            records = [record for own in found.values() for record in own]
            titles, across = ["Target", *dict.fromkeys(record.method for record in records)], 1
            if self.model.shows == ERRORS:
                titles, across = [], max(1, round(self.model.width / _SIDE))
            draw(Page(rows, self.model.width, titles, heading, across), folder / name)
            told[name] = [{key: getattr(one, key) for key in (*_TOLD, "failure")} for one in records]
        created = datetime.now().astimezone().isoformat(timespec="seconds")
        made = {"schema": 1, "created": created, "versions": versions(), "git_commit": git_commit()}
        write_json(folder / f"{self.model.name}.json", {**made, "config": settings, "sheets": told})

    def _chosen(self, found: Found) -> Found:
        some = disagreeing(found) if self.model.items == DISAGREE else found
        if not some:
            raise UserError(
                f"The methods choose the same mask for all {len(found):,} expressions; look at more images "
                "by limit=, or take items=random."
            )
        return {key: some[key] for key in self.model.chosen} if self.model.chosen else self._some(some)

    def _some(self, found: Found) -> Found:
        items = [Item(self._index[key[0]], *key) for key in found]
        return {item.key: found[item.key] for item in self.model.choose(items)}

    def _missed(self, found: Found) -> Iterator[tuple[str, tuple[str, Found]]]:
        """Choose misses of each kind, by the method and the kind."""
        missed = defaultdict[tuple[str, str], Found](dict)
        for record, seen in with_images(record for own in found.values() for record in own):
            if seen is None:
                raise UserError("These predictions do not tell of the objects of images; evaluate anew.")
            if record.iou is not None and (kind := seen.kind(record)) != HIT:
                missed[record.method, kind][record.image_id, record.ref_id, record.sent_id] = [record]
        if not missed:
            raise UserError(f"None of {len(found):,} expressions was missed: there is nothing to draw.")
        for number, method in enumerate(dict.fromkeys(method for method, _ in missed), start=1):
            for kind in (kind for kind in KINDS if (method, kind) in missed):
                some = self._some(own := missed[method, kind])
                heading = f"{method}: {len(some):,} of the {len(own):,} that {KINDS[kind][1]}"
                yield f"{self.model.name}_{kind}" + (f"_{number}" if number > 1 else ""), (heading, some)

    def _row(self, key: tuple[Any, ...], records: Sequence[Prediction]) -> Row:
        scene, measured = self.data.scenes[self._index[key[0]]], records[0].iou is not None
        row = list(zip(scene.ref_ids, scene.sent_ids, strict=True)).index(key[1:])
        bare = Panel(scene.image.permute(1, 2, 0).cpu().numpy(), corner="" if measured else "no target")
        target = scene.targets[scene.referents[row]].cpu().numpy() if measured else None
        panels = [_with_choice(bare, record) for record in records]
        if self.model.shows == HEAT:
            maps = [self._map(scene, row, record) for record in records]
            panels = [panel._replace(heat=heat) for panel, heat in zip(panels, maps, strict=True)]
        if self.model.shows == ERRORS:
            return Row(records[0].expression, None, [panels[0]._replace(target=target)])
        phrase = next((record.noun_phrase for record in records if record.noun_phrase), None)
        return Row(records[0].expression, phrase, [bare._replace(target=target), *panels])

    def _map(self, scene: Any, row: int, record: Prediction) -> Any:
        """Compute a method's map once more, float ``(H, W)`` in [0, 1]; None where it chose nothing."""
        if record.segmentation is None:
            return None
        scorer = cast("Any", self.model.scorers[self.model.methods.index(record.method)])
        with torch.no_grad():
            context = scorer.clip.context(scene.image, torch.zeros_like(scene.targets[:0]))
            context.scene = scene
            maps = scorer.maps(context, scene.expressions)[row, None]
        return as_pictures(maps.float(), scene.image.shape[1:])[0].cpu().numpy()


def _with_choice(panel: Panel, record: Prediction) -> Panel:
    """Draw a choice over an image; in the corner its IoU, or why there is none."""
    chosen = None if record.segmentation is None else decode_rle(record.segmentation).numpy()
    measured = "" if record.iou is None else f"IoU {100 * record.iou:.0f}"
    return panel._replace(chosen=chosen, corner=record.failure or measured)
