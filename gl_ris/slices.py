"""Figures by kind of expression, target and image, from predictions alone.

A kind of slice that no record says anything about is left out, with the reason, and nothing is guessed. Every
miss counts, also on images that a recipe skips; what has no target is in no slice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from gl_ris.analysis import figure_names, image_sums, intervals, percent
from gl_ris.files import read_table
from gl_ris.predictions import AnnotatedObject, ImageFacts, Prediction, areas_of

_TABLE: Mapping[str, Any] = read_table(Path(__file__).parent / "assets" / "slices.yaml")
_WORD = re.compile(r"[^\W_]+(?:'\w+)?")
_THRESHOLD = 0.5
# fewer expressions or images than this are too few to read anything from
FEW_EXPRESSIONS, FEW_IMAGES = 30, 10
_SIDES = ("left", "right", "top", "bottom")
_UNKNOWN = "not known"  # of single expressions, such as those on a damaged target
_NO_PARSE = "no method has parsed the expressions"
_NO_OBJECTS = "the records do not say which objects are in the image and which are meant"
_NO_CATEGORY = "the data name no categories"

Percent = Annotated[float, Meta(ge=0, le=100)]
Image = ImageFacts | None  # what the first record of an image says of it


class Slice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The figures of a method on a slice, in percent."""

    n: int  # expressions
    n_images: int
    oIoU: Percent
    mIoU: Percent
    precision: Percent = msgspec.field(name=f"Pr@{_THRESHOLD}")
    intervals: dict[str, list[float]] = {}
    small: bool = False  # whether there are fewer than `FEW_EXPRESSIONS` or `FEW_IMAGES`


Slices = dict[str, dict[str, dict[str, Slice]]]
"""By method, kind of slice and its value."""


class Missing(Exception):
    """Why a record does not say to which slice it belongs."""


def _binned(name: str, number: float) -> str:
    return str(next(label for label, most in _TABLE[name].items() if number <= most))


def _parsed(record: Prediction) -> dict[str, Any]:
    if record.parsed is None:
        raise Missing(_NO_PARSE)
    return record.parsed


def _words(record: Prediction, image: Image) -> Sequence[str]:
    return [_binned("words in the expression", max(1, len(record.expression.split())))]


def _said(record: Prediction, image: Image) -> Sequence[str]:
    """Name the kinds of words: what the parse found, and what single words say."""
    parsed, words = _parsed(record), {word.lower() for word in _WORD.findall(record.expression)}
    most = " ".join(parsed.get("superlatives", ()))
    denied = any(relation.get("negated") for relation in parsed.get("relations", ()))
    found = {
        "place": parsed.get("places") or any(side in most for side in _SIDES),
        "relation": parsed.get("relations"),
        "ordinal": "ordinal" in parsed,
        "size": parsed.get("size") or "biggest" in most or "smallest" in most,
        "colour": words & {*_TABLE["colours"]},
        "negation": denied or words & {*_TABLE["negations"]} or any(word.endswith("n't") for word in words),
    }
    return [kind for kind, there in found.items() if there] or ["none of these"]


def _head(record: Prediction, image: Image) -> Sequence[str]:
    # a head that is all of the expression is what a parse also gives where it finds none
    whole = _parsed(record).get("head", "").split() == record.expression.split()
    return ["all of the expression, or none found" if whole else "a part of the expression"]


def _targets(record: Prediction, image: Image) -> tuple[ImageFacts, list[AnnotatedObject]]:
    if record.target is None or image is None:
        raise Missing(_NO_OBJECTS)
    return image, [image.objects[place] for place in record.target]


def _categories(record: Prediction, image: Image) -> tuple[ImageFacts, set[str]]:
    known, targets = _targets(record, image)
    names = {target.category for target in targets if target.category is not None}
    if any(target.category is None for target in targets):
        raise Missing(_NO_CATEGORY)
    return known, names


def _same_category(record: Prediction, image: Image) -> Sequence[str]:
    known, names = _categories(record, image)
    count = sum(one.category in names for one in known.objects)
    return [_binned("objects of its category", count)] if names else []


def _size(record: Prediction, image: Image) -> Sequence[str]:
    known, targets = _targets(record, image)
    # objects that are one target may overlap
    united = [one.area for one in known.united if one.objects == record.target]
    areas = united or [target.area for target in targets]
    return [_binned("size of the target", sum(areas))] if targets else []


