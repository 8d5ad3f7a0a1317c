"""Filling a store with the proposals of a whole split, on any number of processes."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from gl_ris.choice import SceneLike
from gl_ris.errors import UserError
from gl_ris.evaluation import gather_objects
from gl_ris.proposals.base import ProposalGenerator
from gl_ris.proposals.source import ProposalSource, open_source
from gl_ris.proposals.store import ImageKey

log = logging.getLogger(__name__)


class StoreFiller(LightningModule):
    """Makes the proposals of every image that are not stored yet, and stores them.

    It can be killed at any moment and goes on from there when started again. Images on which the generator
    fails are recorded with the reason, and tried again at the next start.

    Args:
        proposals: The generator.
        store: Where proposals are kept: true for the usual place, or a folder.
        clip, pretrained, alpha, recipe: Not used; the ready-made settings of data sets bring them along.

    Attributes:
        source: Generator and store, once it is set up.
        outcome: How many images were ``stored before``, ``generated``, ``failed`` or ``unusable`` (not to be
            read), over all processes; empty before the end.
        seconds: Wall time of the last run.
    """

    def __init__(
        self,
        proposals: ProposalGenerator | None = None,
        store: bool | str = True,
        clip: Any = None,
        pretrained: Any = None,
        alpha: Any = None,
        recipe: Any = None,
    ) -> None:
        super().__init__()
        self.proposals, self.store = proposals, store
        self.source: ProposalSource | None = None
        self.outcome: dict[str, int] = {}
        self.seconds = 0.0
        self._counts: Counter[str] = Counter()
        self._told: set[str] = set()
        self._started = 0.0

    def setup(self, stage: str) -> None:
        """Open the store.

        Raises:
            UserError: See `check` and `open_source`.
        """
        data = getattr(self.trainer, "datamodule", None)
        self.check(data, self.trainer)
        self.source = self.open_source(data)

    def check(self, data: Any, trainer: Trainer) -> None:
        """Check that there is a generator and a store.

        Raises:
            UserError: There is none or it needs no store, the data make proposals, or there are fewer images
                than processes.
        """
        data.check_world_size(trainer.world_size)
        if self.proposals is None or not self.store or data.proposals is not None:
            raise UserError(
                "To fill a store, name a generator by proposals=slic (not by data.proposals), and "
                "leave model.store at true or give a folder."
            )
        if not self.proposals.stored:
            raise UserError(f"The proposals of '{self.proposals.name}' are files already: nothing to store.")
        self.proposals.prepare(data.image_ids())

    def open_source(self, data: Any) -> ProposalSource:
        """Open generator and store for the images of ``data``.

        Raises:
            UserError: The store is damaged.
        """
        assert self.proposals is not None
        return open_source(self.proposals, self.store, data, strict=True)

    def on_predict_start(self) -> None:
        """Start the clock."""
        self._counts.clear()
        self._started = time.perf_counter()

    def predict_step(self, scene: SceneLike, batch_idx: int = 0) -> list[str]:
        """Store the proposals of one image unless they are stored; return what has become of it."""
        outcome = self._fill(scene)
        self._counts[outcome] += 1
        return [outcome]

    def _fill(self, scene: SceneLike) -> str:
        assert self.source is not None
        assert self.source.store is not None
        if scene.error is not None:
            self._tell(scene, scene.error)
            return "unusable"
        if ImageKey.of(scene.image_id, scene.image) in self.source.store:
            return "stored before"
        try:
            self.source(scene.image_id, scene.image)
        except UserError:
            raise
        except Exception as error:
            self._tell(scene, f"{type(error).__name__}: {error}", error)
            return "failed"
        return "generated"

    def _tell(self, scene: SceneLike, reason: str, error: Exception | None = None) -> None:
        if reason not in self._told:
            self._told.add(reason)
            log.warning("Image %s has no proposals (%s).", scene.image_id, reason, exc_info=error)

    def on_predict_epoch_end(self) -> None:
        """Add up all processes; the store then knows what each of them has written."""
        assert self.source is not None
        assert self.source.store is not None
        parts = gather_objects(self._counts)
        names = ("stored before", "generated", "failed", "unusable")
        self.outcome = {name: sum(part[name] for part in parts) for name in names}
        self.source.store.refresh()
        self.seconds = time.perf_counter() - self._started
