"""What all data modules share: records in, one `Scene` per image out."""

from __future__ import annotations

import functools
import logging
import random
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from datamodules.files import uncollected
from datamodules.filtering import Filter
from datamodules.images import find_image_folder, image_path
from datamodules.records import ImageRecord, Key, MaskRule
from datamodules.scene import ImageReader, Scene, SceneDataset, read_from_folder
from datamodules.shards import Shard, share_out
from datamodules.workers import LoaderWorker, usual_workers
from gl_ris.errors import UserError, unknown_name
from gl_ris.pictures import is_file
from gl_ris.proposals import GENERATORS, find_generator
from gl_ris.proposals.base import ProposalGenerator
from gl_ris.proposals.source import ProposalSource

GROUND_TRUTH = "ground_truth"

log = logging.getLogger(__name__)


# scenes are ragged and stay as they are; workers have to find this by its name
def _identity(scene: Any) -> Any:
    return scene


def _resolve_proposals(proposals: object) -> str | ProposalGenerator | None:
    if proposals is None or proposals == GROUND_TRUTH or isinstance(proposals, ProposalGenerator):
        return proposals
    if isinstance(proposals, str) and proposals in GENERATORS:
        return find_generator(proposals)
    raise unknown_name("proposals", proposals, [GROUND_TRUTH, *GENERATORS, "None"])


