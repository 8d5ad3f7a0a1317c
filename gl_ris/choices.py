"""From scores to choices: the best proposal, or by a rule none, or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

NOT_A_NUMBER, NOT_FINITE = "score is not a number", "no finite best score"
EMPTY_TARGET = "empty target"
KEPT = 5  # of the best proposals of an expression, in what a run keeps

Ranked = tuple[tuple[int, float], ...]  # proposals, the best first, each with its score to five digits


@dataclass(frozen=True)
class Rule:
    """What is chosen beside the one best proposal."""

    abstain: float | None = None  # nothing where the best score is below this
    union: float | None = None  # all proposals together with this score or a higher one, if any has it


BEST = Rule()


@dataclass(frozen=True)
class Choices:
    """What one method chose for ``E`` expressions."""

    # for each expression the best proposal, or None where that is not known
    rows: list[int | None]
    scores: list[float | None]  # its score, or None
    # why the expression is a miss, mostly without a choice; None if it is as good as its choice
    failures: list[str | None]
    ties: list[bool]  # whether another proposal has the score of the best one, too
    # by place of an expression for which several proposals are chosen: these
    unions: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    # places of expressions for which nothing is chosen, as the rule says; ``rows`` and ``unions`` are what
    # would have been
    abstained: frozenset[int] = frozenset()
    # for each expression the best proposals, to be told; none where there is no choice
    ranked: Sequence[Ranked] = field(default=(), compare=False)

    @classmethod
    def none(cls, count: int, reason: str | None) -> Choices:
        """Return no choice for ``count`` expressions."""
        return cls([None] * count, [None] * count, [reason] * count, [False] * count)

    @property
    def chosen(self) -> list[tuple[int, ...] | None]:
        """For each expression all proposals that are chosen, or None."""
        return [
            None if row is None or place in self.abstained else self.unions.get(place, (row,))
            for place, row in enumerate(self.rows)
        ]

    def on_targets(self, reasons: Sequence[str | None]) -> Choices:
        """Say why a target cannot be met, see `gl_ris.evaluator.target_reasons`.

        Of one that is damaged there is no choice.
        """
        if not any(reasons):
            return self
        known = [reason in (None, EMPTY_TARGET) for reason in reasons]
        return Choices(
            [row if sound else None for row, sound in zip(self.rows, known, strict=True)],
            [score if sound else None for score, sound in zip(self.scores, known, strict=True)],
            [why or reason for why, reason in zip(self.failures, reasons, strict=True)],
            [tie and sound for tie, sound in zip(self.ties, known, strict=True)],
            {place: taken for place, taken in self.unions.items() if known[place]},
            frozenset(place for place in self.abstained if known[place]),
            [best if sound else () for best, sound in zip(self.ranked, known, strict=False)],
        )


def choose(scores: Tensor, missing: str = NOT_A_NUMBER, rule: Rule = BEST) -> Choices:
    """Choose the best of ``(E, N)`` scores, ``N`` >= 1, for each expression (Eq. 1), the first of equals.

    ``missing`` says why a row has a score that is not a number; ``rule`` may choose none or several.

    Example:
        >>> import torch
        >>> choose(torch.tensor([[0.1, 0.5, 0.4], [0.2, 0.1, 0.0]]), rule=Rule(abstain=0.3, union=0.4)).chosen
        [(1, 2), None]
    """
    best, rows = scores.max(dim=1).values.tolist(), scores.argmax(dim=1).tolist()
    # the maximum of a row with a NaN is one
    failures = [
        None if math.isfinite(score) else missing if math.isnan(score) else NOT_FINITE for score in best
    ]
    ties = ((scores == scores.max(dim=1).values[:, None]).sum(dim=1) > 1).tolist()
    sound = [place for place, bad in enumerate(failures) if bad is None]
    least = -math.inf if rule.abstain is None else rule.abstain
    return Choices(
        rows=[None if bad else row for row, bad in zip(rows, failures, strict=True)],
        scores=[None if bad else score for score, bad in zip(best, failures, strict=True)],
        failures=failures,
        ties=[tie and not bad for tie, bad in zip(ties, failures, strict=True)],
        unions={} if rule.union is None else _unions(scores, sound, rule.union),
        abstained=frozenset(place for place in sound if best[place] < least),
        ranked=[() if bad else own for own, bad in zip(_ranked(scores), failures, strict=True)],
    )


def _ranked(scores: Tensor) -> list[Ranked]:
    """Return the few best of each row, the first of equals first; what is not finite is in no rank."""
    values, rows = scores.sort(dim=1, descending=True, stable=True)
    pairs = zip(values[:, :KEPT].tolist(), rows[:, :KEPT].tolist(), strict=True)
    return [
        tuple((n, float(f"{x:.5g}")) for x, n in zip(*pair, strict=True) if math.isfinite(x))
        for pair in pairs
    ]


def _unions(scores: Tensor, sound: Sequence[int], threshold: float) -> dict[int, tuple[int, ...]]:
    # as numbers of Python: a threshold is not rounded to what the scores are
    taken = (scores.double() >= threshold).cpu()
    several = {place: tuple(taken[place].nonzero().flatten().tolist()) for place in sound}
    return {place: rows for place, rows in several.items() if len(rows) > 1}
