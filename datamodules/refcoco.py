"""RefCOCO, RefCOCO+ and RefCOCOg, and whatever else is written in their format."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from datamodules.base import GROUND_TRUTH, RISDataModule
from datamodules.records import ImageRecord
from datamodules.refer import REFER, Form, read_split
from gl_ris.errors import UserError, unknown_name
from gl_ris.inputs import by_name

PUBLISHED = ("refcoco", "refcoco+", "refcocog", "grefcoco")  # what `datamodules.download` fetches


class RefCOCO(RISDataModule):
    """A data set of REFER files, one scene per image with all its refs of the split.

    Args:
        root: Folder that holds a folder per data set, ``<root>/<dataset>/refs(<split_by>).p``.
        dataset: ``refcoco``, ``refcoco+``, ``refcocog`` or another folder of that format.
        split_by: Partition: ``unc`` for RefCOCO and RefCOCO+, ``umd`` or ``google`` for RefCOCOg.
        split: A split of the partition, e.g. ``val``, ``testA``, ``testB``, ``test``.
        instances: File of the ground-truth proposals, e.g. COCO's ``instances_train2014.json``; None takes
            the data set's own ``instances.json``, which has every instance of its images.
        crowds: Whether crowds, which outline many objects at once, are among the ground-truth proposals. As
            targets they are what the data set says in any case.
        overlap: How the polygons of one annotation make its mask: ``union``, or ``sum_equals_one`` as in the
            published evaluation, where pixels inside two polygons are background.
        options: Those of `RISDataModule`.
    """

    form: Form = REFER

    def __init__(
        self,
        root: str | Path = "data",
        dataset: str = "refcoco",
        split_by: str = "unc",
        split: str = "val",
        instances: str | Path | None = None,
        crowds: bool = False,
        overlap: Literal["union", "sum_equals_one"] = "union",
        **options: Any,
    ) -> None:
        super().__init__(split=split, rule=overlap, **options)
        self.root = Path(root).expanduser()
        self.dataset_name = dataset
        self.partition = split_by
        self.instances = None if instances is None else Path(instances).expanduser()
        self.crowds = crowds

    def require_files(self) -> None:
        """Check that the refs of the partition are there; `UserError` if they are not."""
        self.form.require(self._folder(), self.partition)

    def _folder(self) -> Path:
        folder = self.root / self.dataset_name
        if not self.root.is_dir() or (not folder.is_dir() and self.dataset_name in PUBLISHED):
            fetch = f"; 'python -m datamodules.download {self.dataset_name} --root={self.root}' fetches them"
            raise UserError(
                f"No folder '{folder}': data.root={self.root} should hold "
                f"'{self.dataset_name}/{self.form.name.format('...')}'"
                f"{fetch if self.dataset_name in PUBLISHED else ''}."
            )
        if not folder.is_dir():
            present = [p.name for p in self.root.iterdir() if p.is_dir() and self.form.partitions(p)]
            raise unknown_name(f"data set in '{self.root}'", self.dataset_name, present)
        return folder

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split; see `datamodules.refer.read_split`."""
        where, split, instances = self._folder(), self.split, self.instances
        options: dict[str, Any] = {"instances": instances, "crowds": self.crowds, "form": self.form}
        return read_split(where, self.partition, split, all_instances, **options)

    def input_files(self) -> dict[str, Path]:
        """Return the refs, the instances, and the other file of instances if proposals come from one."""
        folder = self._folder()
        files = [self.form.path(folder, self.partition), folder / "instances.json"]
        if self.instances is not None and self.proposals == GROUND_TRUTH:
            files.append(self.instances)
        return by_name(files)

    def image_folders(self) -> list[Path]:
        """Return where the images are usually kept."""
        below = (
            f"{self.dataset_name}/images",
            "train2014",
            "images/mscoco/images/train2014",
            "coco/train2014",
            "coco/images/train2014",
            "images/train2014",
            "mscoco/train2014",
            f"{self.dataset_name}/train2014",
            "images",
            "",  # file names that bring their folder along: "coco/train2014/..."
        )
        return [self.root / name for name in below]
