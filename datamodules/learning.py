"""Refs to learn from: each visit gives an image, one ref's mask and one of its sentences, drawn at random."""

from __future__ import annotations

import logging
import multiprocessing
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from datamodules.kshot import RefKey
from datamodules.memory import Memory
from datamodules.records import ImageRecord, Key, MaskRule, Referent
from datamodules.scene import ImageReader
from gl_ris.errors import UserError
from gl_ris.supervised.segmenter import Example, Segmenter

Visit = tuple[int, int]
"""Which sample, and in which epoch."""

KEPT = 512 << 20
"""Bytes of images and masks, as the model reads them, that a process keeps: small subsets are read once."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """What is visited once an epoch.

    Attributes:
        record: Place of the image among the records.
        rows: Places of the image's refs that are learnt from: those of one annotation, or of one image.
    """

    record: int
    rows: tuple[int, ...]


def universe(
    records: Sequence[ImageRecord], where: str, classes: bool = True
) -> tuple[list[RefKey], dict[Key, list[Visit]]]:
    """List the refs of a split, and where those of each annotation are.

    Args:
        records: The split.
        where: Its name, for messages.
        classes: Whether the class of each is needed.

    Returns:
        A key per ref; and for each annotation (by the ref, where the data do not name it) the places of its
        refs, as pairs of image and row.

    Raises:
        UserError: The data do not say of which class a ref is.
    """
    keys: list[RefKey] = []
    places: dict[Key, list[Visit]] = defaultdict(list)
    for image, record in enumerate(records):
        for row, ref in enumerate(record.referents):
            if ref.category is None and classes:
                raise UserError(
                    f"{where} does not tell the class of ref {ref.ref_id!r}, so there are no k refs of each "
                    "class to choose; use k=all, or the REFER files (data=refcoco, refcoco+, refcocog)."
                )
            ann = ref.ref_id if ref.ann_id is None else ref.ann_id
            keys.append(
                RefKey(ref.ref_id, ann, ref.category or "unknown", record.image_id, len(ref.sentences))
            )
            places[ann].append((image, row))
    return keys, places


def samples(places: Sequence[Sequence[Visit]], by_image: bool) -> list[Sample]:
    """Turn the places of chosen instances into what is visited: an instance each, or an image each.

    Example:
        >>> samples([[(3, 0)], [(3, 2), (3, 1)]], by_image=True)
        [Sample(record=3, rows=(0, 1, 2))]
    """
    if not by_image:
        return [Sample(own[0][0], tuple(sorted(row for _, row in own))) for own in places]
    rows: dict[int, list[int]] = defaultdict(list)
    for image, row in (place for own in places for place in own):
        rows[image].append(row)
    return [Sample(image, tuple(sorted(own))) for image, own in rows.items()]


class LearningSet(Dataset[Example]):
    """Gives the visits of a training set; the same visit is the same in any process.

    A sample whose image or mask cannot be used is told once and counted, and the next one stands in for it.

    Args:
        records: The images.
        chosen: What is visited.
        read: Reads the image of a record.
        model: Turns images and masks into what it reads, and says whether a visit is a ref with one of its
            sentences, or an image with all of them in random order and no mask.
        rule: How polygons become masks.
        seed: Of the random choices.
    """

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
        self._told: set[int] = set()
        self._memory = Memory(KEPT)

    @property
    def unusable(self) -> int:
        """How many visits another sample stood in for, over all processes that load data."""
        return int(self._unusable.value)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, visit: Visit) -> Example:
        """Return a visit.

        Raises:
            UserError: Not one sample can be used.
        """
        index, epoch = visit
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
        pixels = self._memory(sample.record, lambda: self.model.read_image(self.read(record)))
        if self.model.by_image:
            return Example(pixels, tuple(chance.sample(texts, len(texts))))
        target = self._memory(sample, lambda: self._target(record, refs[0]))
        return Example(pixels, (chance.choice(texts),), target)

    def _target(self, record: ImageRecord, ref: Referent) -> Tensor:
        return self.model.read_target(ref.mask(record.height, record.width, self.rule))

    def _note(self, place: int, reason: str) -> None:
        with self._unusable.get_lock():
            self._unusable.value += 1
        if place not in self._told:
            self._told.add(place)
            record = self.records[self.chosen[place].record]
            log.warning(
                "Image %s cannot be learnt from (%s); the next ref stands in.", record.image_id, reason
            )


class Visits(DistributedSampler[Visit]):
    """Visits every sample once an epoch in an order of its own, and tells the data set the epoch.

    Processes share an epoch out; what does not go into whole shares is left to another epoch. Lightning tells
    it the epoch and, seeing its class, leaves it in its place.

    Args:
        data: The training set.
        seed: Of the orders.
        rank: Of the process.
        processes: How many there are.
    """

    def __init__(self, data: LearningSet, seed: int, rank: int = 0, processes: int = 1) -> None:
        super().__init__(data, processes, rank, shuffle=True, seed=seed, drop_last=True)

    def __iter__(self) -> Iterator[Visit]:
        order = torch.randperm(
            len(self.dataset),  # type: ignore[arg-type]
            generator=torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch),
        ).tolist()
        share = len(order) // self.num_replicas
        return iter(
            [
                (index, self.epoch)
                for index in order[self.rank : share * self.num_replicas : self.num_replicas]
            ]
        )

    def __len__(self) -> int:
        return len(self.dataset) // self.num_replicas  # type: ignore[arg-type]
