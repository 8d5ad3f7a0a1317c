"""What is known of an image before it is opened: compact, and turned into masks only when asked."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from gl_ris.errors import in_short
from gl_ris.masks import decode_rle, polygons_to_mask, require_modest
from gl_ris.pictures import read_mask

# How the polygons of one instance become one mask. ``union``: every pixel inside any of them (COCO's rule).
# ``sum_equals_one``: pixels inside exactly one of them, as in the published evaluation code. ``drawn``:
# PhraseCut's own rule, vertices cut down to integers and each polygon drawn with its outline.
MaskRule = Literal["union", "sum_equals_one", "drawn"]

Key = int | str


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One instance's outline as the file gives it: polygons, a run-length code, or neither."""

    # per polygon a float64 array ``(2 * points,)`` of x, y, x, y, ... in pixels
    polygons: tuple[np.ndarray, ...] = ()
    rle: dict[str, Any] | None = None  # a COCO run-length code (compressed or not), or None
    fault: str | None = None  # why there is no mask in it, or None
    json: msgspec.Raw | None = None  # the JSON of it, not yet read, in place of the others
    points: bool = False  # whether that JSON is of PhraseCut's form, see `from_points`
    # a picture of the mask, in place of all others; see `gl_ris.pictures.read_mask`
    file: Path | None = None
    # what tells it from others where it is made anew at each look; else it is itself
    place: tuple[Any, int] | None = field(default=None, compare=False)

    @property
    def key(self) -> Any:
        """What two outlines of a record share only if they are the same annotation's."""
        return self.place or id(self)

    @classmethod
    def from_json(cls, value: Any) -> Segmentation:
        """Take up a COCO ``segmentation``; what is wrong with it is kept as `fault`, never raised."""
        if isinstance(value, dict):
            return cls(rle={"size": value.get("size"), "counts": value.get("counts")})
        if not isinstance(value, list):
            return cls(fault=f"the segmentation is {type(value).__name__}, not polygons or a run-length code")
        try:  # numpy would take text for numbers; null stands where NaN was
            polygons = msgspec.convert(value, list[list[float | None]])
        except ValueError:
            return cls(fault="the segmentation holds something other than lists of numbers")
        return cls._from_polygons(tuple(np.array(p, np.float64) for p in polygons))

    @classmethod
    def from_points(cls, polygons: Any) -> Segmentation:
        """Take up PhraseCut's polygons: per polygon a list of ``[x, y]`` points."""
        if not isinstance(polygons, list):
            return cls(fault=f"the polygons of an instance are {type(polygons).__name__}, not a list")
        try:
            points = msgspec.convert(polygons, list[list[tuple[float | None, float | None]]])
        except ValueError:
            return cls(fault="a polygon is not a list of [x, y] points")
        return cls._from_polygons(tuple(np.array(polygon, np.float64).reshape(-1) for polygon in points))

    @classmethod
    def _from_polygons(cls, polygons: tuple[np.ndarray, ...]) -> Segmentation:
        if any(len(p) % 2 for p in polygons):
            return cls(fault="a polygon is not a flat list of an even count of numbers")
        if not all(np.isfinite(p).all() for p in polygons):
            return cls(fault="a polygon has a coordinate that is not finite")
        return cls(polygons=polygons)

    def opened(self) -> Segmentation:
        """Return the outline with its `json` read, if it has one."""
        if self.json is None:
            return self
        try:
            value = msgspec.json.decode(self.json)
        except (ValueError, RecursionError) as error:  # a number of no type, text that is not UTF-8
            return Segmentation(fault=f"the segmentation is damaged ({in_short(error)})")
        return Segmentation.from_points(value) if self.points else Segmentation.from_json(value)

    def mask(self, height: int, width: int, rule: MaskRule = "union") -> Tensor:
        """Return the mask, bool ``(height, width)``; polygons of no area give an empty one.

        `ValueError` if the annotation is faulty or was made for an image of another size.
        """
        if self.json is not None:
            return self.opened().mask(height, width, rule)
        if self.fault is not None:
            raise ValueError(self.fault)
        if self.file is not None:
            return read_mask(self.file, height, width)
        if self.rle is not None:
            return decode_rle(self.rle, size=(height, width))
        require_modest(self.polygons, height, width)
        if rule == "drawn":
            # PhraseCut's own code draws two points as a line, too.
            return _draw([p.tolist() for p in self.polygons if len(p) >= 4], height, width)
        polygons = [p.tolist() for p in self.polygons if len(p) >= 6]
        if not polygons:
            return torch.zeros(height, width, dtype=torch.bool)
        return polygons_to_mask(polygons, height, width, overlap=rule)


def _draw(polygons: list[list[float]], height: int, width: int) -> Tensor:
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (width, height), 0)
    for polygon in polygons:
        ImageDraw.Draw(canvas).polygon([math.trunc(c) for c in polygon], outline=1, fill=1)
    return torch.from_numpy(np.array(canvas, dtype=bool))


@dataclass(frozen=True, slots=True)
class Referent:
    """What one or more sentences refer to."""

    ref_id: Key  # the data set's own id of the ref (PhraseCut: of the task)
    segmentations: Collection[Segmentation]  # its instances; the target is their union
    sentences: tuple[str, ...]  # the expressions, as the file has them
    sent_ids: tuple[Key, ...]  # one id per sentence
    category: str | None = None  # name of the category, where the file gives one
    subsets: tuple[str, ...] = ()  # names of the data set's subsets that its expressions are in
    ann_id: Key | None = None  # id of the annotation that is meant, where the file gives one
    # the sentences as they were typed, before the data set cleaned them; empty where not known
    raw: tuple[str, ...] = ()
    # whether the data say what is meant; where they do not, there is nothing to measure by or to learn from
    targeted: bool = True
    absent: bool = False  # whether they say that nothing is: then it is not targeted, but can be measured

    def mask(self, height: int, width: int, rule: MaskRule) -> Tensor:
        """Return the target mask, bool ``(height, width)``; see `Segmentation.mask`."""
        target = torch.zeros(height, width, dtype=torch.bool)
        for segmentation in self.segmentations:
            target |= segmentation.mask(height, width, rule)
        return target


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a split with all that is asked about it."""

    image_id: Key  # the data set's own id
    file_name: str  # name of the image file inside the image folder
    height: int  # rows of pixels as annotated
    width: int  # columns of pixels as annotated
    referents: tuple[Referent, ...]  # what its expressions refer to, ordered by id
    # outlines of every instance of the image, where the data set knows more than is referred to; those that
    # are referred to have the key that they have among ``segmentations``
    objects: Collection[Segmentation] = ()
    categories: tuple[str | None, ...] = ()  # of each of them its name, where the file gives one
    # outlines of the instances that are to serve as proposals, if they are
    instances: Collection[Segmentation] = ()


def sort_key(key: Key) -> tuple[bool, int, str]:
    """Order ids: numbers by value, then strings by their characters."""
    return (True, 0, key) if isinstance(key, str) else (False, key, "")
