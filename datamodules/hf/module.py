"""What the data modules of Hugging Face repositories share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import GROUND_TRUTH, RISDataModule
from datamodules.hf.forms import Form, check_form, form_of
from datamodules.hf.hub import Repository
from datamodules.hf.parquet import ParquetImages, Place, parquet_library, read_rows
from datamodules.hf.rows import merge
from datamodules.records import ImageRecord, Key
from datamodules.scene import ImageReader
from gl_ris.errors import UserError


class HubData(RISDataModule):
    """What the data modules of Hugging Face repositories share.

    Ground-truth proposals are refused: the files lack the instances that no ref is about.

    Attributes:
        repository: Where the files come from.
        file_split: Name of the split in their names.
        form: Their columns.
    """

    repository: Repository
    file_split: str
    form: Form

    def __init__(self, *, root: str | Path, download: bool, **options: Any) -> None:
        super().__init__(**options)
        if self.proposals == GROUND_TRUTH:
            raise UserError(
                "proposals=ground_truth needs every instance of an image, but these files have the referred "
                "ones only; use datamodules.RefCOCO with instances.json (data=refcoco), or other proposals."
            )
        self.root = Path(root).expanduser()
        self.download = download
        self._places: dict[Key, Place] = {}

    @staticmethod
    @abstractmethod
    def read_row(row: dict[str, Any], where: str, split: str) -> ImageRecord:
        """Read one row; see `datamodules.hf.rows`."""

    def prepare_data(self) -> None:
        """Fetch the split into the cache of the hub if `download` says so and it is not on this machine."""
        if self.download and not self.repository.find(self.root, self.file_split):
            parquet_library()  # before a long transfer rather than after it
            self.repository.fetch(self.root, self.file_split)

    def require_files(self) -> None:
        """Check that the files are there, or may be fetched.

        Raises:
            UserError: If neither.
        """
        if not self.download:
            self._files()

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split without its images, in the order of the rows; see `datamodules.hf.rows.merge`."""
        return merge(self._read(self._files()), f"'{self.file_split}' of {self.repository.name}")

    def image_folders(self) -> list[Path]:
        """Return no folder: the images lie in the files."""
        return []

    def image_reader(self) -> ImageReader:
        """Return a reader of the images that lie in the files."""
        wanted = {record.image_id for record in self.records}
        return ParquetImages({key: place for key, place in self._places.items() if key in wanted})

    def _files(self) -> list[Path]:
        files = self.repository.find(self.root, self.file_split)
        # what lies in their place may be of a form that is refused for a reason
        others = [] if files else [path for path in self.repository.others(self.root) if form_of(path)]
        for path in files or others:
            check_form(path, self.form)
        if not files:
            raise self.repository.absent(self.root, self.file_split)
        return files

    def _read(self, files: list[Path]) -> Iterator[ImageRecord]:
        for path in files:
            for number, (place, row) in enumerate(read_rows(path, self.form.columns)):
                record = self.read_row(row, f"'{path}': row {number}", self.split)
                self._places.setdefault(record.image_id, place)
                yield record
