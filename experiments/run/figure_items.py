"""Which expressions a figure shows: drawn at random, where methods disagree, or listed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gl_ris.errors import UserError, unknown_name
from gl_ris.predictions import Prediction, key_of
from gl_ris.scorers import available_scorers, load_scorer
from gl_ris.visualize import spread
from gl_ris.zero_shot import ZeroShotRIS

if TYPE_CHECKING:
    from datamodules.records import ImageRecord

RANDOM, DISAGREE = "random", "disagree"
CHOICES, HEAT, ERRORS = "choices", "heat", "errors"
Key = tuple[int | str, int | str, int | str]  # an expression: its image, ref and sentence
Found = dict[Key, list[Prediction]]  # what the methods chose for each


class Item(NamedTuple):
    """An expression, and where its image is in the split."""

    index: int
    image_id: int | str
    ref_id: int | str
    sent_id: int | str

    @property
    def key(self) -> Key:
        """What finds it again where images were left out."""
        return self.image_id, self.ref_id, self.sent_id


class Figures(ZeroShotRIS):
    """Evaluates as `ZeroShotRIS` does, and says which expressions are drawn.

    Args:
        name: What the files are called; figure=NAME sets it.
        shows: What the panels beside the target show: choices, the mask that each method chose; heat, its
            heat map; or errors, no further panels but a sheet for each kind of miss.
        items: Which expressions: random; disagree, where the methods choose different masks; or a list of
            sent_ids, each as REF_SENT where it repeats in the split. Unless they disagree, only the images
            that are drawn are evaluated.
        n: How many of them, of different images as far as there are enough; of misses, of each kind.
        seed: What they are drawn with.
        width: Of the figure, in inches: 6.9 is both columns of a page, 3.3 one.
        run: The folder of a finished run, whose data and predictions are drawn; nothing is evaluated.
        options: Those of `ZeroShotRIS`.

    Attributes:
        chosen: The expressions, once they are known.
    """

    def __init__(
        self,
        name: str | None = None,
        shows: Literal["choices", "heat", "errors"] = "choices",
        items: list[int | str] | Literal["random", "disagree"] = "random",
        n: int = 4,
        seed: int = 0,
        width: float = 6.9,
        run: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.name, self.shows, self.items, self.n, self.seed, self.width = name, shows, items, n, seed, width
        self.run = None if run is None else Path(run).expanduser()
        self.chosen: list[Key] = []
        self._check_options()

    def _check_options(self) -> None:
        if self.name is None:
            raise UserError("There is nothing to draw; choose a figure: figure=5, 6, 7, heat or errors.")
        if self.n < 1 or not 2 <= self.width <= 40:
            raise UserError(f"n={self.n} must be 1 or more, and width={self.width} from 2 to 40 inches.")
        if self.items == []:
            raise UserError("items=[] names no expression; give sent_ids, or items=random.")
        if self.items == DISAGREE and self.shows != ERRORS and self.run is None and len(self.methods) < 2:
            raise UserError("items=disagree needs two methods or more; with one, items=random.")
        if self.shows != HEAT:
            return
        if self.run is not None:
            raise UserError("Heat maps are not kept in a run; leave run out, and they are computed.")
        for variant in self.variants:
            if not hasattr(load_scorer(variant.method), "maps"):
                dense = [name for name, one in available_scorers().items() if hasattr(one, "maps")]
                raise unknown_name("method with a heat map", variant.method, dense)

    @property
    def chooses_first(self) -> bool:
        """Whether the expressions are known before anything is evaluated, so that only theirs need be."""
        return self.shows != ERRORS and self.items != DISAGREE and self.run is None

    def narrow(self, records: list[ImageRecord]) -> list[ImageRecord]:
        """Choose expressions of a split, and leave out the images without any."""
        items = [
            Item(index, record.image_id, referent.ref_id, sent_id)
            for index, record in enumerate(records)
            for referent in record.referents
            for sent_id in referent.sent_ids
        ]
        chosen = self.choose(items)
        self.chosen = [item.key for item in chosen]
        return [records[index] for index in sorted({item.index for item in chosen})]

    def choose(self, items: Sequence[Item]) -> list[Item]:
        """Choose among expressions by the rule; a `UserError` if a listed one is not there, or twice."""
        if isinstance(self.items, str):
            return sorted(spread(items, self.n, self.seed), key=lambda item: item.index)
        by_name = defaultdict[str, list[Item]](list)
        for item in items:
            by_name[str(item.sent_id)].append(item)
            by_name[f"{item.ref_id}_{item.sent_id}"].append(item)
        for name in map(str, self.items):
            if (count := len(by_name[name])) != 1:
                where = "is no sent_id of" if count == 0 else f"is the sent_id of {count} expressions of"
                fix = "the split and its limit" if count == 0 else "the split; give REF_SENT"
                raise UserError(f"items: {name} {where} {fix}.")
        return [by_name[str(name)][0] for name in self.items]


def by_expression(records: Iterable[Prediction]) -> Found:
    """Group what the methods chose by what it was chosen for."""
    found = defaultdict[Key, list[Prediction]](list)
    for record in records:
        found[key_of(record)[:3]].append(record)
    return dict(found)


def disagreeing(found: Found) -> Found:
    """Keep the expressions for which the methods chose different masks; no mask is none."""
    return {
        key: own
        for key, own in found.items()
        if len({str(record.segmentation) for record in own if record.segmentation is not None}) > 1
    }
