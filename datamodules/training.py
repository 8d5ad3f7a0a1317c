"""The data module of a supervised training: k refs of each class of a split, or all of it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.base import RISDataModule
from datamodules.kshot import Shots, Subset, choose_refs, read_manifest
from datamodules.learning import LearningSet, Sample, Visits, samples, universe
from gl_ris.errors import UserError
from gl_ris.supervised.segmenter import Segmenter


class FewShotTraining(LightningDataModule):
    """Refs of a split to learn from, chosen as `datamodules.kshot` says.

    Args:
        source: The split; its `limit` leaves images out before refs are chosen.
        model: What learns.
        k: Refs of each class, or ``"all"``.
        seed: Of the subset, and of the order and the sentences of the visits.
        batch_size: Of an optimiser step over all processes; a smaller subset makes smaller ones.
        accumulate: Batches of a process that make one step.
        manifest: Take the refs of an earlier run instead, from its ``manifest.json``.

    Attributes:
        subset: The chosen refs.
        data: What is visited.

    Raises:
        UserError: k is no number, a manifest does not belong to these data, or the data have no classes.
    """

    def __init__(
        self,
        source: RISDataModule,
        model: Segmenter,
        k: Shots = "all",
        seed: int = 0,
        batch_size: int = 32,
        accumulate: int = 1,
        manifest: Path | None = None,
    ) -> None:
        super().__init__()
        self.source, self.model, self.seed, self.accumulate = source, model, seed, accumulate
        self.subset, places = _choose(source, k, seed, manifest)
        chosen: list[Sample] = samples(places, model.by_image)
        self.batch_size = min(batch_size, len(chosen))
        self.data = LearningSet(source.records, chosen, source.image_reader(), model, source.rule, seed)

    def steps_per_epoch(self, processes: int) -> int:
        """Return the optimiser steps of an epoch.

        Raises:
            UserError: There are too few refs for so many processes.
        """
        batches = len(self.data) // processes // self._own_batch(processes)
        return -(-batches // self.accumulate)

    def _own_batch(self, processes: int) -> int:
        own = self.batch_size // (processes * self.accumulate)
        if own < 1:
            raise UserError(
                f"A batch of {self.batch_size} refs cannot be shared by {processes} processes with "
                f"{self.accumulate} accumulated parts each; use fewer of them, or more refs (k)."
            )
        return own

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of this process's share."""
        trainer: Any = self.trainer
        rank, processes = trainer.global_rank, trainer.world_size
        workers = self.source.num_workers
        return DataLoader(
            self.data,
            batch_size=self._own_batch(processes),
            sampler=Visits(self.data, self.seed, rank, processes),
            drop_last=True,
            collate_fn=self.model.collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            # the model has a tokenizer, which not every start method can hand over
            multiprocessing_context=_fork() if workers else None,
            pin_memory=self.source.pin_memory,
        )


def _fork() -> Any:
    if "fork" not in multiprocessing.get_all_start_methods():
        raise UserError("data.num_workers needs fork, which this system lacks; use data.num_workers=0.")
    return multiprocessing.get_context("fork")


def _choose(
    source: RISDataModule, k: Shots, seed: int, manifest: Path | None
) -> tuple[Subset, list[Sequence[tuple[int, int]]]]:
    where = f"{source.dataset_name} ({source.partition}) {source.split}"
    keys, places = universe(source.records, where, classes=k != "all" and manifest is None)
    names = {"dataset": source.dataset_name, "split_by": source.partition, "split": source.split}
    known = None if manifest is None else read_manifest(manifest, keys)
    subset = known or choose_refs(keys, k, seed, **names)
    return subset, [places[ref.ann_id] for ref in subset.refs]
