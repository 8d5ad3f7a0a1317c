"""The annotated objects of an image as masks, each outline drawn once for targets, objects and proposals."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.records import ImageRecord, MaskRule, Segmentation

_MOST_PIXELS = 1 << 30  # of all objects together; images of COCO have 30 million at most

log = logging.getLogger(__name__)


class Objects(NamedTuple):
    """What `gl_ris.evidence.Objects` says, of a record."""

    masks: Tensor
    categories: list[str | None]
    meant: list[tuple[int, ...] | None]


class Outlines:
    """Draws the outlines of one record, each once."""

    def __init__(self, record: ImageRecord, rule: MaskRule) -> None:
        self.record, self.rule = record, rule
        self.size = record.height, record.width
        self._drawn: dict[Any, Tensor | ValueError] = {}

    def mask(self, outline: Segmentation) -> Tensor:
        """Return the mask of one of the record's outlines, bool ``(H, W)``; ValueError if it is damaged."""
        found = self._drawn.get(outline.key)
        if found is None:
            try:
                found = outline.mask(*self.size, self.rule)
            except ValueError as reason:
                found = reason
            self._drawn[outline.key] = found
        if isinstance(found, ValueError):
            raise found
        return found

    def stack(self, masks: list[Tensor]) -> Tensor:
        """Stack masks, bool ``(n, H, W)``, where there may be none."""
        return torch.stack(masks) if masks else torch.zeros(0, *self.size, dtype=torch.bool)

    def targets(self) -> tuple[Tensor, list[str | None]]:
        """Return the target of each ref (empty where faulty), and what is wrong with each that is faulty."""
        masks, faults = [], list[str | None]()
        for referent in self.record.referents:
            fault, mask = None, torch.zeros(self.size, dtype=torch.bool)
            try:
                for outline in referent.segmentations:
                    mask = mask | self.mask(outline)
            except ValueError as reason:
                fault, mask = f"target: {reason}", torch.zeros_like(mask)
            masks.append(mask)
            faults.append(fault)
        return self.stack(masks), faults

    def proposals(self) -> Tensor:
        """Return the instances that have a pixel, bool ``(N, H, W)``; a damaged one is left out and told."""
        found = []
        for outline in self.record.instances:
            try:
                mask = self.mask(outline)
            except ValueError as reason:
                told = "Image %s: a ground-truth proposal is left out (%s)."
                log.warning(told, self.record.image_id, str(reason))
                continue
            found += [mask] if mask.any() else []
        return self.stack(found)

    def objects(self) -> Objects:
        """Return all instances of the image, and which of them each ref means.

        Where the data set knows only what is referred to, these are the outlines of the refs, of which those
        with the same pixels are one; so it is where there are more than an image can have. A damaged one is
        left out; what means it has no known target.
        """
        rows: dict[Any, int] = {}  # by key of the outline
        masks, categories = list[Tensor](), list[str | None]()
        alike: dict[bytes, int] = {}
        room = len(self.record.objects) * self.size[0] * self.size[1] <= _MOST_PIXELS
        others = [*zip(self.record.objects, self.record.categories, strict=True)] if room else []
        asked = [(o, ref.category) for ref in self.record.referents for o in ref.segmentations]
        for outline, category in [*others, *asked]:
            if outline.key in rows:
                continue
            try:
                mask = self.mask(outline)
            except ValueError:
                continue
            next_row = len(masks)
            row = next_row if others else alike.setdefault(mask.numpy().tobytes(), next_row)
            rows[outline.key] = row
            if row == len(masks):
                masks.append(mask)
                categories.append(category)
            else:
                categories[row] = categories[row] or category
        meant = [self._meant(rows, place) for place in range(len(self.record.referents))]
        return Objects(self.stack(masks), categories, meant)

    def _meant(self, rows: dict[Any, int], place: int) -> tuple[int, ...] | None:
        referent = self.record.referents[place]
        if not referent.segmentations:
            return () if referent.absent else None
        found = [rows.get(outline.key) for outline in referent.segmentations]
        known = [row for row in found if row is not None]
        return tuple(sorted(set(known))) if len(known) == len(found) else None
