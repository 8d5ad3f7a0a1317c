"""``jxu124/refcoco-benchmark``: one row per image, with the image inside.

``ref_list`` has each ref beside its COCO annotation, whose ``segmentation`` is polygons only. The files of a
split are named by data set, partition and split, ``refcoco_plus_unc_testA``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from datamodules.files import convert
from datamodules.hf.forms import BENCHMARK
from datamodules.hf.hub import Repository
from datamodules.hf.module import HubData
from datamodules.hf.rows import check_image_id, read_image_info, read_ref
from datamodules.records import ImageRecord
from gl_ris.errors import unknown_name

_SPLITS = {
    ("refcoco", "unc"): ("val", "testA", "testB"),
    ("refcoco", "google"): ("val", "test"),
    ("refcoco+", "unc"): ("val", "testA", "testB"),
    ("refcocog", "umd"): ("val", "test"),
    ("refcocog", "google"): ("val",),
}


class _Item(msgspec.Struct):
    ref_info: dict[str, Any]
    ann_info: Any = None


class _Row(msgspec.Struct):
    ref_list: list[_Item]
    image_info: dict[str, Any]


def benchmark_row(row: dict[str, Any], where: str, split: str) -> ImageRecord:
    """Read a row: one image with its refs of the split.

    Args:
        row: The columns of `datamodules.hf.forms.BENCHMARK`.
        where: Name of the row, for messages.
        split: The split that the file should be of.

    Raises:
        UserError: As `datamodules.hf.ref_rows.ref_row`.
    """
    own = convert(row, _Row, where)
    image_id, referents = own.image_info.get("id"), []
    for number, item in enumerate(own.ref_list):
        place = f"{where}, ref {number}"
        referents.append(read_ref(item.ref_info, _annotation(item.ann_info), place, split))
        check_image_id(item.ref_info.get("image_id"), image_id, place)
    return read_image_info(own.image_info, image_id, tuple(referents), f"{where}, its image_info")


def _annotation(value: Any) -> Any:
    """Return an annotation, or None if it was a run-length code, which a column of polygons cannot hold."""
    lost = isinstance(value, dict) and value.get("segmentation") == [] and value.get("area")
    return None if lost else value


class RefCOCOBenchmark(HubData):
    """``jxu124/refcoco-benchmark``: every evaluation split with its images.

    Scenes come in the order of the rows, so that each process passes over the files once.

    Args:
        root: Folder of the parquet files, or of the repository's folder ``jxu124/refcoco-benchmark``; if they
            are not there, they are looked for in the Hugging Face cache.
        dataset: ``refcoco``, ``refcoco+`` or ``refcocog``.
        split_by: Partition: ``unc`` or ``google`` for refcoco, ``unc`` for refcoco+, ``umd`` or ``google``
            for refcocog.
        split: ``val``, ``testA``, ``testB`` or ``test``, as the partition has it.
        overlap: How the polygons of one annotation make its mask: ``union``, or ``sum_equals_one`` as in the
            published evaluation, where pixels inside two polygons are background.
        download: Fetch the split (130 to 800 MB) into the Hugging Face cache if it is nowhere.
        options: Those of `RISDataModule`.
    """

    form = BENCHMARK
    read_row = staticmethod(benchmark_row)
    repository = Repository("jxu124/refcoco-benchmark")

    def __init__(
        self,
        root: str | Path = "data",
        dataset: str = "refcoco",
        split_by: str = "unc",
        split: str = "val",
        overlap: Literal["union", "sum_equals_one"] = "union",
        download: bool = False,
        **options: Any,
    ) -> None:
        if (dataset, split_by) not in _SPLITS:
            known = [f"{name} ({partition})" for name, partition in _SPLITS]
            raise unknown_name("data set (split_by) of refcoco-benchmark", f"{dataset} ({split_by})", known)
        if split not in _SPLITS[dataset, split_by]:
            raise unknown_name(f"split of {dataset} ({split_by})", split, _SPLITS[dataset, split_by])
        super().__init__(
            root=root,
            download=download,
            split=split,
            image_root=None,
            rule=overlap,
            allow_missing_images=False,
            **options,
        )
        self.dataset_name, self.partition = dataset, split_by
        self.file_split = f"{dataset.replace('+', '_plus')}_{split_by}_{split}"
