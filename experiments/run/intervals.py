"""The intervals of a run's figures, from what was counted of each image while it went."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from experiments.run.folder import PROGRESS
from gl_ris.analysis import DRAWS, SEED, Array, Id, figure_names, in_order, intervals
from gl_ris.metrics import THRESHOLDS
from gl_ris.results import UPPER_BOUND
from gl_ris.tally import ABSENT, ALL

_GRES = ("cIoU", "gIoU", "N_acc", "T_acc")  # the last of them of expressions with a target alone
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
        rows = [module.methods.index(title) for title in wanted.values()] + [-1] * module.bounded
        self._methods, self._bound = list(wanted), [UPPER_BOUND] * module.bounded
        # by subset and image the sums of what is counted and of what is skipped, ``(2, M, 4 + T + 1)``
        self._found: dict[str, dict[Id, Array]] = {}
        for path in sorted((folder / PROGRESS).glob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                image = msgspec.json.decode(line)
                for subset, count in image["tally"].items():
                    if count:
                        own = self._found.setdefault(subset, {})
                        own[image_ids[image["index"]]] = _sums(count, module.methods)[:, rows]

    def _of(self, subset: str, every_miss: bool) -> dict[Id, Array]:
        return {one: sums[: 1 + every_miss].sum(axis=0) for one, sums in self._found.get(subset, {}).items()}

    def intervals(self, subset: str = ALL, *, every_miss: bool = False) -> dict[str, dict[str, Any]]:
        """Return by method the intervals of its figures on a subset; empty without an expression."""
        counted = {one: sums for one, sums in self._of(subset, every_miss).items() if sums[0, 3]}
        names, own = figure_names(THRESHOLDS), [counted[one][:, :-1] for one in in_order(list(counted))[0]]
        rows = intervals(np.stack(own)) if own else []
        bound = {title: dict(zip(names[:2], rows[-1], strict=False)) for title in self._bound if rows}
        sure = {
            title: dict(zip(names, row, strict=True)) for title, row in zip(self._methods, rows, strict=False)
        }
        if subset == ALL and ABSENT in self._found:
            with_target, without = self._of(ALL, every_miss), self._of(ABSENT, every_miss)
            pairs = [
                (with_target[one], without.get(one, np.zeros_like(with_target[one])))
                for one in in_order(list(with_target))[0]
            ]
            both = np.stack([np.hstack([part[:, [0, 1, 2, 3, -1]] for part in pair]) for pair in pairs])
            for title, row in zip(self._methods, intervals(both, of=_gres), strict=False):
                gres = dict(zip(_GRES if rows else _GRES[:-1], row, strict=False))
                sure[title] = sure.get(title, {}) | gres
        return sure | bound

    def part(self, subset: str = ALL, skipped: bool = False) -> dict[str, Any]:
        """Return what `gl_ris.results.Results` says of the intervals of a subset; was any skipped?"""
        found = {"intervals": self.intervals(subset)}
        return found | ({"every_miss_intervals": self.intervals(subset, every_miss=True)} if skipped else {})


def _sums(count: Mapping[str, Any], methods: Sequence[str]) -> Array:
    """Lay out a count of one image as `gl_ris.analysis.image_sums` does, and behind it who found nothing."""
    parts, said = [], [count["abstained"].get(name, 0) for name in methods]
    for kind, found in (("sums", said), ("skipped", [])):
        intersection, union, iou, hits, samples = (np.array(part, dtype=np.float64) for part in count[kind])
        nothing = np.pad(np.array(found, dtype=np.float64), (0, len(iou) - len(found)))
        parts.append([intersection, union, iou / _UNIT, np.full_like(iou, samples), *hits.T, nothing])
    return np.moveaxis(np.array(parts), 1, -1)


def _gres(sums: Array) -> Array:
    """Make cIoU, gIoU, N_acc and T_acc (`gl_ris.metrics.GRES`) of ``(..., M, 10)``, in percent.

    Of samples with a target, then of those without: areas, IoU, samples, and how many were said to have none.
    """
    shared, union, iou, targeted, dropped, _, wrong, _, absent, flagged = np.moveaxis(sums, -1, 0)
    above = np.stack([shared, iou + flagged, flagged, targeted - dropped], axis=-1)
    below = np.stack([union + wrong, targeted + absent, absent, targeted], axis=-1)
    return 100 * above / np.maximum(below, 1)


def how_resampled() -> dict[str, dict[str, int]]:
    """Return what a result document says of how its intervals were made."""
    return {"resampling": {"draws": DRAWS, "seed": SEED}}
