"""gRefCOCO: expressions about one object, several, or none, and whatever else is written in its format.

``grefs(<split_by>).json`` stands beside ``instances.json``, as REFER's refs do, and is a list of like refs,
but ``ann_id`` is a list: of the annotations whose union is the target, or ``[-1]`` with ``no_target`` true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from datamodules.annotated import Columns
from datamodules.files import Id, compact_json, read_annotations
from datamodules.records import Key, Segmentation
from datamodules.refcoco import RefCOCO
from datamodules.refer import Form, Sentence

NO_TARGET = -1  # in place of an annotation, and of a category
# several times as many as any image of COCO has objects
Ids = Annotated[list[Id], msgspec.Meta(min_length=1, max_length=1_000)] | Id


class GRef(msgspec.Struct):
    """A ref of gRefCOCO."""

    ref_id: Id
    ann_id: Ids
    image_id: Id
    split: str
    sentences: list[Sentence]
    category_id: Ids = NO_TARGET
    no_target: bool | None = None

    @property
    def ann_ids(self) -> tuple[Key, ...]:
        """The annotations that are meant, each once; none if nothing is."""
        return tuple(number for number in _each(self.ann_id) if number != NO_TARGET)

    @property
    def category(self) -> Key | None:
        """Id of the category of what is meant, if it is one."""
        kinds = _each(self.category_id)
        return kinds[0] if len(kinds) == 1 and self.ann_ids else None

    def target(self, annotated: Columns) -> dict[str, Any]:
        """Return what a `datamodules.records.Referent` knows of the target, given the image's annotations.

        Crowds are no part of it, as in the published code.
        """
        meant, nothing = self.ann_ids, NO_TARGET in _each(self.ann_id)
        if (meant and nothing) or self.no_target not in (None, nothing):
            fault = f"ann_id is {self.ann_id!r:.60} and no_target {self.no_target}, which is a contradiction"
            return {"segmentations": (Segmentation(fault=fault),)}
        if nothing:
            return {"segmentations": (), "targeted": False, "absent": True}
        return {
            "segmentations": annotated.outlines([annotated.rows[key] for key in meant], crowds=False),
            "ann_id": meant[0] if len(meant) == 1 else None,
            "subsets": ("single" if len(meant) == 1 else "multi",),
        }


def _each(ids: list[Key] | Key) -> list[Key]:
    return list(dict.fromkeys(ids)) if isinstance(ids, list) else [ids]


def _load(path: Path) -> list[GRef]:
    return read_annotations(path, list[GRef])


def _dump(refs: Sequence[Mapping[str, Any]]) -> bytes:
    return compact_json(list(refs), list[GRef], "the file of refs")


GREFER = Form("grefs({}).json", GRef, _load, _dump)
"""The format of gRefCOCO: a ref means any number of annotations."""


class GRefCOCO(RefCOCO):
    """gRefCOCO, one scene per image with all its refs of the split.

    An expression may mean several objects, and its target is their union, or nothing in the image. Figures
    are also given for those about a single object and for those about several (``single``, ``multi``); gIoU,
    cIoU, N_acc and T_acc are about all. A ref that contradicts itself counts as failed.

    Args:
        root: Folder that holds ``grefcoco/grefs(<split_by>).json`` and ``grefcoco/instances.json``.
        dataset: ``grefcoco`` or another folder of that format.
        split_by: Partition.
        split: ``train``, ``val``, ``testA`` or ``testB``.
        options: Those of `RefCOCO`, of which ``overlap`` is ``union`` as published.
    """

    form = GREFER
    subset_names = ("single", "multi")

    def __init__(
        self,
        root: str | Path = "data",
        dataset: str = "grefcoco",
        split_by: str = "unc",
        split: str = "val",
        **options: Any,
    ) -> None:
        super().__init__(root, dataset, split_by, split, **options)
