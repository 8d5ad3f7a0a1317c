"""What is done to stored proposals: filling a store, and measuring every generator of a split."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from gl_ris.errors import EvaluationError, UserError, in_short
from gl_ris.evaluator import SceneLike, faults_of
from gl_ris.proposals.base import ImageKey, ProposalGenerator, Proposals
from gl_ris.proposals.post import AS_MADE, PostProcessing
from gl_ris.proposals.quality import Quality
from gl_ris.proposals.source import ProposalSource, open_source
from gl_ris.proposals.store import ProposalStore, default_root, find_stores
from gl_ris.tally import gather_objects, targeted_in

OUTCOMES = ("stored before", "generated", "failed", "unusable")

log = logging.getLogger(__name__)


class StoreFiller(LightningModule):
    """Makes the proposals of all images that are not stored yet, and stores them; in any number of processes.

    It can be killed at any moment and goes on from there when started again. Images on which the generator
    fails are recorded with the reason, and tried again at the next start.

    Args:
        proposals: The generator.
        store: Where proposals are kept: true for the usual place, or a folder.
    """

    source: ProposalSource  # generator and store, once they are set up
    kept: ProposalStore

    def __init__(self, proposals: ProposalGenerator | None = None, store: bool | str = True) -> None:
        super().__init__()
        self.proposals, self.store = proposals, store
        self.outcome: dict[str, int] = {}  # how many images met with each of `OUTCOMES`, over all processes
        self.seconds = self._started = 0.0  # wall time of the last run
        self._counts: Counter[str] = Counter()
        # when the run began, before it was cut off: what is stored since then it has made
        self.began: int | None = None
        self._reported: set[str] = set()

    def setup(self, stage: str) -> None:
        """Open the store; raises what `check` and `open_source` raise."""
        data: Any = getattr(self.trainer, "datamodule", None)
        self.check(data, self.trainer)
        self.source = self.open_source(data)
        assert self.source.store is not None  # `check` has seen to it
        self.kept = self.source.store
        # a look at what is stored costs little beside making it
        data.share_by(dict.fromkeys(self.kept.image_ids, 0), otherwise=20)

    def check(self, data: Any, trainer: Trainer) -> None:
        """Check that there is a generator and a store, and an image for each process; else a `UserError`."""
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
        """Open generator and store for the images of ``data``; a `UserError` if the store is damaged."""
        assert self.proposals is not None
        source = open_source(self.proposals, self.store, data, strict=True)
        source.began = self.began
        data.take_proposals_from(source)
        return source

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
        if getattr(scene, "fatal", False):
            # A missing file or a full disk meets every image: no use in going on.
            raise UserError(scene.error)
        if (outcome := getattr(scene, "outcome", None)) is not None:
            return "stored before" if outcome == "read" else str(outcome)
        if scene.error is not None:
            self._warn(scene, scene.error)
            return "unusable"
        try:
            self.source(scene.image_id, scene.image)
        except UserError:
            raise
        except Exception as error:
            self._warn(scene, in_short(error, typed=True), error)
            return "failed"
        return "generated"

    def _warn(self, scene: SceneLike, reason: str, error: Exception | None = None) -> None:
        if reason not in self._reported:
            self._reported.add(reason)  # once: one that meets every image would drown all else
            log.warning("Image %s has no proposals (%s).", scene.image_id, reason, exc_info=error)

    def on_predict_epoch_end(self) -> None:
        """Add up all processes; the store then knows what each of them has written."""
        parts = gather_objects(self._counts)
        self.outcome = {name: sum(part[name] for part in parts) for name in OUTCOMES}
        self.kept.close()
        self.kept.refresh()
        self.seconds = time.perf_counter() - self._started


@dataclass(frozen=True)
class Measured:
    """One line of the report."""

    name: str  # of the generator, with the settings in which it differs from others of that name
    league: str
    store: str | None  # its name; None for the ground truth
    quality: Quality
    seconds: float | None = None  # what making the proposals of an image took, on average, if it is known


class ProposalReport(LightningModule):
    """Measures what is stored for a split in one pass over its images; nothing is generated.

    Args:
        store: Folder of the stores; true for the usual place.
        post: What is done to the proposals of every generator first.
    """

    def __init__(self, store: bool | str = True, post: PostProcessing = AS_MADE) -> None:
        super().__init__()
        self.post = post
        self.root = default_root() if isinstance(store, bool) else Path(store).expanduser()
        # The outcome: the generators in the order of their names, the ground truth last.
        self.rows: list[Measured] = []
        self.unusable = 0  # Images that could not be read, and count for nothing.

    def setup(self, stage: str) -> None:
        """Open the stores; raises what `check` raises."""
        data = getattr(self.trainer, "datamodule", None)
        self.check(data, self.trainer)
        self._stores = self.open_stores(data)

    def check(self, data: Any, trainer: Trainer) -> None:
        """Raise a `UserError` if nothing is stored, or the data bring more than the ground truth."""
        data.check_world_size(trainer.world_size)
        if data.proposals_name not in (None, "ground_truth"):
            raise UserError(
                f"The report is on everything that is stored: leave data.proposals={data.proposals_name} "
                f"out, and store it first by python -m experiments.proposals proposals={data.proposals_name}."
            )
        if not self.open_stores(data):
            raise UserError(
                f"No proposals are stored for {data.dataset_name} {data.split} in '{self.root}'; make some "
                "by python -m experiments.proposals, or name another folder by store=FOLDER."
            )

    def open_source(self, data: Any) -> None:
        """Say that nothing is generated."""

    def open_stores(self, data: Any) -> list[ProposalStore]:
        """Open every store of the split that has proposals of one of its images; a `UserError` if damaged."""
        found = find_stores(self.root, data.dataset_name, data.partition, data.split)
        return [store for store in found if store.image_ids & set(data.image_ids())]

    def on_predict_start(self) -> None:
        """Begin with nothing; the last quality is that of the ground truth."""
        self._qualities = [Quality() for _ in range(len(self._stores) + 1)]
        self.unusable = 0

    def predict_step(self, scene: SceneLike, batch_idx: int = 0) -> list[int]:
        """Measure the proposals of one image; return how many each generator has."""
        if scene.error is not None:
            self.unusable += 1
            return []
        key = ImageKey.of(scene.image_id, scene.image)
        for store, quality in zip(self._stores, self._qualities, strict=False):
            proposals = store.get(key)
            if proposals is None and key in store.failures:
                quality.failed += 1
                proposals = Proposals.from_masks(torch.zeros_like(scene.targets[:0]))
            self._add(quality, proposals, scene)
        self._add(self._qualities[-1], scene.proposals, scene)
        return [quality.counts[-1] if quality.counts else 0 for quality in self._qualities]

    def _add(self, quality: Quality, proposals: Proposals | None, scene: SceneLike) -> None:
        if proposals is None:
            quality.missing += 1
        else:
            quality.add(self.post(proposals.to(scene.targets.device)), *_objects(scene))

    def on_predict_epoch_end(self) -> None:
        """Add up all processes; an `EvaluationError` if of no image that can be read anything is stored."""
        self.unusable = sum(gather_objects(self.unusable))
        parts = zip(*gather_objects(self._qualities), strict=True)
        *qualities, truth = (sum(own, Quality()) for own in parts)
        names = labels([store.manifest for store in self._stores])
        self.rows = [
            Measured(name, store.manifest.get("league", "not stated"), store.name, quality, store.seconds)
            for name, store, quality in zip(names, self._stores, qualities, strict=True)
            if quality.objects
        ]
        if not self.rows:
            raise EvaluationError(
                "Of no image that can be read are there stored proposals of these very pixels."
            )
        if truth.objects:
            self.rows.append(Measured("ground truth", "ground truth", None, truth))


def _objects(scene: SceneLike) -> tuple[Tensor, Tensor]:
    """Return the known targets of a scene, and which of them each expression that has one is about."""
    known = torch.tensor([fault is None for fault in faults_of(scene)], device=scene.referents.device)
    targeted = targeted_in(scene)
    if targeted is not None:
        known &= targeted
    rows, referents = scene.referents[known].unique(return_inverse=True)
    return scene.targets[rows], referents


def labels(manifests: Sequence[dict[str, Any]]) -> list[str]:
    """Name generators so that those of one name differ, by the settings (weights, versions) that do.

    Example:
        >>> made = {"generator": "a", "version": 1, "weights": None, "generator_class": "A"}
        >>> labels([{**made, "settings": {"x": 1, "y": 2}}, {**made, "settings": {"x": 3, "y": 2}}])
        ['a x=1', 'a x=3']
    """
    more = ("version", "weights", "generator_class")
    flat = [
        (made["generator"], {**made["settings"], **{key: made[key] for key in more}}) for made in manifests
    ]
    named = []
    for name, own in flat:
        others = [settings for other, settings in flat if other == name]
        keys = dict.fromkeys(itertools.chain.from_iterable(others))
        differing = [key for key in keys if any(one.get(key) != own.get(key) for one in others)]
        named.append(" ".join([name, *(f"{key}={_short(own.get(key))}" for key in differing)]))
    return named


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:40]
