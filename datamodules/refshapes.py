"""RefShapes: the benchmark that the project carries with it, drawn on first use.

Scenes of three to seven drawn objects on textured grounds, in the file formats of the real data sets and
read by their readers. Three registers speak of the same images, as RefCOCO, RefCOCO+ and RefCOCOg do:
``refshapes`` is short and may use absolute positions ("left red star"), ``refshapes+`` is short without
them ("dotted star"), ``refshapesg`` is long and relational ("the small star that is below a blue square").
Four more probe one thing each: ``refshapes-ordinal`` ("second star from the left"), ``refshapes-between``
("the star between the circle and the moon"), ``refshapes-size`` ("the star bigger than the moon"),
``refshapes-negation`` ("the star that is not next to a circle"). ``refshapes-gres`` is written in gRefCOCO's
format: it speaks of one object, of two ("the two red stars"), or of what is not there. A PhraseCut-style set
names things alone or in groups, with categories and fills that the registers never show.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base import RISDataModule
from datamodules.files import written_whole
from datamodules.grefcoco import GREFER, GRefCOCO
from datamodules.phrasecut import PhraseCut, Subsets
from datamodules.records import ImageRecord
from datamodules.refcoco import RefCOCO
from datamodules.shapes.world import UNSEEN_CATEGORIES, UNSEEN_FILLS
from gl_ris.drafts import sweep
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import cache_folder

VERSION = 3  # part of the cache folders' names: raised whenever images or expressions change
# Images per split. In testA all targets have curved outlines (circle, oval, semicircle, heart, moon, drop,
# flower), in testB straight ones, as RefCOCO's testA holds people and testB everything else.
SIZES = {"train": 3000, "val": 250, "testA": 150, "testB": 150}
PHRASE_SIZES = {"val": 100, "test": 250}  # images per split of the PhraseCut-style set
REGISTERS = ("refshapes", "refshapes+", "refshapesg")
# in files of their own, with a version of their own: the same images, of which other things are said
PROBES = ("refshapes-ordinal", "refshapes-between", "refshapes-size", "refshapes-negation")
PROBES_VERSION = 1
GRES = "refshapes-gres"  # in gRefCOCO's format, with files and a version of its own
GRES_VERSION = 1
_MADE = {
    **dict.fromkeys(REGISTERS, (f"v{VERSION}", "make_picture")),
    **dict.fromkeys(PROBES, (f"probes-v{VERSION}.{PROBES_VERSION}", "make_probes")),
    GRES: (f"gres-v{VERSION}.{GRES_VERSION}", "make_groups"),
}


# whoever meets a damaged cache is told that it can be made again
@contextmanager
def _advice(root: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        advice = f"Delete the folder '{root}' to have it drawn anew."
        if advice in str(error):
            raise
        raise UserError(f"{error} {advice}") from error


class _Drawn(RISDataModule):
    """A data set that is drawn into the cache folder when it is first asked for; it appears whole or not."""

    root: Path

    @abstractmethod
    def draw(self, folder: Path) -> None:
        """Draw the data set into an empty folder."""

    def require_files(self) -> None:
        """Ask for nothing: what is not there is drawn."""

    def prepare_data(self) -> None:
        """Draw the data set unless it is there; drafts of killed processes go."""
        sweep(self.root.parent)
        if not self.root.is_dir():
            with written_whole(self.root) as draft:
                self.draw(draft)

    def read_records(self, all_instances: bool) -> list[ImageRecord]:
        """Read the split, drawn first where that has not been done."""
        self.prepare_data()
        with _advice(self.root):
            return super().read_records(all_instances)  # type: ignore[safe-super]

    def setup(self, stage: str | None = None) -> None:
        """Read the annotations and find the images; called in every process, harmless when repeated."""
        _ = self.records  # read first: what a user's lists have wrong is no fault of the folder
        with _advice(self.root):
            super().setup(stage)


class RefShapes(_Drawn, RefCOCO):
    """RefShapes in one of its registers.

    Args:
        dataset: ``refshapes``, ``refshapes+`` or ``refshapesg``; or ``refshapes-ordinal``, ``-between``,
            ``-size`` or ``-negation``, of the images of which something of the kind can be said; or
            ``refshapes-gres``.
        split: ``train``, ``val``, ``testA`` or ``testB``.
        seed: Of the whole data set; results are comparable at the default only.
        options: Those of `RISDataModule`.
    """

    def __init__(
        self, dataset: str = "refshapesg", split: str = "val", seed: int = 0, **options: Any
    ) -> None:
        if dataset not in _MADE:
            raise unknown_name("register of RefShapes", dataset, _MADE)
        if split not in SIZES:
            raise unknown_name("split of RefShapes", split, SIZES)
        # the training images are many times more: whoever evaluates need not wait for them
        self.part = [name for name in SIZES if (name == "train") == (split == "train")]
        root = cache_folder() / f"refshapes-{_MADE[dataset][0]}-seed{seed}-{'-'.join(self.part)}"
        if dataset == GRES:
            self.form, self.subset_names = GREFER, GRefCOCO.subset_names
        super().__init__(
            root=root,
            dataset=dataset,
            split_by="shapes",
            split=split,
            image_root=root / "images",
            instances=None,
            crowds=False,
            overlap="union",
            allow_missing_images=False,
            **options,
        )
        self.seed = seed

    def draw(self, folder: Path) -> None:
        """Draw the three evaluation splits together, or the training split by itself."""
        from datamodules.shapes import scenes
        from datamodules.shapes.build import build_refer

        first = 1 if "train" in self.part else 1 + SIZES["train"]
        make = getattr(scenes, _MADE[self.dataset_name][1])
        build_refer(folder, {name: SIZES[name] for name in self.part}, self.seed, first, make, self.form)


class RefShapesPhrases(_Drawn, PhraseCut):
    """The PhraseCut-style set of RefShapes, with unseen categories and fills.

    Unseen is what the three registers never show, so that no method trained on their train split has met it.
    The small CLIPs have met it in captions, as CLIP has met nearly everything. Results are also given for the
    phrases about an unseen category (``unseen``) and for those that name an unseen fill (``unseen_fills``).

    Args:
        split: ``val``, ``miniv`` (the first tenth of val) or ``test``.
        seed: Of the whole data set; results are comparable at the default only.
        options: Those of `RISDataModule`.
    """

    dataset_name = "refshapes-phrasecut"
    partition = "shapes"
    subsets: ClassVar[Subsets] = {
        "unseen": lambda task: task.category in UNSEEN_CATEGORIES,
        "unseen_fills": lambda task: not set(UNSEEN_FILLS).isdisjoint(task.attributes),
    }

    def __init__(self, split: str = "test", seed: int = 0, **options: Any) -> None:
        if split not in (*PHRASE_SIZES, "miniv"):
            raise unknown_name("split of RefShapes phrases", split, (*PHRASE_SIZES, "miniv"))
        super().__init__(
            root=cache_folder() / f"refshapes-phrases-v{VERSION}-seed{seed}",
            split=split,
            image_root=None,
            allow_missing_images=False,
            **options,
        )
        self.seed = seed

    def draw(self, folder: Path) -> None:
        """Draw all splits."""
        from datamodules.shapes.build import build_phrasecut

        build_phrasecut(folder, PHRASE_SIZES, self.seed)
