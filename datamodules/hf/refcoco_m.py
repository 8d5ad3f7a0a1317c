"""``moondream/refcoco-m``: RefCOCO's val with accurate masks, one row per image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from datamodules.files import MAX_SIDE, Id, clean_text, convert
from datamodules.hf.forms import REFCOCO_M
from datamodules.hf.hub import Repository
from datamodules.hf.module import HubData
from datamodules.records import ImageRecord, Referent, Segmentation
from gl_ris.errors import unknown_name


class _Sample(msgspec.Struct):
    id: Id
    sentences: list[str]
    mask: dict[str, Any] | None
    category: str | None = None


class _Row(msgspec.Struct):
    image_id: Id
    file_name: str
    samples: list[_Sample]


def refcoco_m_row(row: dict[str, Any], where: str, split: str) -> ImageRecord:
    """Read a row: one image with all its masks, run-length codes ``{"counts", "size"}``.

    Sentences have no ids of their own there; they get ``<id of the mask>-<index>``. The image has the size of
    its masks, the only place where the file tells it; 1 x 1 if no mask does, and then every mask is at fault.

    Args:
        row: The columns of `datamodules.hf.forms.REFCOCO_M`.
        where: Name of the row, for messages.
        split: Not recorded in the rows.

    Raises:
        UserError: If a field is missing or of another type.
    """
    own = convert(row, _Row, where)
    referents, sizes = [], []
    for sample in own.samples:
        texts = tuple(clean_text(text) for text in sample.sentences)
        ids = tuple(f"{sample.id}-{index}" for index in range(len(texts)))
        mask = Segmentation.from_json(sample.mask)
        referents.append(Referent(sample.id, (mask,), texts, ids, sample.category))
        sizes += [mask.rle["size"]] if mask.rle and _is_size(mask.rle["size"]) else []
    height, width = sizes[0] if sizes else (1, 1)
    return ImageRecord(own.image_id, clean_text(own.file_name), height, width, tuple(referents))


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(type(n) is int and 1 <= n <= MAX_SIDE for n in size)
    )


class RefCOCOM(HubData):
    """``moondream/refcoco-m``: about half of the refs of RefCOCO's val (unc), with accurate masks and images.

    Scenes come in the order of the rows, so that each process passes over the files once.

    Args:
        root: Folder of the parquet files, or of the repository's folder ``moondream/refcoco-m``; if they are
            not there, they are looked for in the Hugging Face cache.
        split: ``val``, the only one.
        download: Fetch the data (610 MB) into the Hugging Face cache if they are nowhere.
        options: Those of `RISDataModule`.
    """

    dataset_name = "refcoco-m"
    partition = "unc"
    form = REFCOCO_M
    read_row = staticmethod(refcoco_m_row)
    repository = Repository("moondream/refcoco-m")
    file_split = "validation"

    def __init__(
        self,
        root: str | Path = "data",
        split: str = "val",
        download: bool = False,
        **options: Any,
    ) -> None:
        if split != "val":
            raise unknown_name("split of RefCOCO-M", split, ["val"])
        super().__init__(
            root=root,
            download=download,
            split=split,
            image_root=None,
            rule="union",
            allow_missing_images=False,
            **options,
        )
