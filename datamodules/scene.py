"""One image with everything that is asked about it, and how it is made of its record."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.images import image_path, read_image
from datamodules.objects import Outlines
from datamodules.records import ImageRecord, MaskRule
from gl_ris.errors import UserError
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.source import ProposalSource

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scene:
    """An image, its expressions and the masks they refer to: what a data module yields, one per step.

    Attributes:
        image: uint8 ``(3, H, W)``, RGB, values 0 to 255, in the pixel orientation of the stored file.
        expressions: The ``E`` expressions, ref by ref.
        targets: bool ``(R, H, W)``, one mask per ref.
        referents: int64 ``(E,)``: the row of ``targets`` that each expression refers to.
        image_id: The data set's own name of the image.
        ref_ids: For each expression, the id of its ref.
        sent_ids: For each expression, its own id.
        index: Position of the image in the split (after `limit`), starting at 0.
        proposals: The masks to choose from, if the data bring them along.
        error: Why the image cannot be used, or None. If it is given, ``image`` is all zeros, and every
            expression counts as failed.
        faults: For each expression, why its target is not known (``targets`` has zeros there), or None; that
            expression alone counts as failed.
        subsets: For each subset that the data set has, bool ``(E,)``: which of the expressions are in it.
        outcome: One of `gl_ris.proposals.source.COUNTS`, where the data had to come by proposals; else None.
        fatal: Whether ``error`` would meet other images, too, and has to be mended before a run can go on.
        seconds: By stage, what reading the scene and coming by its proposals took in the process that did it.
        targeted: bool ``(E,)``, which expressions have a target; None where all have. The others are asked
            about, and their choices written down, but nothing is measured by them, unless they are absent.
        absent: bool ``(E,)``, which of those are known to have no target; None where there are none such.
        objects: bool ``(M, H, W)``, all objects that the data set outlines in the image, or, where it knows
            no others, those that are referred to; what is damaged is left out. None where nobody has said.
        categories: Of each object, its name, or None where the data do not tell.
        meant: For each ref the rows of ``objects`` that make up its target, none where it is known that
            nothing is meant; None where that is not known.
        raw: The expressions as they were typed, before the data set cleaned them; where that is not known, as
            they are.
    """

    image: Tensor
    expressions: list[str]
    targets: Tensor
    referents: Tensor
    image_id: int | str
    ref_ids: list[int | str]
    sent_ids: list[int | str]
    index: int
    proposals: Proposals | None = None
    error: str | None = None
    subsets: Mapping[str, Tensor] = field(default_factory=dict)
    raw: list[str] = field(default_factory=list)
    faults: list[str | None] = field(default_factory=list)
    targeted: Tensor | None = None
    absent: Tensor | None = None
    objects: Tensor | None = None
    categories: Sequence[str | None] = ()
    meant: Sequence[tuple[int, ...] | None] = ()
    outcome: str | None = None
    fatal: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Let expressions stand for what was typed, and targets be sound, where that is not given."""
        for name, usual in (("raw", self.expressions), ("faults", [None] * len(self.expressions))):
            object.__setattr__(self, name, getattr(self, name) or list(usual))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Scene:
        """Return the scene with its tensors on ``device``; Lightning moves a batch by this method."""
        return self._changed(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Scene:
        """Return the scene with its tensors in page-locked memory; a `DataLoader` pins by this method."""
        return self._changed(lambda value: value.pin_memory())

    def _changed(self, change: Callable[[Any], Any]) -> Scene:
        return dataclasses.replace(
            self,
            image=change(self.image),
            targets=change(self.targets),
            referents=change(self.referents),
            proposals=None if self.proposals is None else change(self.proposals),
            subsets={name: change(members) for name, members in self.subsets.items()},
            targeted=None if self.targeted is None else change(self.targeted),
            absent=None if self.absent is None else change(self.absent),
            objects=None if self.objects is None else change(self.objects),
        )


ImageReader = Callable[[ImageRecord], Tensor]
"""Gives the image of a record, uint8 ``(3, H, W)``; what it cannot read is a ValueError. Can be pickled."""


def read_from_folder(folder: Path, record: ImageRecord) -> Tensor:
    """Read the image of ``record`` from ``folder``; see `read_image`."""
    return read_image(image_path(folder, record.file_name), record.height, record.width)


class SceneDataset(Dataset[Scene]):
    """Turns records into scenes, in their order and in the process of whoever asks."""

    def __init__(
        self,
        records: Sequence[ImageRecord],
        read: ImageReader,
        rule: MaskRule = "union",
        proposals: str | ProposalGenerator | None = None,
        subsets: Sequence[str] = (),
    ) -> None:
        self.records, self.read, self.rule = records, read, rule
        self.proposals, self.subsets = proposals, subsets
        # what calls the generator, or looks into a store first; by default nothing is stored
        self.source = ProposalSource(proposals, None) if isinstance(proposals, ProposalGenerator) else None
        self.ahead = False  # whether the main process makes the proposals that are not for workers
        self._logged: set[str] = set()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Scene:
        record = self.records[index]
        image = torch.zeros(3, record.height, record.width, dtype=torch.uint8)
        outlines = Outlines(record, self.rule)
        targets, faults = outlines.targets()
        objects, categories, meant = outlines.objects()
        proposals, error, fatal, began = None, None, False, time.perf_counter()
        if self.source is not None:
            self.source.outcome = None
        try:
            image = self.read(record)
        except ValueError as reason:
            # where no target is known, the size of the image may not be either
            error = (all(faults) and faults[0]) or str(reason)
        read = time.perf_counter()
        if error is None:
            try:
                proposals = self._propose(outlines, image)
            except Exception as reason:
                error, fatal = self._say(record, reason), isinstance(reason, UserError)
        rows = [row for row, referent in enumerate(record.referents) for _ in referent.sentences]
        refs = [record.referents[row] for row in rows]
        return Scene(
            image=image if error is None else torch.zeros_like(image),
            expressions=[sentence for referent in record.referents for sentence in referent.sentences],
            targets=targets,
            referents=torch.tensor(rows, dtype=torch.int64),
            image_id=record.image_id,
            ref_ids=[ref.ref_id for ref in refs],
            sent_ids=[sent_id for referent in record.referents for sent_id in referent.sent_ids],
            index=index,
            proposals=proposals,
            error=error,
            subsets={
                name: torch.tensor([name in ref.subsets for ref in refs], dtype=torch.bool)
                for name in self.subsets
            },
            faults=[faults[row] for row in rows],
            outcome=None if self.source is None else self.source.outcome,
            raw=[text for referent in record.referents for text in referent.raw or referent.sentences],
            targeted=None if all(ref.targeted for ref in refs) else torch.tensor([r.targeted for r in refs]),
            objects=objects,
            categories=categories,
            meant=meant,
            absent=torch.tensor([r.absent for r in refs]) if any(ref.absent for ref in refs) else None,
            fatal=fatal,
            seconds={"data": read - began, "proposals": time.perf_counter() - read},
        )

    def _propose(self, outlines: Outlines, image: Tensor) -> Proposals | None:
        if self.source is not None:
            record = outlines.record
            return (self.source.ahead if self.ahead else self.source)(record.image_id, image)
        if self.proposals != "ground_truth":
            return None
        return Proposals.from_masks(outlines.proposals())

    def _say(self, record: ImageRecord, error: Exception) -> str:
        """Say why there are no proposals; and in the log, once for each reason."""
        if isinstance(error, UserError):
            return str(error)
        reason = f"proposals: {type(error).__name__}: {str(error)[:120].partition(chr(10))[0]}"
        if reason not in self._logged:
            self._logged.add(reason)
            log.warning("Image %s counts as failed (%s).", record.image_id, reason, exc_info=error)
        return reason
