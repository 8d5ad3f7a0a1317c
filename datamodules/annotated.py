"""COCO's annotations as what is kept of them: their outlines stay in their file until they are drawn."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from itertools import accumulate, pairwise
from typing import Any

import msgspec
import numpy as np

from datamodules.files import Id
from datamodules.records import Key, Segmentation
from gl_ris.files import Mapped

NULL = msgspec.Raw(b"null")  # stands for an outline that the file lacks: a fault of that annotation


class Annotation(msgspec.Struct, gc=False):
    """An instance of COCO."""

    id: Id
    image_id: Id
    segmentation: msgspec.Raw = NULL
    category_id: Any = None
    iscrowd: Any = 0


_WIDTH = 16  # bytes of a place: where in its file an outline begins and ends, both int64


class Placed(Collection[Segmentation]):
    """Outlines known by their places in a file, and made anew at each look."""

    __slots__ = ("_file", "_places")

    def __init__(self, file: Mapped, places: bytes) -> None:
        self._file, self._places = file, places

    def __len__(self) -> int:
        return len(self._places) // _WIDTH

    def __iter__(self) -> Iterator[Segmentation]:
        for start, end in np.frombuffer(self._places, np.int64).reshape(-1, 2).tolist():
            json = msgspec.Raw(self._file.part(start, end)) if end else NULL
            yield Segmentation(json=json, place=(self._file, start))

    def __contains__(self, outline: object) -> bool:
        return any(outline == own for own in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Placed) and [*self] == [*other]


class Columns:
    """The annotations of some images in columns, so that the values which they were decoded to can go.

    What stays of a split is made after that: in the same pages of memory it would keep all of them. Of two
    annotations of an image with one id, the first counts. ``targets`` are ids that stand in one image each.
    """

    def __init__(
        self, found: Iterable[Annotation], file: Mapped, images: Set[Key], targets: Iterable[Key] = ()
    ) -> None:
        groups: dict[Key, dict[Key, Annotation]] = {key: {} for key in images}
        for one in found:
            if (own := groups.get(one.image_id)) is not None:
                own.setdefault(one.id, one)
        listed = [one for own in groups.values() for one in own.values()]
        ends = pairwise(accumulate(map(len, groups.values()), initial=0))
        self.images = {key: range(*own) for key, own in zip(groups, ends, strict=True)}  # rows of each
        self.rows = dict.fromkeys(targets, 0)  # its keys stay those that were given
        self.rows |= {one.id: row for row, one in enumerate(listed) if one.id in self.rows}
        self.categories = [k if isinstance(k := one.category_id, int | str) else None for one in listed]
        self._crowds = [bool(one.iscrowd) for one in listed]
        self._file, self._places = file, _places(file, [one.segmentation for one in listed]).tobytes()

    def outlines(self, rows: Iterable[int], crowds: bool = True) -> Placed:
        """Return the outlines of some rows, crowds only if they are wanted."""
        starts = [_WIDTH * row for row in rows if crowds or not self._crowds[row]]
        return Placed(self._file, b"".join([self._places[at : at + _WIDTH] for at in starts]))


def _places(file: Mapped, values: Sequence[msgspec.Raw]) -> np.ndarray:
    """Return begin and end of values in the file that they were decoded from; of those elsewhere, 0 and 0."""
    views = (np.frombuffer(value, np.uint8) for value in (file.content, *values))
    (first, size), *extents = ((view.__array_interface__["data"][0], view.size) for view in views)
    places = np.array(extents, np.int64).reshape(-1, 2) - [first, 0]
    places[:, 1] += places[:, 0]
    places[(places[:, 0] < 0) | (places[:, 1] > size)] = 0
    return places