class RISDataModule(LightningDataModule):
    """Base of the data modules; a subclass says how its records are read and where images usually are.

    Making one reads nothing. The annotations are read once per process, in `setup` or when a property asks
    for them. A subclass hands its ``**options`` on to this ``__init__``, where the options that all data
    modules have are declared once; the command line and its help follow them here.

    Args:
        split: Name of the split.
        rule: How polygons become masks.
        image_root: Folder of the images; None looks in the usual places below root.
        proposals: ``"ground_truth"`` (every instance of the image except empty masks: the paper's Table 2),
            the name of a generator, a generator, or None for none.
        limit: Evaluate only so many images.
        limit_seed: None takes the first ones, a number draws them with that seed.
        sentences: Evaluate only the expressions that a file lists by their ids: a JSON list, a CSV file with
            a column sent_id, or a text with an id on each line.
        without: Leave out those that such a file lists, as the faulty ones of a cleaned data set.
        num_workers: Processes that read images and make proposals (by slic, felzenszwalb, a store or a file)
            beside the main one. None in a run is as many as it may keep cores busy (see docs/performance.md),
            none on one core, without fork, and in a training.
        pin_memory: Page-lock what the workers hand over; pays off with a GPU.
        allow_missing_images: Count the expressions of missing images as failed, rather than refuse to start.
    """

    dataset_name: str  # as results carry it
    partition: str
    # the metric that its authors define, if that is mean IoU with every miss counted, in their words
    own_metric: str | None = None
    subset_names: tuple[str, ...] = ()  # subsets that results are also given for, see `gl_ris.tally`

    def __init__(
        self,
        *,
        split: str,
        rule: MaskRule,
        image_root: str | Path | None = None,
        proposals: str | ProposalGenerator | None = None,
        limit: int | None = None,
        limit_seed: int | None = None,
        sentences: str | Path | None = None,
        without: str | Path | None = None,
        num_workers: int | None = None,
        pin_memory: bool = False,
        allow_missing_images: bool = False,
    ) -> None:
        super().__init__()
        if limit is not None and limit < 1:
            raise UserError(f"limit is {limit}, but at least one image must be left; leave it out for all.")
        if num_workers is not None and num_workers < 0:
            raise UserError(f"data.num_workers={num_workers} must be 0 (read in the main process) or more.")
        self.split = split
        self.image_root = None if image_root is None else Path(image_root).expanduser()
        self.proposals = _resolve_proposals(proposals)
        self.rule = rule
        self.limit = limit
        self.limit_seed = limit_seed
        self.filter = Filter(sentences, without)
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.allow_missing_images = allow_missing_images
        # what leaves further images out, set before any is asked for
        self.narrow: Callable[[list[ImageRecord]], list[ImageRecord]] = list
        self._dataset: SceneDataset | None = None
        self._left: list[int] | None = None
        self._work: list[int] | None = None

    @abstractmethod
    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Return the split, in every process: one record per image, in a fixed order, instances if asked."""

    def require_files(self) -> None:
        """Raise a `UserError` that says what to put where if a look finds no annotations; reads nothing."""

    def input_files(self) -> dict[str, Path]:
        """Return the files of annotations that the split is read from, by name."""
        return {}

    @abstractmethod
    def image_folders(self) -> list[Path]:
        """Return the folders where the images usually are, the likeliest first."""

    @functools.cached_property
    def whole(self) -> list[ImageRecord]:
        """The images of the whole split, read at the first call; `UserError` if there is none."""
        with uncollected():
            records = self.read_records(self.proposals == GROUND_TRUTH)
        if not records:
            raise UserError(
                f"Split '{self.split}' of {self.dataset_name} ({self.partition}) has no expression; "
                "choose another split, or fetch the annotations anew."
            )
        return records

    @functools.cached_property
    def records(self) -> list[ImageRecord]:
        """The images that are asked for, after the lists and `limit`; `UserError` if there is none."""
        records = self.filter.apply(self.whole, self.split)
        if not records:
            raise UserError(
                f"No expression of split '{self.split}' is left by data.sentences or data.without."
            )
        if self.limit_seed is None or self.limit is None or self.limit >= len(records):
            return self.narrow(records[: self.limit])
        drawn = random.Random(self.limit_seed).sample(range(len(records)), self.limit)
        return self.narrow([records[place] for place in sorted(drawn)])

    @property
    def proposals_name(self) -> str | None:
        """``"ground_truth"``, the name of the generator, or None if the data bring no proposals."""
        return self.proposals.name if isinstance(self.proposals, ProposalGenerator) else self.proposals

    @property
    def n_images(self) -> int:
        """Count of images, each one scene."""
        return len(self.records)

    @functools.cached_property
    def n_expressions(self) -> int:
        """Count of expressions over all images."""
        return len(self.expressions())

    @property
    def subset_sizes(self) -> dict[str, int]:
        """Count of expressions in each subset."""
        sizes = dict.fromkeys(self.subset_names, 0)
        for referent in (referent for record in self.records for referent in record.referents):
            for name in referent.subsets:
                sizes[name] += len(referent.sentences)
        return sizes

    def take_proposals_from(self, source: ProposalSource | None) -> None:
        """Let ``source`` give the proposals, those that are for workers; before a loader is made.

        Of data with a generator, workers that were asked for make all of them.
        """
        self.scenes.source = source
        self.scenes.ahead = not (self.num_workers and isinstance(self.proposals, ProposalGenerator))

    @property
    def scenes(self) -> SceneDataset:
        """The scenes of all images, by their index."""
        self.setup("predict")
        assert self._dataset is not None
        return self._dataset

    def leave_out(self, finished: Collection[int], at_least: int) -> None:
        """Leave the ``finished`` images, by their indices, out of the loaders to come, as a run that goes on.

        ``at_least`` so many stay, one for each process; if fewer are left, finished ones fill up.
        """
        done = set(finished)
        left = [index for index in range(self.n_images) if index not in done]
        self._left = [*left, *sorted(done)[: max(0, at_least - len(left))]]

    def share_by(self, work: Mapping[Key, int], otherwise: int | None = None) -> None:
        """Say how much work there is, so that processes get equal shares; before a loader is made.

        ``work`` is at least 0 by the id of an image, as a count of proposals: beside it, each image counts 1.
        That of any other image is ``otherwise``; None for the mean of those that are given. Without this call
        it is the count of proposals that the data bring, or else of expressions.
        """
        usual = round(sum(work.values()) / max(1, len(work))) if otherwise is None else otherwise
        self._work = [1 + work.get(record.image_id, usual) for record in self.records]

    def _own(self) -> list[int]:
        """Return the images of this process, in their order."""
        left = list(range(self.n_images)) if self._left is None else self._left
        if self.trainer is None or self.trainer.world_size == 1:
            return left
        work = self._work or [
            1 + (len(record.instances) or sum(len(ref.sentences) for ref in record.referents))
            for record in self.records
        ]
        # a store may have changed between the looks of two processes: the first one's is that of all
        work = self.trainer.strategy.broadcast(work)
        shares = share_out([work[index] for index in left], self.trainer.world_size)
        return [left[place] for place in shares[self.trainer.global_rank]]

    def expressions(self) -> list[str]:
        """Return every expression, scene by scene, without opening an image."""
        return [text for record in self.records for ref in record.referents for text in ref.sentences]

    def image_ids(self) -> list[int | str]:
        """Return the id of every image, scene by scene."""
        return [record.image_id for record in self.records]

    def image_sizes(self) -> dict[int | str, tuple[int, int]]:
        """Return height and width of every image in pixels, as annotated, by id."""
        return {record.image_id: (record.height, record.width) for record in self.records}

    def check_world_size(self, world_size: int) -> None:
        """Raise a `UserError` if there are fewer images than processes."""
        if self.n_images < world_size:
            raise UserError(
                f"{self.n_images} images cannot be spread over {world_size} processes; "
                f"use --trainer.devices={self.n_images} or fewer."
            )

    def setup(self, stage: str | None = None) -> None:
        """Open the annotations and find the images; called in every process, harmless when repeated.

        `UserError` if annotations or images are missing, a file name leads out of the image folder, or the
        generator of proposals cannot serve these images.
        """
        self._dataset = self._dataset or self._open()

    def _open(self) -> SceneDataset:
        reader = self.image_reader()
        if isinstance(self.proposals, ProposalGenerator):
            self.proposals.prepare(self.image_ids())
            self.proposals.check_sizes(self.image_sizes())
        return SceneDataset(self.records, reader, self.rule, self.proposals, self.subset_names)

    def image_reader(self) -> ImageReader:
        """Find the images, or raise a `UserError`; to be overridden where they lie in no folder."""
        names = [record.file_name for record in self.records]
        folder = find_image_folder(
            self.image_root, self.image_folders() if self.image_root is None else [], names
        )
        if missing := [name for name in names if not is_file(image_path(folder, name))]:
            first = ", ".join(f"{name:.200}" for name in missing[:3])
            what = f"{len(missing)} of {len(names)} images are not in '{folder}' (the first: {first})."
            if not self.allow_missing_images:
                fix = "Add them, or count their expressions as failed by data.allow_missing_images=true."
                raise UserError(f"{what} {fix}")
            rank_zero_only(log.warning)("%s Their expressions count as failed.", what)
        return functools.partial(read_from_folder, folder)

    def predict_dataloader(self) -> DataLoader[Scene]:
        """Return the loader: one `Scene` a step, in the order of the records, without what is left out.

        In a run of several processes it has the share of this one.
        """
        workers = usual_workers(self.trainer) if self.num_workers is None else self.num_workers
        method = "fork" if self.num_workers is None and workers else None
        return DataLoader(
            self.scenes,
            batch_size=None,
            sampler=Shard(self._own()),
            collate_fn=_identity,
            num_workers=workers,
            multiprocessing_context=method,
            worker_init_fn=LoaderWorker.of_this_process(method) if workers else None,
            pin_memory=self.pin_memory,
        )
