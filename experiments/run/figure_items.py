"""Which expressions a figure shows: drawn at random, where methods disagree, or listed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gl_ris.errors import UserError, unknown_name
from gl_ris.predictions import Prediction
from gl_ris.scorers import available_scorers, load_scorer
from gl_ris.visualize import spread
from gl_ris.zero_shot import ZeroShotRIS

if TYPE_CHECKING:
    from datamodules.records import ImageRecord

RANDOM, DISAGREE, HEAT, ERRORS = "random", "disagree", "heat", "errors"
Key = tuple[int | str, int | str, int | str]  # an expression: its image, ref and sentence
Found = dict[Key, list[Prediction]]  # what the methods chose for each


@dataclass(frozen=True)
class Item:
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
    """Evaluates as `ZeroShotRIS` does, and chooses the expressions that are drawn.

    Args:
        name: What the files are called; figure=NAME sets it.
        shows: What the panels beside the target show: choices, the mask of each method, or heat, its map;
            errors are sheets of misses, one for each kind and method.
        items: Which expressions: random; disagree, where the methods choose different masks; or a list of
            sent_ids, each as REF_SENT where it repeats in the split. Unless they disagree, no other images
            are evaluated.
        n: How many of them (of misses, of each kind), of different images as far as there are enough.
        seed: What they are drawn with.
        width: Of the figure, in inches: 6.9 is both columns of a page, 3.3 one.
        run: The folder of a finished run, whose data and predictions are drawn; nothing is evaluated.
        options: Those of `ZeroShotRIS`.
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
        self.chosen: list[Key] = []  # the expressions, where they are known before anything is evaluated
        if name is None:
            raise UserError("There is nothing to draw; choose a figure: figure=5, 6, 7, heat or errors.")
        if n < 1 or not 2 <= width <= 40 or items == []:
            raise UserError(
                f"n={n} must be 1 or more, width={width} from 2 to 40, and items={items} not empty."
            )
        if shows == ERRORS and items != RANDOM:
            raise UserError(f"Of misses n of each kind are drawn at random; leave items={items} out.")
        if shows == HEAT and run is not None:
            raise UserError("Heat maps are not kept in a run; leave run= out, and they are computed.")
        dense = [name for name, scorer in available_scorers().items() if hasattr(scorer, "maps")]
        for variant in self.variants if shows == HEAT else ():
            if not hasattr(load_scorer(variant.method), "maps"):
                raise unknown_name("method with a heat map", variant.method, dense)

    def narrow(self, records: list[ImageRecord]) -> list[ImageRecord]:
        """Leave out the images that no chosen expression is about, if those are known without predictions."""
        if self.items == DISAGREE or self.shows == ERRORS:
            return records
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
        for name in self.items:
            if (count := len(by_name[str(name)])) != 1:
                there = "look for it in predictions.jsonl of a run, or raise limit"
                fix = "give REF_SENT" if count else there
                raise UserError(f"items: {count} expressions have the sent_id {name}; {fix}.")
        return [by_name[str(name)][0] for name in self.items]


def by_expression(records: Iterable[Prediction]) -> Found:
    """Group what the methods chose by what it was chosen for."""
    found = defaultdict[Key, list[Prediction]](list)
    for record in records:
        found[record.key].append(record)
    return dict(found)


def disagreeing(found: Found) -> Found:
    """Keep the expressions for which the methods chose different masks; no mask is none."""
    masks = {key: {str(one.segmentation) for one in own if one.segmentation} for key, own in found.items()}
    return {key: own for key, own in found.items() if len(masks[key]) > 1}
