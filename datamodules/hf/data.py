"""The data modules of Hugging Face repositories.

The names of columns and splits and the counts per split were confirmed from the repositories' own cards, what
the values mean from public code that reads them. The files themselves could not be had when this was written:
the tests write files of the same columns and types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from datamodules.base import GROUND_TRUTH, RISDataModule
from datamodules.hf import files
from datamodules.hf.rows import benchmark_row, merge, refcoco_m_row
from datamodules.records import ImageRecord, Key
from datamodules.scene import ImageReader
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import read_table

_BENCHMARK_SPLITS = {
    (dataset, partition): splits
    for dataset, partitions in read_table(Path(__file__).with_name("benchmark.yaml")).items()
    for partition, splits in partitions.items()
}


class HubData(RISDataModule):
    """What the data modules of Hugging Face repositories share: images lie in the files.

    Scenes come in the order of the rows, one per image, so that each process passes over the files once.
    Ground-truth proposals are refused: the files lack the instances that no ref is about.

    Args:
        root: Folder of the parquet files, or of the repository's folder ``<owner>/<name>``; if they are not
            there, they are looked for in the Hugging Face cache.
        options: Those of `RISDataModule`.
    """

    repository: str  # where the files come from
    file_split: str  # name of the split in their names
    columns: tuple[str, ...]  # read at once; the images, in the column ``image``, one by one
    read_row: Callable[[dict[str, Any], str, str], ImageRecord]  # one of `datamodules.hf.rows`

    def __init__(self, *, root: str | Path, **options: Any) -> None:
        super().__init__(image_root=None, allow_missing_images=False, **options)
        if self.proposals == GROUND_TRUTH:
            raise UserError(
                "proposals=ground_truth needs every instance of an image, but these files have the referred "
                "ones only; use datamodules.RefCOCO with instances.json (data=refcoco), or other proposals."
            )
        self.root = Path(root).expanduser()
        self._places: dict[Key, files.RowPlace] = {}

    def require_files(self) -> None:
        """Check that the files are there and of the form that is read; `UserError` if not."""
        self._files()

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split without its images, in the order of the rows; see `datamodules.hf.rows.merge`."""
        return merge(self._read(), f"'{self.file_split}' of {self.repository}")

    def input_files(self) -> dict[str, Path]:
        """Return the files of the split."""
        return {path.name: path for path in self._files()}

    def image_folders(self) -> list[Path]:
        """Return no folder: the images lie in the files."""
        return []

    def image_reader(self) -> ImageReader:
        """Return a reader of the images that lie in the files."""
        wanted = {record.image_id for record in self.records}
        return files.ParquetImages({key: place for key, place in self._places.items() if key in wanted})

    def _files(self) -> list[Path]:
        found = files.find_split(self.repository, self.root, self.file_split)
        for path in found:
            files.check_form(path, (*self.columns, "image"))
        return found

    def _read(self) -> Iterator[ImageRecord]:
        for path in self._files():
            for number, (place, row) in enumerate(files.read_rows(path, self.columns)):
                record = self.read_row(row, f"'{path}': row {number}", self.split)
                self._places.setdefault(record.image_id, place)
                yield record


class RefCOCOBenchmark(HubData):
    """``jxu124/refcoco-benchmark``: every evaluation split, one row per image, with the image inside.

    The files are named by data set, partition and split, ``refcoco_plus_unc_testA``. Masks are polygons only:
    the target of an annotation that was a run-length code counts as damaged.

    Args:
        root: As for `HubData`.
        dataset: ``refcoco``, ``refcoco+`` or ``refcocog``.
        split_by: Partition: ``unc`` or ``google`` for refcoco, ``unc`` for refcoco+, ``umd`` or ``google``
            for refcocog.
        split: ``val``, ``testA``, ``testB`` or ``test``, as the partition has it.
        overlap: As for `RefCOCO`.
        options: Those of `RISDataModule`.
    """

    columns = ("ref_list", "image_info")
    read_row = staticmethod(benchmark_row)
    repository = "jxu124/refcoco-benchmark"

    def __init__(
        self,
        root: str | Path = "data",
        dataset: str = "refcoco",
        split_by: str = "unc",
        split: str = "val",
        overlap: Literal["union", "sum_equals_one"] = "union",
        **options: Any,
    ) -> None:
        if (dataset, split_by) not in _BENCHMARK_SPLITS:
            known = [f"{name} ({partition})" for name, partition in _BENCHMARK_SPLITS]
            raise unknown_name(
                "data.dataset (data.split_by) of refcoco-benchmark", f"{dataset} ({split_by})", known
            )
        if split not in (splits := _BENCHMARK_SPLITS[dataset, split_by]):
            raise unknown_name(f"split of {dataset} ({split_by})", split, splits)
        super().__init__(root=root, split=split, rule=overlap, **options)
        self.dataset_name, self.partition = dataset, split_by
        self.file_split = f"{dataset.replace('+', '_plus')}_{split_by}_{split}"


class RefCOCOM(HubData):
    """``moondream/refcoco-m``: about half of the refs of RefCOCO's val (unc), with accurate masks and images.

    Its card asks for the mean IoU over pairs of image and sentence, each counted alike, which results name.

    Args:
        root: As for `HubData`.
        split: ``val``, the only one.
        options: Those of `RISDataModule`.
    """

    dataset_name = "refcoco-m"
    partition = "unc"
    own_metric = "RefCOCO-M's mIoU over (image, sentence) pairs"
    columns = ("image_id", "file_name", "samples")
    read_row = staticmethod(refcoco_m_row)
    repository = "moondream/refcoco-m"
    file_split = "validation"

    def __init__(self, root: str | Path = "data", split: str = "val", **options: Any) -> None:
        if split != "val":
            raise unknown_name("split of RefCOCO-M", split, ["val"])
        super().__init__(root=root, split=split, rule="union", **options)
