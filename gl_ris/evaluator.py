"""From the choices for one scene to areas and records, and what all modules that measure have in common."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.choices import EMPTY_TARGET, Choices
from gl_ris.errors import EvaluationError, UserError
from gl_ris.evidence import targets_of
from gl_ris.metrics import mask_areas
from gl_ris.predictions import Prediction
from gl_ris.recipe import Recipe
from gl_ris.tally import Evaluation, Stopwatch, Tally, absent_in, subsets_of, targeted_in

if TYPE_CHECKING:
    from gl_ris.inputs import Input
    from gl_ris.proposals.base import Proposals
    from gl_ris.proposals.source import ProposalSource

_T = TypeVar("_T")

log = logging.getLogger(__name__)

_TIES = (
    "%s: %d of %d choices are ties, the first of proposals with one and the same score; its figures say more "
    "about the order of the proposals than about the method."
)


class SceneLike(Protocol):
    """What is asked of one image with ``E`` expressions; `datamodules.Scene` is one and says what is in it.

    A scene may also have ``subsets`` and ``targeted``, see `gl_ris.tally`, ``faults``, see `faults_of`, and
    ``objects``, see `gl_ris.evidence`.
    """

    image: Tensor
    expressions: list[str]
    targets: Tensor
    referents: Tensor
    image_id: int | str
    ref_ids: Sequence[int | str]
    sent_ids: Sequence[int | str]
    index: int
    proposals: Proposals | None
    error: str | None


def faults_of(scene: Any) -> list[str | None]:
    """Return why the target of each expression of a scene is not known, or None."""
    return list(getattr(scene, "faults", ())) or [None] * len(scene.expressions)


def target_reasons(scene: SceneLike) -> list[str | None]:
    """Return why nothing meets the target of each expression: its fault, that it has no pixel; or None."""
    some = (Bits(scene.targets).areas > 0)[scene.referents]
    targeted = targeted_in(scene)
    there = (some if targeted is None else some | ~targeted).tolist()
    faults = zip(faults_of(scene), there, strict=True)
    return [fault or (None if some else EMPTY_TARGET) for fault, some in faults]


class Records(list[Prediction]):
    """The records of one scene: plain values, at home on every device."""

    def to(self, *_: object, **__: object) -> Records:
        """Return the records as they are; Lightning moves what `predict_step` returns by this method."""
        return self


def best_proposals(intersection: Tensor, union: Tensor) -> Tensor:
    """Find for each target of ``(N, R)`` areas the proposal of highest IoU, ``(R,)``; the first of equals."""
    return (intersection.double() / union.clamp(min=1)).argmax(dim=0)


def chosen_areas(
    rows: Sequence[int | None], areas: tuple[Tensor, Tensor], scene: SceneLike
) -> tuple[Tensor, Tensor]:
    """Look up intersection and union, int64 ``(len(rows),)``, of choices among ``(N, R)`` areas.

    ``rows`` are the choices for ``E`` expressions; or those of several methods, one after the other.
    """
    intersection, union = areas
    target = Bits(scene.targets).areas[None]
    # one more row for expressions without a choice: they share nothing with their target
    intersection = torch.cat([intersection, torch.zeros_like(target)])
    union = torch.cat([union, target])
    pick = torch.tensor([-1 if row is None else row for row in rows], device=union.device)
    referents = scene.referents.repeat(len(rows) // max(1, len(scene.referents)))
    return intersection[pick, referents], union[pick, referents]


def follow_rules(
    areas: tuple[Tensor, Tensor], chosen: Sequence[Choices], masks: Tensor, scene: SceneLike
) -> None:
    """Change the areas of best proposals, int64 ``(methods or more, E)``, to those of what rules choose.

    What is not chosen shares nothing with its target; its union is as if it had been, as in GRES, or nothing
    if it is right that there is no target.
    """
    absent = absent_in(scene)
    for intersection, union, choices in zip(*areas, chosen, strict=False):
        for place, rows in choices.unions.items():
            target = scene.targets[scene.referents[place]]
            intersection[place], union[place] = mask_areas(masks[list(rows)].any(dim=0), target)
        for place in choices.abstained:
            intersection[place] = 0
            union[place] *= absent is None or not bool(absent[place])


def make_records(
    method: str,
    scene: SceneLike,
    choices: Choices,
    areas: tuple[Tensor, Tensor],
    noun_phrases: Sequence[str | None],
    segmentations: Sequence[dict[str, Any] | None],
    parsed: Sequence[dict[str, Any] | None] | None = None,
) -> list[Prediction]:
    """Write down what a method chose, one record per expression; areas are the choices', int64 ``(E,)``.

    Where no target is known, nothing is measured: the record has None. Where it is known that there is none,
    IoU is 1 if nothing is chosen on purpose, and otherwise 0.
    """
    targeted, absent = targeted_in(scene), absent_in(scene)
    nothing = [False] * len(scene.expressions) if absent is None else absent.tolist()
    known = [True] * len(nothing) if targeted is None else targeted.tolist()
    subsets = {name: members.tolist() for name, members in subsets_of(scene).items()}
    meant, (intersections, unions) = targets_of(scene), (area.tolist() for area in areas)

    def record(i: int) -> Prediction:
        measured, abstained = known[i] or nothing[i], i in choices.abstained
        iou = 1.0 if nothing[i] and abstained else intersections[i] / unions[i] if unions[i] else 0.0
        return Prediction(
            image_id=scene.image_id,
            ref_id=scene.ref_ids[i],
            sent_id=scene.sent_ids[i],
            expression=scene.expressions[i],
            noun_phrase=noun_phrases[i],
            method=method,
            choice=None if abstained else choices.rows[i],
            score=choices.scores[i],
            iou=iou if measured else None,
            intersection=intersections[i] if measured else None,
            union=unions[i] if measured else None,
            segmentation=segmentations[i],
            failure=choices.failures[i],
            tied=choices.ties[i],
            index=scene.index,
            subsets=tuple(name for name in subsets if subsets[name][i]) if subsets else None,
            parsed=parsed[i] if parsed else None,
            target=() if nothing[i] else meant[i],
            chosen=None if abstained else choices.unions.get(i),
            abstained=abstained,
            ranked=(choices.ranked[i] or None) if choices.ranked else None,
        )

    return [record(i) for i in range(len(scene.expressions))]


class Evaluator(LightningModule):
    """Measures one scene (an image with all its expressions) per ``predict_step``, and adds up in the end.

    Shards are by image and every count is an integer, so any number of processes gives the same figures.
    """

    recipe: Recipe  # says how targets are made of polygons, and which subset is called what
    bounded = True  # whether there is a best choice to measure beside the methods
    tally: Tally  # what was counted so far in a run

    def __init__(self) -> None:
        super().__init__()
        self.evaluation: Evaluation | None = None  # the outcome of the last run
        self._watch = Stopwatch()
        self._logged: set[str] = set()
        # what it and its data were made of, in rank 0, see `gl_ris.inputs.inputs_of`
        self.inputs: dict[str, dict[str, str | None]] = {}
        # how many expressions of the split say what, see `gl_ris.parsing.counts`; empty if none are parsed
        self.parsed: dict[str, int] = {}
        # of a run that goes on: the images that are done, and in rank 0 what `counted` had said of each
        self.finished: frozenset[int] = frozenset()
        self.taken_over: list[Mapping[str, Any]] = []
        # when the run began, in nanoseconds since the epoch; None where nobody has said so
        self.began: int | None = None

    @property
    @abstractmethod
    def methods(self) -> list[str]:
        """Titles of the methods that are measured."""

    @property
    def counting(self) -> str:
        """``"published"`` if the recipe leaves images without proposals out of figures, or "every_miss"."""
        return "published" if self.bounded and self.recipe.skip_images_without_proposals else "every_miss"

    @abstractmethod
    def proposals_name(self, data: Any) -> str:
        """Name what there is to choose from in a run on ``data``, a data module."""

    def open_source(self, data: Any) -> ProposalSource | None:
        """Open what proposals are taken from, for the images of ``data``; None if none are made."""
        return None

    def stored(self) -> dict[str, Any] | None:
        """Say how a finished run came by its proposals; None if it made none."""
        return None

    def kernels(self) -> dict[str, dict[str, str]]:
        """Say how the models are computed, for results."""
        return {}

    def rules(self) -> dict[str, dict[str, Any]]:
        """Say what each method chooses beside the best, for results."""
        return {}

    def input_files(self, data: Any) -> dict[str, Mapping[str, Input]]:
        """Return what the model, once configured, was made of in a run on ``data``, see `gl_ris.inputs`."""
        return {}

    def check(self, data: Any, trainer: Trainer) -> None:
        """Raise a `UserError` if ``trainer`` would not evaluate every image of ``data``, a data module."""
        data.check_world_size(trainer.world_size)
        share = trainer.limit_predict_batches
        if share not in (None, 1.0) or isinstance(share, int):
            raise UserError("The trainer would leave images out; use data.limit=N for a part of a split.")

    def on_predict_start(self) -> None:
        """Start the clock and a new tally, which has what is taken over."""
        self.evaluation = None
        self.tally = Tally(self.methods, self.bounded)
        for image in self.taken_over:
            self.tally.add_again(image["tally"])
        self._watch = Stopwatch(self.device)

    def counted(self) -> dict[str, Any]:
        """Say all that the last `predict_step` has counted, as JSON has it, for a run that goes on."""
        return {"tally": self.tally.last}

    def on_predict_epoch_start(self) -> None:
        """Begin to wait for the first scene."""
        self._watch.mark()

    def on_predict_batch_start(self, scene: Any, *_: Any) -> None:
        """Note how long the scene took to come, and for what: it says what it took where it was made."""
        self._watch.waited(getattr(scene, "seconds", None) or {"data": 1.0})

    def on_predict_batch_end(self, *_: Any) -> None:
        """Begin to wait for the next scene."""
        self._watch.mark()

    def on_predict_epoch_end(self) -> None:
        """Add up all processes; EvaluationError if nothing, or not all of the split, was evaluated."""
        evaluation = self.tally.compute(self._watch.stop())
        data = self.data()
        if data is not None:
            _check_counts(evaluation, data)
        self.evaluation = evaluation
        for method, ties in evaluation.ties.items():
            if 2 * ties > (choices := evaluation.choices[method]):
                rank_zero_only(log.warning)(_TIES, method, ties, choices)

    def attempt(
        self, what: str, scene: SceneLike, work: Callable[[], _T], otherwise: _T
    ) -> tuple[_T, str | None]:
        """Do some work on a scene; give what came of it and None, or ``otherwise`` and why it failed."""
        try:
            return work(), None
        except UserError:
            raise  # something is wrong that is no matter of this scene
        except Exception as error:
            reason = f"{what}: {type(error).__name__}: {str(error)[:120].partition(chr(10))[0]}"
            if reason not in self._logged:
                self._logged.add(reason)  # once each: a broken data set would fill the log with one sentence
                log.warning("Image %s counts as failed (%s).", scene.image_id, reason, exc_info=error)
            return otherwise, reason

    def data(self) -> Any:
        """Return the data module, if the scenes come from one."""
        return getattr(self.trainer, "datamodule", None)


def _check_counts(evaluation: Evaluation, data: Any) -> None:
    """Check that every expression of the data was counted, in all and in each subset, and no other."""
    counted = evaluation.n_evaluated + evaluation.n_skipped
    seen = (evaluation.n_images, counted + evaluation.n_untargeted + evaluation.n_absent)
    if seen != (data.n_images, data.n_expressions):
        raise EvaluationError(
            f"Evaluated {seen[0]:,} images with {seen[1]:,} expressions, but the split has "
            f"{data.n_images:,} with {data.n_expressions:,}."
        )
    for name, figures in evaluation.subsets.items():
        if (counted := figures.n_evaluated + figures.n_skipped) != (expected := data.subset_sizes[name]):
            raise EvaluationError(
                f"Evaluated {counted:,} expressions of subset '{name}', but the split has {expected:,}."
            )
