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
from datamodules.hf.rows import benchmark_row, merge, ref_row, refcoco_m_row
from datamodules.records import ImageRecord, Key, sort_key
from datamodules.refcoco import RefCOCO
from datamodules.scene import ImageReader
from gl_ris.errors import UserError, unknown_name

_BENCHMARK_SPLITS = {
    (dataset, partition): splits
    for dataset, partitions in files.REPOSITORIES["benchmark"].items()
    for partition, splits in partitions.items()
}


class HubData(RISDataModule):
    """What the data modules of Hugging Face repositories share.

    Ground-truth proposals are refused: the files lack the instances that no ref is about.

    Args:
        root: Folder of the parquet files, or of the repository's folder ``<owner>/<name>``; if they are not
            there, they are looked for in the Hugging Face cache.
        download: Fetch the split into the Hugging Face cache if it is nowhere.
        options: Those of `RISDataModule`.
    """

    repository: files.Repository  # where the files come from
    file_split: str  # name of the split in their names
    form: files.Form  # their columns
    read_row: Callable[[dict[str, Any], str, str], ImageRecord]  # one of `datamodules.hf.rows`

    def __init__(self, *, root: str | Path, download: bool, **options: Any) -> None:
        super().__init__(**options)
        if self.proposals == GROUND_TRUTH:
            raise UserError(
                "proposals=ground_truth needs every instance of an image, but these files have the referred "
                "ones only; use datamodules.RefCOCO with instances.json (data=refcoco), or other proposals."
            )
        self.root = Path(root).expanduser()
        self.download = download
        self._places: dict[Key, files.RowPlace] = {}

    def prepare_data(self) -> None:
        """Fetch the split into the cache of the hub if `download` says so and it is not on this machine."""
        if self.download and not self.repository.find(self.root, self.file_split):
            files.require_pyarrow()  # before a long transfer rather than after it
            self.repository.fetch(self.root, self.file_split)

    def require_files(self) -> None:
        """Check that the files are there, or may be fetched; `UserError` if neither."""
        if not self.download:
            self._files()

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split without its images, in the order of the rows; see `datamodules.hf.rows.merge`."""
        return merge(self._read(), f"'{self.file_split}' of {self.repository.name}")

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
        found = self.repository.find(self.root, self.file_split)
        # what lies in their place may be of a form that is refused for a reason
        others = [] if found else [path for path in self.repository.others(self.root) if files.form_of(path)]
        for path in found or others:
            files.check_form(path, self.form)
        if not found:
            raise self.repository.absent(self.root, self.file_split)
        return found

    def _read(self) -> Iterator[ImageRecord]:
        for path in self._files():
            for number, (place, row) in enumerate(files.read_rows(path, self.form.columns)):
                record = self.read_row(row, f"'{path}': row {number}", self.split)
                self._places.setdefault(record.image_id, place)
                yield record


class RefCOCORows(HubData):
    """``jxu124/refcoco``, ``/refcocoplus`` or ``/refcocog``: a row per ref, images in a folder of their own.

    Scenes are those that `datamodules.RefCOCO` makes of the REFER files, in the same order. The files are
    named ``train``, ``validation``, ``testB``, and ``test``, which is testA where there is a testB.

    Args:
        root: As for `HubData`; images are looked for where `RefCOCO` looks.
        dataset: ``refcoco``, ``refcoco+`` (both partition unc) or ``refcocog`` (umd).
        split: ``train``, ``val``, and ``testA``, ``testB`` or (refcocog) ``test``.
        overlap: As for `RefCOCO`.
        download: Fetch the split's annotations into the Hugging Face cache if they are nowhere.
        options: Those of `RISDataModule`.
    """

    form = files.ROWS
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
        if dataset not in (known := files.REPOSITORIES["rows"]):
            raise unknown_name("data set of jxu124", dataset, known)
        name, self.partition = known[dataset]
        splits = files.REPOSITORIES["rows_splits"][self.partition]
        if split not in splits:
            raise unknown_name(f"split of {dataset} ({self.partition})", split, splits)
        super().__init__(root=root, download=download, split=split, rule=overlap, **options)
        self.dataset_name = dataset
        self.repository, self.file_split = files.Repository(name), splits[split]

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split, ordered by image id."""
        return sorted(super().read_records(all_instances), key=lambda record: sort_key(record.image_id))

    def image_folders(self) -> list[Path]:
        """Return where `RefCOCO` looks."""
        return RefCOCO(self.root, self.dataset_name).image_folders()

    def image_reader(self) -> ImageReader:
        """Return a reader of the image folder."""
        return RISDataModule.image_reader(self)


class RefCOCOBenchmark(HubData):
    """``jxu124/refcoco-benchmark``: every evaluation split, one row per image, with the image inside.

    Scenes come in the order of the rows, so that each process passes over the files once. The files are named
    by data set, partition and split, ``refcoco_plus_unc_testA``. Masks are polygons only: the target of an
    annotation that was a run-length code counts as damaged.

    Args:
        root: As for `HubData`.
        dataset: ``refcoco``, ``refcoco+`` or ``refcocog``.
        split_by: Partition: ``unc`` or ``google`` for refcoco, ``unc`` for refcoco+, ``umd`` or ``google``
            for refcocog.
        split: ``val``, ``testA``, ``testB`` or ``test``, as the partition has it.
        overlap: As for `RefCOCO`.
        download: Fetch the split (130 to 800 MB) into the Hugging Face cache if it is nowhere.
        options: Those of `RISDataModule`.
    """

    form = files.BENCHMARK
    read_row = staticmethod(benchmark_row)
    repository = files.Repository("jxu124/refcoco-benchmark")

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
        if (dataset, split_by) not in _BENCHMARK_SPLITS:
            known = [f"{name} ({partition})" for name, partition in _BENCHMARK_SPLITS]
            raise unknown_name(
                "data.dataset (data.split_by) of refcoco-benchmark", f"{dataset} ({split_by})", known
            )
        if split not in (splits := _BENCHMARK_SPLITS[dataset, split_by]):
            raise unknown_name(f"split of {dataset} ({split_by})", split, splits)
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


class RefCOCOM(HubData):
    """``moondream/refcoco-m``: about half of the refs of RefCOCO's val (unc), with accurate masks and images.

    Scenes come in the order of the rows, one per image, so that each process passes over the files once. Its
    card asks for the mean IoU over pairs of image and sentence, each counted alike, which results name.

    Args:
        root: As for `HubData`.
        split: ``val``, the only one.
        download: Fetch the data (610 MB) into the Hugging Face cache if they are nowhere.
        options: Those of `RISDataModule`.
    """

    dataset_name = "refcoco-m"
    partition = "unc"
    own_metric = "RefCOCO-M's mIoU over (image, sentence) pairs"
    form = files.REFCOCO_M
    read_row = staticmethod(refcoco_m_row)
    repository = files.Repository("moondream/refcoco-m")
    file_split = "validation"

    def __init__(
        self, root: str | Path = "data", split: str = "val", download: bool = False, **options: Any
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
