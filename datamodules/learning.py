"""What a training visits: refs of a split, each time with one of their sentences drawn at random."""

import logging
import multiprocessing
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from datamodules.base import RISDataModule
from datamodules.fewshot import Shots, choose_refs, read_manifest, universe
from datamodules.records import ImageRecord, MaskRule
from datamodules.scene import ImageReader
from datamodules.workers import LoaderWorker
from gl_ris.errors import UserError
from gl_ris.supervised.segmenter import Example, Segmenter

Visit = tuple[int, int]  # Which sample, and in which epoch.

# Bytes of images and masks, as the model reads them, that a process keeps: small subsets are read once.
KEPT = 512 << 20

log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """What is visited once an epoch: an image by its place among the records, and some of its refs by row."""

    record: int
    rows: tuple[int, ...]


class LearningSet(Dataset[Example]):
    """Gives the visits of a training set, a ref with one of its sentences each; the same in any process."""

    def __init__(
        self,
        records: Sequence[ImageRecord],
        chosen: Sequence[Sample],
        read: ImageReader,
        model: Segmenter,
        rule: MaskRule = "union",
        seed: int = 0,
    ) -> None:
        self.records, self.chosen, self.read, self.rule = records, list(chosen), read, rule
        self.model, self.seed = model, seed
        self._unusable: Any = multiprocessing.Value("q", 0)
        self._logged: set[int] = set()
        self._free, self._kept = KEPT, dict[Hashable, Tensor]()

    @property
    def unusable(self) -> int:
        """How many visits another sample stood in for, over all processes that load data."""
        return int(self._unusable.value)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, visit: Visit) -> Example:
        index, epoch = visit
        # a sample that cannot be used is logged once and counted, and the next one stands in for it
        for step in range(len(self.chosen)):
            place = (index + step) % len(self.chosen)
            try:
                return self._example(self.chosen[place], random.Random(f"{self.seed}|{epoch}|{index}"))
            except ValueError as reason:
                self._note(place, str(reason))
        raise UserError(f"Not one of {len(self.chosen):,} refs can be learnt from; see the lines above.")

    def _example(self, sample: Sample, chance: random.Random) -> Example:
        record = self.records[sample.record]
        refs = [record.referents[row] for row in sample.rows]
        texts = [
            text for ref in refs for text in (ref.raw if self.model.reads_raw and ref.raw else ref.sentences)
        ]
        pixels = self._remember(sample.record, lambda: self.model.read_image(self.read(record)))

        def read() -> Tensor:
            return self.model.read_target(refs[0].mask(record.height, record.width, self.rule))

        return Example(pixels, chance.choice(texts), self._remember(sample, read))

    def _remember(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        if key in self._kept:
            return self._kept[key]
        made = make()
        # Samples are visited at random, so that throwing out older ones for newer ones would gain nothing.
        if made.nbytes <= self._free:
            self._free -= made.nbytes
            self._kept[key] = made
        return made

    def _note(self, place: int, reason: str) -> None:
        with self._unusable.get_lock():
            self._unusable.value += 1
        if place not in self._logged:
            self._logged.add(place)
            record = self.records[self.chosen[place].record]
            log.warning(
                "Image %s cannot be learnt from (%s); the next ref stands in.", record.image_id, reason
            )


class Visits(DistributedSampler[Visit]):
    """Visits every sample once an epoch in an order of its own; the processes share an epoch out."""

    # Lightning sets the epoch and, seeing the class, does not put a sampler of its own in its place.
    def __init__(self, data: LearningSet, seed: int, rank: int = 0, processes: int = 1) -> None:
        super().__init__(data, processes, rank, shuffle=True, seed=seed, drop_last=True)

    def __iter__(self) -> Iterator[Visit]:
        order = torch.randperm(
            len(self.dataset),  # type: ignore[arg-type]
            generator=torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch),
        ).tolist()
        share = len(order) // self.num_replicas  # what does not go into whole shares is left to another epoch
        own = order[self.rank : share * self.num_replicas : self.num_replicas]
        return iter([(index, self.epoch) for index in own])

    def __len__(self) -> int:
        return len(self.dataset) // self.num_replicas  # type: ignore[arg-type]


class FewShotTraining(LightningDataModule):
    """Refs of a split to learn from, ``k`` of each class or those of an earlier run's ``manifest.json``.

    ``batch_size`` is that of an optimiser step over all processes, made of ``accumulate`` batches of each.
    `UserError` if k is no number, a manifest does not belong to these data, or the data have no classes.
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
        split = {"dataset": source.dataset_name, "split_by": source.partition, "split": source.split}
        where = f"{source.dataset_name} ({source.partition}) {source.split}"
        keys, places = universe(source.records, where, classes=k != "all" and manifest is None)
        if manifest is not None:
            self.subset = read_manifest(manifest, keys)
        else:
            self.subset = choose_refs(keys, k, seed, **split)
        own = [places[ref.ann_id] for ref in self.subset.refs]
        chosen = [Sample(refs[0][0], tuple(sorted(row for _, row in refs))) for refs in own]
        self.batch_size = min(batch_size, len(chosen))  # a small subset makes smaller steps
        self.data = LearningSet(source.records, chosen, source.image_reader(), model, source.rule, seed)

    def steps_per_epoch(self, processes: int) -> int:
        """Return the optimiser steps of an epoch; `UserError` if there are too few refs for the processes."""
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
        workers = self.source.num_workers or 0
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
            worker_init_fn=LoaderWorker.of_this_process("fork") if workers else None,
            pin_memory=self.source.pin_memory,
        )


def _fork() -> Any:
    if "fork" not in multiprocessing.get_all_start_methods():
        raise UserError("data.num_workers needs fork, which this system lacks; use data.num_workers=0.")
    return multiprocessing.get_context("fork")
