"""``jxu124/refcoco``, ``/refcocoplus`` and ``/refcocog``: one row per ref, no images.

The files are named ``train``, ``validation``, ``testB``, and ``test``, which is testA where there is a testB;
the rows say train, val, testA, testB or test in ``split``. Their counts are those of unc (RefCOCO,
RefCOCO+) and umd (RefCOCOg).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from datamodules.base import RISDataModule
from datamodules.files import Id, convert
from datamodules.hf.forms import ROWS
from datamodules.hf.hub import Repository
from datamodules.hf.module import HubData
from datamodules.hf.rows import read_image_info, read_ref
from datamodules.records import ImageRecord, sort_key
from datamodules.refcoco import RefCOCO
from datamodules.scene import ImageReader
from gl_ris.errors import unknown_name

_ROWS_DATA = {
    "refcoco": ("jxu124/refcoco", "unc"),
    "refcoco+": ("jxu124/refcocoplus", "unc"),
    "refcocog": ("jxu124/refcocog", "umd"),
}
_ROWS_SPLITS = {
    "unc": {"train": "train", "val": "validation", "testA": "test", "testB": "testB"},
    "umd": {"train": "train", "val": "validation", "test": "test"},
}


class _Row(msgspec.Struct):
    image_id: Id
    raw_anns: str
    raw_image_info: str


def ref_row(row: dict[str, Any], where: str, split: str) -> ImageRecord:
    """Read a row: one ref, its COCO annotation and image as JSON text in ``raw_anns`` and ``raw_image_info``.

    Args:
        row: The columns of `datamodules.hf.forms.ROWS`.
        where: Name of the row, for messages.
        split: The split that the file should be of, in the words of the refs (``testA``, not ``test``).

    Returns:
        The image with this one ref. An annotation that is damaged is kept as the fault of its mask.

    Raises:
        UserError: If a field is missing or of another type, or the row is of another split or image.
    """
    own = convert(row, _Row, where)
    referent = read_ref(row, _json_object(own.raw_anns), where, split)
    image = _json_object(own.raw_image_info)
    return read_image_info(image, own.image_id, (referent,), f"{where}, its raw_image_info")


def _json_object(text: str) -> Any:
    """Return the object that ``text`` spells, or None if it does not."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class RefCOCORows(HubData):
    """``jxu124/refcoco``, ``/refcocoplus`` or ``/refcocog``: a row per ref, images in a folder of their own.

    Scenes are those that `datamodules.RefCOCO` makes of the REFER files, in the same order.

    Args:
        root: Folder of the parquet files, or of the repository's folder ``jxu124/refcoco``; if they are not
            there, they are looked for in the Hugging Face cache. Images are looked for where `RefCOCO` looks.
        dataset: ``refcoco``, ``refcoco+`` (both partition unc) or ``refcocog`` (umd).
        split: ``train``, ``val``, and ``testA``, ``testB`` or (refcocog) ``test``.
        overlap: How the polygons of one annotation make its mask: ``union``, or ``sum_equals_one`` as in the
            published evaluation, where pixels inside two polygons are background.
        download: Fetch the split's annotations into the Hugging Face cache if they are nowhere.
        options: Those of `RISDataModule`.
    """

    form = ROWS
    read_row = staticmethod(ref_row)

    def __init__(
        self,
        root: str | Path = "data",
        dataset: str = "refcoco",
        split: str = "val",
        overlap: Literal["union", "sum_equals_one"] = "union",
        download: bool = False,
        **options: Any,
    ) -> None:
        if dataset not in _ROWS_DATA:
            raise unknown_name("data set of jxu124", dataset, _ROWS_DATA)
        name, self.partition = _ROWS_DATA[dataset]
        splits = _ROWS_SPLITS[self.partition]
        if split not in splits:
            raise unknown_name(f"split of {dataset} ({self.partition})", split, splits)
        super().__init__(
            root=root,
            download=download,
            split=split,
            rule=overlap,
            **options,
        )
        self.dataset_name = dataset
        self.repository, self.file_split = Repository(name), splits[split]

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split, ordered by image id."""
        return sorted(super().read_records(all_instances), key=lambda record: sort_key(record.image_id))

    def image_folders(self) -> list[Path]:
        """Return where `RefCOCO` looks."""
        return RefCOCO(self.root, self.dataset_name).image_folders()

    def image_reader(self) -> ImageReader:
        """Return a reader of the image folder."""
        return RISDataModule.image_reader(self)