def _people(record: Prediction, image: Image) -> Sequence[str]:
    names = {name.lower() for name in _categories(record, image)[1]}
    return ["other" if names.isdisjoint(_TABLE["people"]) else "people"] if names else []


def _proposals(record: Prediction, image: Image) -> Sequence[str]:
    if image is None:
        raise Missing("the records do not say how many proposals there are")
    return [_binned("proposals", len(image.areas))]


_KINDS: dict[str, Callable[[Prediction, Image], Sequence[str]]] = {
    "words in the expression": _words,
    "kinds of words": _said,
    "head": _head,
    "objects of its category": _same_category,
    "size of the target": _size,
    "people": _people,
    "proposals": _proposals,
}


class Slicing:
    """The slices of some records, in the order of a file of predictions.

    All methods must have the same expressions in the same order, as they have in a run.
    """

    def __init__(self, records: Iterable[Prediction]) -> None:
        self._ids: list[int | str] = []
        # by kind of slice, of each expression in which slices it is
        self.values: dict[str, list[Sequence[str]]] = {name: [] for name in _KINDS}
        self._areas: dict[str, tuple[list[int | None], list[int | None]]] = {}
        self._image: tuple[int | str | None, Image] = (None, None)
        self._missing: dict[str, str] = {}
        self.left_out: dict[str, str] = {}  # by name of a kind of slice, why `compute` has left it out
        for record in records:
            self._add(record)

    def _add(self, record: Prediction) -> None:
        first = next(iter(self._areas), record.method)
        for own, area in zip(self._areas.setdefault(record.method, ([], [])), areas_of(record), strict=True):
            own.append(area)
        if record.image_id != self._image[0]:
            self._image = record.image_id, record.image
        if record.method != first:
            return
        self._ids.append(record.image_id)
        for name, of in _KINDS.items():
            try:
                self.values[name].append(of(record, self._image[1]))
            except Missing as reason:
                self._missing[name] = str(reason)
                self.values[name].append([_UNKNOWN])

    def compute(self, sure: bool = True) -> Slices:
        """Return the figures of all slices, with intervals if they shall be ``sure``."""
        found: Slices = {method: {} for method in self._areas}
        for name, values in self.values.items():
            there = _in_order(name, {value for own in values for value in own})
            if len(there) < 2:
                alone = there[0] if there else "no target"
                self.left_out[name] = self._missing.get(name, f"it is '{alone}' for all")
                continue
            for value in there:
                for method, one in self._slice([value in own for own in values], sure):
                    found[method].setdefault(name, {})[value] = one
        return {method: own for method, own in found.items() if own}

    def _slice(self, members: Sequence[bool], sure: bool) -> Iterator[tuple[str, Slice]]:
        some = np.flatnonzero(members).tolist()
        areas = [([own[i] for i in some], [all_[i] for i in some]) for own, all_ in self._areas.values()]
        ids, sums = image_sums([self._ids[i] for i in some], areas, [_THRESHOLD])
        if not ids:
            return
        n, names = int(sums[:, 0, 3].sum()), figure_names([_THRESHOLD])
        figures, ends = (
            percent(sums.sum(axis=0)).tolist(),
            intervals(sums) if sure else [[]] * len(self._areas),
        )
        for method, (overall, mean, precision), pairs in zip(self._areas, figures, ends, strict=True):
            yield (
                method,
                Slice(
                    n=n,
                    n_images=len(ids),
                    oIoU=overall,
                    mIoU=mean,
                    precision=precision,
                    intervals={name: list(pair) for name, pair in zip(names, pairs, strict=False)},
                    small=n < FEW_EXPRESSIONS or len(ids) < FEW_IMAGES,
                ),
            )


def _in_order(name: str, values: Iterable[str]) -> list[str]:
    """Bring values into the order of their table; others as they come in the alphabet, kinds as listed."""
    order = [str(label) for label in _TABLE.get(name, ())] or [
        *("place", "relation", "ordinal", "size", "colour", "negation", "none of these")
    ]
    return sorted(values, key=lambda value: (order.index(value) if value in order else math.inf, value))
