"""Measuring every stored generator of a split in one pass over its images, on any number of processes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from gl_ris.choice import SceneLike
from gl_ris.errors import EvaluationError, UserError
from gl_ris.evaluation import gather_objects
from gl_ris.proposals.base import Proposals
from gl_ris.proposals.post import AS_MADE, PostProcessing
from gl_ris.proposals.quality import Quality, add_up
from gl_ris.proposals.store import ImageKey, ProposalStore, default_root, find_stores


@dataclass(frozen=True)
class Measured:
    """One line of the report.

    Attributes:
        name: Name of the generator, with the settings in which it differs from others of that name.
        league: What the generator has learnt from.
        store: Name of the store; None for the ground truth.
        quality: The figures.
        seconds: What making the proposals of an image took, on average; None if it is not known.
    """

    name: str
    league: str
    store: str | None
    quality: Quality
    seconds: float | None = None


class ProposalReport(LightningModule):
    """Measures what is stored for a split; nothing is generated.

    Args:
        store: Folder of the stores; true for the usual place.
        post: What is done to the proposals of every generator first.
        proposals: Not used: everything that is stored is reported on.
        clip, pretrained, alpha, recipe: Not used; the ready-made settings of data sets bring them along.

    Attributes:
        rows: The outcome, after the run: the generators in the order of their names, the ground truth last.
        unusable: Images that could not be read, and count for nothing.
    """

    def __init__(
        self,
        store: bool | str = True,
        post: PostProcessing = AS_MADE,
        proposals: Any = None,
        clip: Any = None,
        pretrained: Any = None,
        alpha: Any = None,
        recipe: Any = None,
    ) -> None:
        super().__init__()
        self.store, self.post = store, post
        self.rows: list[Measured] = []
        self.unusable = 0
        self._stores: list[ProposalStore] = []
        self._qualities: list[Quality] = []

    def setup(self, stage: str) -> None:
        """Open the stores.

        Raises:
            UserError: See `check`.
        """
        data = getattr(self.trainer, "datamodule", None)
        self.check(data, self.trainer)
        self._stores = self.open_stores(data)
        self._qualities = [Quality() for _ in range(len(self._stores) + 1)]

    def check(self, data: Any, trainer: Trainer) -> None:
        """Check that something is stored.

        Raises:
            UserError: Nothing is, the data bring proposals other than the ground truth, or there are fewer
                images than processes.
        """
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

    @property
    def root(self) -> Path:
        """Folder of the stores."""
        return default_root() if isinstance(self.store, bool) else Path(self.store).expanduser()

    def open_stores(self, data: Any) -> list[ProposalStore]:
        """Open every store of the split that has proposals of one of its images.

        Raises:
            UserError: One is damaged.
        """
        found = find_stores(self.root, data.dataset_name, data.partition, data.split)
        return [store for store in found if store.image_ids & set(data.image_ids())]

    def on_predict_start(self) -> None:
        """Begin anew."""
        self._qualities = [Quality() for _ in range(len(self._stores) + 1)]
        self.unusable = 0

    def predict_step(self, scene: SceneLike, batch_idx: int = 0) -> list[int]:
        """Measure the proposals of one image; return how many each generator has."""
        if scene.error is not None:
            self.unusable += 1
            return []
        key = ImageKey.of(scene.image_id, scene.image)
        none = Proposals.from_masks(torch.zeros_like(scene.targets[:0]))
        for store, quality in zip(self._stores, self._qualities, strict=False):
            proposals = store.get(key)
            if proposals is None and key in store.failures:
                quality.failed += 1
                proposals = none
            self._add(quality, proposals, scene)
        self._add(self._qualities[-1], scene.proposals, scene)
        return [quality.counts[-1] if quality.counts else 0 for quality in self._qualities]

    def _add(self, quality: Quality, proposals: Proposals | None, scene: SceneLike) -> None:
        if proposals is None:
            quality.missing += 1
        else:
            proposals = self.post(proposals.to(scene.targets.device))
            quality.add(proposals, scene.targets, scene.referents)

    def on_predict_epoch_end(self) -> None:
        """Add up all processes.

        Raises:
            EvaluationError: Of no image that can be read anything is stored.
        """
        self.unusable = sum(gather_objects(self.unusable))
        qualities = add_up(gather_objects(self._qualities))
        names = labels([store.manifest for store in self._stores])
        rows = [
            Measured(name, store.manifest.get("league", "not stated"), store.name, quality, _seconds(store))
            for name, store, quality in zip(names, self._stores, qualities, strict=False)
        ]
        rows.append(Measured("ground truth", "ground truth", None, qualities[-1]))
        self.rows = [row for row in rows if row.quality.objects]
        if not any(row.store for row in self.rows):
            raise EvaluationError(
                "Of no image that can be read are there stored proposals of these very pixels."
            )


def _seconds(store: ProposalStore) -> float:
    entries = store.entries
    return sum(entry.seconds for entry in entries) / max(1, len(entries))


def labels(manifests: Sequence[dict[str, Any]]) -> list[str]:
    """Name generators so that those of one name differ, by the settings (weights, versions) that do.

    Example:
        >>> made = {"generator": "a", "version": 1, "weights": None, "generator_class": "A"}
        >>> labels([{**made, "settings": {"x": 1, "y": 2}}, {**made, "settings": {"x": 3, "y": 2}}])
        ['a x=1', 'a x=3']
    """
    flat = [
        {
            **manifest["settings"],
            **{name: manifest[name] for name in ("version", "weights", "generator_class")},
        }
        for manifest in manifests
    ]
    named = []
    for manifest, own in zip(manifests, flat, strict=True):
        others = [f for m, f in zip(manifests, flat, strict=True) if m["generator"] == manifest["generator"]]
        keys = dict.fromkeys(itertools.chain.from_iterable(others))
        differing = [key for key in keys if any(f.get(key) != own.get(key) for f in others)]
        named.append(
            " ".join([manifest["generator"], *(f"{key}={_short(own.get(key))}" for key in differing)])
        )
    return named


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:40]
