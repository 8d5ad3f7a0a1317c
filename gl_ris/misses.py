"""Why an expression was missed, from predictions alone.

After TIDE (Bolya et al. 2020) and the gap decomposition that later zero-shot papers use. A miss is an
expression whose mask has IoU < 0.5 with its target. It is of the first kind that fits, in this order:

1. ``failed``: the program or the annotation failed; the record says why.
2. ``no_proposal``: there are proposals, and none has IoU >= 0.5 with the target, or an image has none.
3. ``abstained``: nothing was chosen on purpose, or the mask is null or without a pixel.
4. ``same_category``, ``other_category``, ``other_object``: the mask has IoU >= 0.5 with an object that is not
   meant; the one of highest IoU says whether that has a category of the target, another one, or whether one
   of the two is not known.
5. ``part``: more than 0.8 of the mask is on the target (precision > 0.8).
6. ``too_large``: the mask holds more than 0.8 of the target.
7. What is left goes by where most of the mask is. On one other object: as 4. On no object at all:
   ``background`` (objects that the data do not outline are background). On the target: ``part`` if the mask
   is smaller than the target, else ``too_large``.

A target of several objects is their union: a mask on one of them is a part. Expressions that are known to
mean nothing are right where nothing is chosen, and else a miss of the kind ``nothing_meant``; they are in no
oIoU and mIoU. Expressions without a known target are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from gl_ris.predictions import NO_PROPOSALS, SKIPPED, ImageFacts, Prediction

Areas = tuple[int, int]  # intersection and union

HIT, FAILED, NO_PROPOSAL, ABSTAINED = "hit", "failed", "no_proposal", "abstained"
SAME, OTHER, OBJECT = "same_category", "other_category", "other_object"
BACKGROUND, PART, TOO_LARGE, NOTHING_MEANT = "background", "part", "too_large", "nothing_meant"


class Seen:
    """An image as its first record tells of it, and what the records on it can be told by that."""

    def __init__(self, facts: ImageFacts) -> None:
        self.facts = facts
        self._united = {one.objects: one for one in facts.united}
        self._best: dict[tuple[int, ...], Areas | None] = {}

    def kind(self, record: Prediction) -> str:
        """Return `HIT` or the kind of miss; the module says how."""
        intersection, union = measured(record)
        if record.target == ():
            return HIT if record.iou else FAILED if record.failure else NOTHING_MEANT
        if union and 2 * intersection >= union:
            return HIT
        # whoever abstains where the target has no pixel misses it for that, too
        if record.failure is not None and not (record.abstained and self.exact(record)[0]):
            return NO_PROPOSAL if record.failure in (NO_PROPOSALS, SKIPPED) else FAILED
        best = self.best(record)
        if best is not None and 2 * best[0] < best[1]:
            return NO_PROPOSAL
        area, overlaps = self._mask(record)
        return ABSTAINED if record.abstained or not area else self._of_mask(record, area, overlaps)

    def _of_mask(self, record: Prediction, area: int, overlaps: Sequence[int]) -> str:
        intersection, union = measured(record)
        others = [place for place in range(len(overlaps)) if place not in (record.target or ())]
        sizes = [one.area for one in self.facts.objects]
        alike = [n for n in others if 2 * overlaps[n] >= area + sizes[n] - overlaps[n]]
        if alike:
            nearest = max(alike, key=lambda n: overlaps[n] / (area + sizes[n] - overlaps[n]))
            return self._taken(record, nearest)
        target = union - area + intersection
        if 5 * intersection > 4 * area:
            return PART
        if 5 * intersection > 4 * target:
            return TOO_LARGE
        most = max(others, key=overlaps.__getitem__, default=None)
        elsewhere = 0 if most is None else overlaps[most]
        nowhere = max(0, area - sum(overlaps))
        if most is not None and elsewhere and elsewhere >= max(intersection, nowhere):
            return self._taken(record, most)
        if nowhere >= intersection:
            return BACKGROUND
        return PART if area < target else TOO_LARGE

    def _taken(self, record: Prediction, place: int) -> str:
        categories = [one.category for one in self.facts.objects]
        meant = {categories[one] for one in record.target or ()}
        if categories[place] is not None and categories[place] in meant:
            return SAME
        return OBJECT if categories[place] is None or meant <= {None} else OTHER

    def _mask(self, record: Prediction) -> tuple[int, Sequence[int]]:
        """Return the pixels of the mask of a record, and those that it shares with each object."""
        if record.overlaps is not None and record.area is not None:
            return record.area, record.overlaps
        if record.choice is None:
            return 0, ()
        return self.facts.areas[record.choice], [row[record.choice] for row in self.facts.overlaps]

    def best(self, record: Prediction) -> Areas | None:
        """Return the areas of the proposal of highest IoU, the first of equals; None where there is none."""
        meant = record.target
        if not self.facts.areas or not meant:
            return None
        if meant not in self._best:
            size, shared = self._target(meant)
            pairs = [(own, area + size - own) for own, area in zip(shared, self.facts.areas, strict=True)]
            self._best[meant] = max(pairs, key=lambda pair: pair[0] / max(1, pair[1]))
        return self._best[meant]

    def ious(self, record: Prediction) -> list[float]:
        """Return the IoU of each proposal with the target, in [0, 1]; empty where that is not known."""
        if not record.target:
            return []
        size, shared = self._target(record.target)
        pairs = zip(shared, self.facts.areas, strict=True)
        return [own / max(1, area + size - own) for own, area in pairs]

    def exact(self, record: Prediction) -> Areas:
        """Return the areas of the target itself; what it is measured by where it is not known."""
        size = self._target(record.target)[0] if record.target else measured(record)[1]
        return (size, size) if record.target else (0, size)

    def _target(self, meant: tuple[int, ...]) -> tuple[int, Sequence[int]]:
        if len(meant) == 1:
            return self.facts.objects[meant[0]].area, self.facts.overlaps[meant[0]]
        return self._united[meant].area, self._united[meant].overlaps


def measured(record: Prediction) -> Areas:
    """Return intersection and union of a record; 0 where nothing was measured."""
    return record.intersection or 0, record.union or 0
