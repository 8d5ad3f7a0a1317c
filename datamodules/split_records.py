"""The images of a split as records that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from datamodules.records import ImageRecord, Referent, Segmentation
from datamodules.rows import Rows


class Chosen(Sequence[ImageRecord]):
    """Some of the records of another sequence, none of them held.

    Args:
        records: All of them.
        places: int64: which, in the wanted order.
    """

    def __init__(self, records: Sequence[ImageRecord], places: np.ndarray) -> None:
        self.records, self.places = records, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Chosen: ...
    def __getitem__(self, index: int | slice) -> ImageRecord | Chosen:
        if isinstance(index, slice):
            return Chosen(self.records, self.places[index])
        return self.records[int(self.places[index])]


class RowRecords(Sequence[ImageRecord]):
    """Records made of rows; the rows stay in their file, so that a split takes next to no memory.

    Args:
        rows: Per image ``[image id, file name, height, width, refs]``, per ref ``[ref id, category, JSON of
            the segmentation, sentences, ids of the sentences, annotation id, raw sentences]``.
        span: Which of the rows.
        instances: Per image a list of ``[is a crowd, JSON of the segmentation]``, which become the records'
            `instances`; None leaves them without.
        places: int64: for each record the row of ``instances``.
        crowds: Whether crowds are among the instances.
    """

    def __init__(
        self,
        rows: Rows,
        span: range,
        instances: Rows | None = None,
        places: np.ndarray | None = None,
        crowds: bool = False,
    ) -> None:
        self.rows, self.span = rows, span
        self.instances, self.places, self.crowds = instances, places, crowds

    def __len__(self) -> int:
        return len(self.span)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Chosen: ...
    def __getitem__(self, index: int | slice) -> ImageRecord | Chosen:
        if isinstance(index, slice):
            return Chosen(self, np.arange(len(self))[index])
        image_id, file_name, height, width, refs = self.rows[self.span[index]]
        referents = tuple(_referent(*ref) for ref in refs)
        return ImageRecord(image_id, file_name, height, width, referents, self._instances(index))

    def _instances(self, index: int) -> tuple[Segmentation, ...]:
        if self.instances is None or self.places is None:
            return ()
        found = self.instances[int(self.places[index])]
        return tuple(Segmentation(text=text) for crowd, text in found if self.crowds or not crowd)


def _referent(
    ref_id: Any, category: Any, segmentation: Any, sentences: Any, sent_ids: Any, ann_id: Any, raw: Any
) -> Referent:
    return Referent(
        ref_id,
        (Segmentation(text=segmentation),),
        tuple(sentences),
        tuple(sent_ids),
        category,
        ann_id=ann_id,
        raw=tuple(raw),
    )
