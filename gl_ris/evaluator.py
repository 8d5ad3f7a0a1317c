"""What all modules have in common that measure masks for expressions over the images of a split."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lightning.pytorch import LightningModule, Trainer

from gl_ris.choice import SceneLike
from gl_ris.errors import EvaluationError, UserError
from gl_ris.evaluation import Evaluation, Stopwatch, Tally
from gl_ris.proposals.source import ProposalSource
from gl_ris.recipe import Recipe

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class Evaluator(LightningModule):
    """Measures one scene (an image with all its expressions) per ``predict_step``, and adds up in the end.

    Shards are by image and every count is an integer, so any number of processes gives the same figures.

    Args:
        methods: Titles of the methods.
        bounded: Whether there is a best choice to measure beside them.

    Attributes:
        evaluation: The outcome of the last run; None before.
        tally: What was counted so far.
        recipe: Says how targets are to be made of polygons, and which subset is called what.
    """

    recipe: Recipe

    def __init__(self, methods: Sequence[str], bounded: bool = True) -> None:
        super().__init__()
        self.evaluation: Evaluation | None = None
        self.tally = Tally(methods, bounded)
        self._watch = Stopwatch()
        self._told: set[str] = set()

    @abstractmethod
    def proposals_name(self, data: Any) -> str:
        """Name what there is to choose from in a run on ``data``, a data module."""

    def open_source(self, data: Any) -> ProposalSource | None:
        """Open what proposals are taken from, for the images of ``data``; None if none are made."""
        return None

    def stored(self) -> dict[str, Any] | None:
        """Say how a finished run came by its proposals; None if it made none."""
        return None

    def check(self, data: Any, trainer: Trainer) -> None:
        """Check that every image of ``data``, a data module, would be evaluated by ``trainer``.

        Raises:
            UserError: Fewer images than processes, or a trainer that leaves images out.
        """
        data.check_world_size(trainer.world_size)
        share = trainer.limit_predict_batches
        if share not in (None, 1.0) or isinstance(share, int):
            raise UserError("The trainer would leave images out; use data.limit=N for a part of a split.")

    def on_predict_start(self) -> None:
        """Start the clock."""
        self.evaluation = None
        self.tally.reset()
        self._watch = Stopwatch(self.device)

    def on_predict_epoch_start(self) -> None:
        """Begin to wait for the first scene."""
        self._watch.mark()

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Note how long the scene took to come."""
        self._watch.waited("data")

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Begin to wait for the next scene."""
        self._watch.mark()

    def on_predict_epoch_end(self) -> None:
        """Add up all processes.

        Raises:
            EvaluationError: Not one expression could be evaluated, or the counts are not those of the split.
        """
        evaluation = self.tally.compute(self._watch.stop())
        data = self.data()
        if data is not None:
            _check_counts(evaluation, data)
        self.evaluation = evaluation

    def attempt(
        self, what: str, scene: SceneLike, work: Callable[[], _T], otherwise: _T
    ) -> tuple[_T, str | None]:
        """Do some work on a scene; an error becomes the reason of a failure, and is told when new.

        Returns:
            What the work gave and None; or ``otherwise`` and the reason.

        Raises:
            UserError: From the work: something is wrong that is no matter of this scene.
        """
        try:
            return work(), None
        except UserError:
            raise
        except Exception as error:
            reason = f"{what}: {type(error).__name__}: {str(error)[:120].partition(chr(10))[0]}"
            if reason not in self._told:
                self._told.add(reason)
                log.warning("Image %s counts as failed (%s).", scene.image_id, reason, exc_info=error)
            return otherwise, reason

    def data(self) -> Any:
        """Return the data module, if the scenes come from one."""
        return getattr(self.trainer, "datamodule", None)


def _check_counts(evaluation: Evaluation, data: Any) -> None:
    """Check that every expression of the data was counted, in all and in each subset, and no other."""
    seen = (evaluation.n_images, evaluation.n_evaluated + evaluation.n_skipped)
    if seen != (data.n_images, data.n_expressions):
        raise EvaluationError(
            f"Evaluated {seen[0]:,} images with {seen[1]:,} expressions, but the split has "
            f"{data.n_images:,} with {data.n_expressions:,}."
        )
    for name, figures in evaluation.subsets.items():
        counted, expected = figures.n_evaluated + figures.n_skipped, data.subset_sizes[name]
        if counted != expected:
            raise EvaluationError(
                f"Evaluated {counted:,} expressions of subset '{name}', but the split has {expected:,}."
            )
