"""The intervals of a run's figures, from what was counted of each image while it went."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from experiments.run.folder import PROGRESS
from gl_ris.analysis import DRAWS, SEED, Array, Id, figure_names, in_order, intervals, ratio_intervals
from gl_ris.metrics import THRESHOLDS
from gl_ris.results import UPPER_BOUND
from gl_ris.tally import ABSENT, ALL

_UNIT = 1 << 32  # the tally counts IoU in units of its inverse


class Counted:
    """What each image of a run has added to the sums of some methods, and to those of the best choice.

    Args:
        folder: The run folder, while the run is not ended there.
        module: The `gl_ris.evaluator.Evaluator`; see `gl_ris.tally.Tally.last` for what it counts.
        image_ids: Of the split, by index.
        methods: Whose sums are read, by the names to be given to them; by default all.
    """

    def __init__(
        self, folder: Path, module: Any, image_ids: Sequence[Id], methods: Mapping[str, str] | None = None
    ) -> None:
        wanted = {name: name for name in module.methods} if methods is None else methods
        bound = {UPPER_BOUND: -1} if module.bounded else {}
        self._rows = {name: module.methods.index(title) for name, title in wanted.items()} | bound
        self._found: dict[str, dict[Id, tuple[Array, Array]]] = {}
        # by subset and image, of how many expressions each method has said that there is nothing
        self._abstained: dict[tuple[str, Id], Array] = {}
        titles = [module.methods[row] for row in self._rows.values() if row >= 0]
        for path in sorted((folder / PROGRESS).glob("*.jsonl")):
            with path.open("rb") as file:
                for line in file:
                    image = msgspec.json.decode(line)
                    for subset, count in image["tally"].items():
                        if count:
                            sums = self._read(count["sums"]), self._read(count["skipped"])
                            own, said = image_ids[image["index"]], count["abstained"]
                            self._found.setdefault(subset, {})[own] = sums
                            self._abstained[subset, own] = np.array([said.get(name, 0) for name in titles])

    def _read(self, sums: Sequence[Any]) -> Array:
        """Lay out the sums of one image as `gl_ris.analysis.image_sums` does, ``(M, 4 + T)``."""
        intersection, union, iou, hits, samples = (np.array(part, dtype=np.float64) for part in sums)
        columns = [intersection, union, iou / _UNIT, np.full_like(iou, samples), *hits.T]
        return np.stack(columns, axis=-1)[[*self._rows.values()]]

    def intervals(self, subset: str = ALL, *, every_miss: bool = False) -> dict[str, dict[str, Any]]:
        """Return by method the intervals of its figures on a subset; empty without an expression."""
        found = self._found.get(subset, {})
        both = {one: sums + skipped if every_miss else sums for one, (sums, skipped) in found.items()}
        both = {one: sums for one, sums in both.items() if sums[0, 3]}
        if not both:
            return {}
        ids, _ = in_order(list(both))
        rows = intervals(np.stack([both[one] for one in ids]))
        names = figure_names(THRESHOLDS)
        sure = {
            title: dict(zip(names, row, strict=True)) for title, row in zip(self._rows, rows, strict=True)
        }
        if UPPER_BOUND in sure:
            sure[UPPER_BOUND] = {name: sure[UPPER_BOUND][name] for name in names[:2]}
        if subset == ALL and ABSENT in self._found:
            every, _ = in_order(list(self._found[ALL]))
            rows = ratio_intervals(np.stack([self._ratios(one, every_miss) for one in every]))
            for title, row in zip(sure, rows, strict=False):
                sure[title] |= dict(zip(("cIoU", "gIoU", "N_acc", "T_acc"), row, strict=True))
        return sure

    def _ratios(self, one: Id, every_miss: bool) -> Array:
        """Lay out what of one image the figures of `gl_ris.metrics.GRES` are ratios of, ``(M, 4, 2)``."""
        parts, counts = [], []
        for kind in (ALL, ABSENT):
            sums, skipped = self._found[kind].get(one, (np.zeros((len(self._rows), 4)),) * 2)
            said = self._abstained.get((kind, one), np.zeros(1))
            parts.append((sums + skipped if every_miss else sums)[: len(self._abstained[ALL, one]), :4].T)
            counts.append(np.broadcast_to(said, parts[-1].shape[1]))
        (shared, union, iou, targeted), (_, wrong, _, absent) = parts
        dropped, flagged = counts
        ratios = [(shared, union + wrong), (iou + flagged, targeted + absent), (flagged, absent)]
        return np.moveaxis(np.array([*ratios, (targeted - dropped, targeted)]), -1, 0)

    def part(self, subset: str = ALL, skipped: bool = False) -> dict[str, Any]:
        """Return what `gl_ris.results.Results` says of the intervals of a subset; was any skipped?"""
        found = {"intervals": self.intervals(subset)}
        return found | ({"every_miss_intervals": self.intervals(subset, every_miss=True)} if skipped else {})


def how_resampled() -> dict[str, dict[str, int]]:
    """Return what a result document says of how its intervals were made."""
    return {"resampling": {"draws": DRAWS, "seed": SEED}}
