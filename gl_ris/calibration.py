"""Finding the thresholds of `gl_ris.choices.Rule` that make gIoU highest, in one pass over a train split."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import Trainer
from torch import Tensor

from gl_ris.bits import Bits, count, pack
from gl_ris.choices import Choices
from gl_ris.errors import UserError
from gl_ris.evaluator import Records, SceneLike, faults_of
from gl_ris.scorers import Scorer
from gl_ris.tally import absent_in, gather_objects, targeted_in
from gl_ris.thresholds import Fitted, OfMethod
from gl_ris.zero_shot import ZeroShotRIS

MOST_UNIONS = 256  # thresholds of `union` that are tried, at as many quantiles of all scores


class Sample(NamedTuple):
    """One expression: what every threshold would make of it."""

    absent: bool  # whether nothing is meant
    scores: np.ndarray  # float64 ``(N,)``, highest first; without a score if it cannot be answered
    ious: (
        np.ndarray
    )  # float64 ``(N,)``: of the first mask, the first two together, ...; 0 if nothing is meant


class Calibration(ZeroShotRIS):
    """Measures methods as `ZeroShotRIS` does, without a rule, and finds the best thresholds for each.

    Every method is a variant of its own, so it may have settings and a re-ranker. There are no records.

    Args:
        **run: Options of `ZeroShotRIS`; abstain and union are what is looked for.

    Attributes:
        found: What was found of each method, by title, after a run.

    Raises:
        UserError: abstain or union is given, the split is not train, or an error of `ZeroShotRIS`.
    """

    def __init__(self, **run: Any) -> None:
        super().__init__(**run)
        for variant in self.variants:
            if (variant.abstain, variant.union) != (None, None):
                raise UserError(
                    f"'{variant.title}' has abstain={variant.abstain} and union={variant.union}, which are "
                    "to be found; leave them out."
                )
        self.found: dict[str, OfMethod] = {}
        self._samples: list[list[Sample]] = [[] for _ in self.variants]
        self._scored: dict[Scorer, Tensor] = {}

    def check(self, data: Any, trainer: Trainer) -> None:
        """Check that the data are a train split, too."""
        if data.split != "train":
            raise UserError(
                f"Thresholds found on '{data.split}' would be tuned to it; calibrate on split=train, and use "
                "them on the others."
            )
        super().check(data, trainer)

    def on_predict_epoch_end(self) -> None:
        """Add up all processes, and find the thresholds."""
        super().on_predict_epoch_end()
        parts = gather_objects(self._samples)
        for variant, *own in zip(self.variants, *parts, strict=True):
            self.found[variant.title] = best_rules([*itertools.chain(*own)], variant.settings)

    def _scores(self, scorer: Scorer, scene: SceneLike, masks: Bits) -> Tensor:
        self._scored[scorer] = super()._scores(scorer, scene, masks)
        return self._scored[scorer]

    def _judge(self, scene: SceneLike, masks: Bits, chosen: list[Choices], failure: str | None) -> Records:
        """Count, and keep what thresholds would make of each expression, in place of records."""
        self._count(scene, masks, chosen, failure, {})
        for samples, scorer, choices in zip(self._samples, self.scorers, chosen, strict=True):
            samples += samples_of(scene, masks, choices, self._scored.pop(scorer, None))  # type: ignore[call-overload]
        return Records()


def samples_of(scene: SceneLike, masks: Bits, choices: Choices, scores: Tensor | None) -> list[Sample]:
    """Return the samples of a scene: expressions of which something is known. Scores are ``(E, N)``."""
    targeted, absent = targeted_in(scene), absent_in(scene)
    nothing = np.zeros(len(scene.expressions), bool) if absent is None else absent.cpu().numpy()
    known = ~nothing if targeted is None else targeted.cpu().numpy()
    words, targets = pack(masks.masks.cpu()), pack(scene.targets.cpu())
    none, found = np.zeros(0), []
    for place, (row, fault) in enumerate(zip(choices.rows, faults_of(scene), strict=True)):
        if not known[place] and not nothing[place]:
            continue
        if row is None or fault is not None or scores is None:
            found.append(Sample(bool(nothing[place]), none, none))
            continue
        own = scores[place].double().cpu().numpy()
        order = np.argsort(-own, kind="stable")
        together = np.bitwise_or.accumulate(words[order], axis=0)
        target = targets[int(scene.referents[place])]
        ious = count(together & target) / np.maximum(count(together | target), 1)
        found.append(Sample(bool(nothing[place]), own[order], ious))
    return found


def best_rules(samples: Sequence[Sample], settings: dict[str, Any]) -> OfMethod:
    """Find for a method what makes gIoU highest: nothing, abstaining, unions, both; the first of equals."""
    width = max([1, *(len(sample.scores) for sample in samples)])
    scores, ious = np.full((len(samples), width), -np.inf), np.zeros((len(samples), width))
    for row, sample in enumerate(samples):
        scores[row, : len(sample.scores)], ious[row, : len(sample.ious)] = sample.scores, sample.ious
    absent = np.array([sample.absent for sample in samples], bool)
    # what cannot be answered is no abstention
    best = np.where([len(sample.scores) > 0 for sample in samples], scores[:, 0], np.inf)
    finite = scores[np.isfinite(scores)]
    tried = np.unique(np.quantile(finite, np.linspace(0, 1, MOST_UNIONS))).tolist() if len(finite) else []
    none, abstain = _best_abstention(best, ious[:, 0], absent, None)
    several = []
    for union in tried:
        last = np.maximum((scores >= union).sum(axis=1), 1) - 1
        several.append(_best_abstention(best, ious[np.arange(len(ious)), last], absent, union))
    plain, both = zip(*several, strict=True) if several else ([none], [abstain])
    return OfMethod(settings, none, abstain, max(plain, key=_reached), max(both, key=_reached))


def _reached(fitted: Fitted) -> float:
    return fitted.gIoU


def _best_abstention(
    best: np.ndarray, iou: np.ndarray, absent: np.ndarray, union: float | None
) -> tuple[Fitted, Fitted]:
    """Return what is reached without abstaining, and by the best threshold of it, if any is better."""
    order = np.argsort(best, kind="stable")
    # of the first ones in this order nothing is chosen, which is right where nothing is meant
    reached = iou.sum() + np.concatenate([[0.0], (absent - iou)[order].cumsum()])
    known = np.unique(best[np.isfinite(best)])
    thresholds = [*known, *np.nextafter(known[-1:], np.inf)]
    places = np.searchsorted(best[order], thresholds) if thresholds else np.zeros(1, int)
    pick = int(reached[places].argmax())
    figures = 100 * reached / max(1, len(iou))
    never, chosen = float(figures[0]), float(figures[places[pick]])
    return Fitted(never, union=union), Fitted(chosen, float(thresholds[pick]) if pick else None, union)
