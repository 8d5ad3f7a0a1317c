"""What records keep of the masks of an image, so that misses can be explained from predictions alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from msgspec.structs import replace
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.predictions import AnnotatedObject, ImageFacts, Prediction, UnitedObjects


class Objects(NamedTuple):
    """All objects that a data set outlines in an image, with ``R`` refs."""

    masks: Tensor  # bool (M, H, W)
    categories: Sequence[str | None]  # of each, None where the data do not name it
    # for each ref the objects that are meant together, none where nothing is meant; None where not known
    meant: Sequence[tuple[int, ...] | None]


def objects_of(scene: Any) -> Objects | None:
    """Return the annotated objects of a scene; None where it does not know them."""
    masks = getattr(scene, "objects", None)
    return None if masks is None else Objects(masks, scene.categories, scene.meant)


def targets_of(scene: Any) -> list[tuple[int, ...] | None]:
    """Return for each expression of a scene the objects that are meant; None where that is not known."""
    found = objects_of(scene)
    if found is None:
        return [None] * len(scene.expressions)
    return [found.meant[row] for row in scene.referents.tolist()]


def _rows(table: Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, table.tolist()))


def with_facts(
    records: Sequence[Prediction], scene: Any, proposals: Tensor | Bits | None = None
) -> list[Prediction]:
    """Return the records of a scene, the first of which tells what its objects and proposals share.

    Proposals are bool ``(N, H, W)``, or none.
    """
    found = objects_of(scene)
    if found is None or not records:
        return [*records]
    masks, objects = Bits.of(found.masks[:0] if proposals is None else proposals), Bits(found.masks)
    several = sorted({meant for meant in found.meant if meant is not None and len(meant) > 1})
    unions = [found.masks[list(meant)].any(dim=0) for meant in several]
    united = Bits(torch.stack(unions) if unions else found.masks[:0])
    height, width = found.masks.shape[1:]
    facts = ImageFacts(
        size=(height, width),
        areas=tuple(masks.areas.tolist()),
        objects=tuple(map(AnnotatedObject, found.categories, objects.areas.tolist())),
        overlaps=_rows(masks.intersections(objects).T),
        united=tuple(
            map(UnitedObjects, several, united.areas.tolist(), _rows(masks.intersections(united).T))
        ),
    )
    return [replace(records[0], image=facts), *records[1:]]


def with_unions(
    records: Sequence[Prediction], chosen: Sequence[tuple[int, ...] | None], masks: Bits, scene: Any
) -> list[Prediction]:
    """Return records that tell what unions of proposals share with the objects; see `with_overlaps`."""
    united = torch.stack([masks.masks[list(rows or ())].any(dim=0) for rows in chosen])
    return with_overlaps(records, scene, united)


def with_overlaps(records: Sequence[Prediction], scene: Any, masks: Tensor) -> list[Prediction]:
    """Return records that tell what their masks, bool ``(E, H, W)``, share with the objects of a scene.

    For masks that are no proposals: drawn ones, those of other programs, unions of several. A record without
    a mask, and one with a choice that is a single proposal, stays as it is.
    """
    found = objects_of(scene)
    if found is None:
        return [*records]
    own = Bits(masks)
    shared, areas = _rows(own.intersections(Bits(found.masks))), own.areas.tolist()
    return [
        replace(record, overlaps=overlaps, area=area)
        if record.segmentation is not None and (record.choice is None or record.chosen is not None)
        else record
        for record, overlaps, area in zip(records, shared, areas, strict=True)
    ]
