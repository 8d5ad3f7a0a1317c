"""From scores to choices, areas and records: what happens to one scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from gl_ris.proposals.base import Proposals
from gl_ris.results import Prediction
from gl_ris.subsets import subsets_of

NOT_A_NUMBER = "score is not a number"


class SceneLike(Protocol):
    """What is asked of one image; `datamodules.Scene` is one.

    A scene may also have ``subsets``, see `gl_ris.subsets.subsets_of`.
    """

    @property
    def image(self) -> Tensor:
        """The pixels, uint8 ``(3, H, W)`` RGB."""

    @property
    def expressions(self) -> list[str]:
        """The ``E`` expressions."""

    @property
    def targets(self) -> Tensor:
        """The masks, bool ``(R, H, W)``."""

    @property
    def referents(self) -> Tensor:
        """The row of ``targets`` for each expression, int64 ``(E,)``."""

    @property
    def image_id(self) -> int | str:
        """Id of the image."""

    @property
    def ref_ids(self) -> Sequence[int | str]:
        """Id of the ref of each expression."""

    @property
    def sent_ids(self) -> Sequence[int | str]:
        """Id of each expression."""

    @property
    def index(self) -> int:
        """Position of the image in the split."""

    @property
    def proposals(self) -> Proposals | None:
        """Masks to choose from, or None to have them made."""

    @property
    def error(self) -> str | None:
        """Why the image cannot be used, or None."""


@dataclass(frozen=True)
class Choices:
    """What one method chose for ``E`` expressions.

    Attributes:
        rows: For each expression the chosen proposal, or None.
        scores: Its score, or None.
        failures: Why there is no choice, or None if there is one.
    """

    rows: list[int | None]
    scores: list[float | None]
    failures: list[str | None]

    @classmethod
    def none(cls, count: int, reason: str) -> Choices:
        """Return no choice for ``count`` expressions."""
        return cls([None] * count, [None] * count, [reason] * count)


class Records(list[Prediction]):
    """The records of one scene: plain values, at home on every device."""

    def to(self, *_: object, **__: object) -> Records:
        """Return the records as they are; Lightning moves what `predict_step` returns by this method."""
        return self


def choose(scores: Tensor) -> Choices:
    """Choose the proposal of the highest score for each expression (Eq. 1), the first of equals.

    Args:
        scores: ``(E, N)``, ``N`` at least 1. A row with a NaN in it gives no choice.

    Example:
        >>> choose(torch.tensor([[0.5, 1.0, 1.0]])).rows
        [1]
    """
    best, rows = scores.max(dim=1).values.tolist(), scores.argmax(dim=1).tolist()
    broken = scores.isnan().any(dim=1).tolist()
    return Choices(
        rows=[None if bad else row for row, bad in zip(rows, broken, strict=True)],
        scores=[None if bad else score for score, bad in zip(best, broken, strict=True)],
        failures=[NOT_A_NUMBER if bad else None for bad in broken],
    )


def chosen_areas(
    rows: Sequence[int | None], areas: tuple[Tensor, Tensor], scene: SceneLike
) -> tuple[Tensor, Tensor]:
    """Look up the areas of the choices; without a choice, the intersection is 0 and the union the target.

    Args:
        rows: The chosen proposal for each of ``E`` expressions, or None; or those of several methods, one
            method after the other.
        areas: Intersection and union, int64 ``(N, R)``.
        scene: Where the expressions are from.

    Returns:
        Intersection and union, int64 ``(len(rows),)``.
    """
    intersection, union = areas
    target = scene.targets.flatten(1).sum(dim=1)[None]
    # One more row for the expressions without a choice.
    intersection = torch.cat([intersection, torch.zeros_like(target)])
    union = torch.cat([union, target])
    pick = torch.tensor([-1 if row is None else row for row in rows], device=union.device)
    referents = scene.referents.repeat(len(rows) // max(1, len(scene.referents)))
    return intersection[pick, referents], union[pick, referents]


def make_records(
    method: str,
    scene: SceneLike,
    choices: Choices,
    areas: tuple[Tensor, Tensor],
    noun_phrases: Sequence[str | None],
    segmentation: Callable[[int], dict[str, Any]],
) -> list[Prediction]:
    """Write down what a method chose, one record per expression.

    Args:
        method: Title of the method.
        scene: The image with its expressions.
        choices: What was chosen.
        areas: Intersection and union of the choices, int64 ``(E,)``.
        noun_phrases: Of each expression, or None.
        segmentation: Gives the RLE of a proposal.
    """
    intersections, unions = (area.tolist() for area in areas)
    subsets = {name: members.tolist() for name, members in subsets_of(scene).items()}
    return [
        Prediction(
            image_id=scene.image_id,
            ref_id=scene.ref_ids[i],
            sent_id=scene.sent_ids[i],
            expression=scene.expressions[i],
            noun_phrase=noun_phrases[i],
            method=method,
            choice=row,
            score=choices.scores[i],
            iou=intersections[i] / unions[i] if unions[i] else 0.0,
            intersection=intersections[i],
            union=unions[i],
            segmentation=None if row is None else segmentation(row),
            failure=choices.failures[i],
            index=scene.index,
            subsets=tuple(name for name in subsets if subsets[name][i]) if subsets else None,
        )
        for i, row in enumerate(choices.rows)
    ]
