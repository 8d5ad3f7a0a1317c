"""The rules by which a figure chooses its expressions, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from experiments.run.figure_items import Figures, Item, by_expression, disagreeing
from gl_ris.errors import UserError
from gl_ris.predictions import Prediction

ITEMS = [Item(image, f"i{image}", ref, sent) for image in range(6) for ref in (7, 8) for sent in (1, 2)]
BLANK = Prediction(
    **{"image_id": 1, "ref_id": 1, "sent_id": 1, "expression": "x", "noun_phrase": None, "method": ""},
    **{"choice": None, "score": None, "iou": 0.0, "intersection": 0, "union": 1, "segmentation": None},
)


def figures(**options: Any) -> Figures:
    return Figures(**{"name": "figure5", "clip": "refshapes-rn", **options})


@pytest.mark.parametrize(("n", "images"), [(3, 3), (6, 6), (9, 6), (100, 6)])
def test_random_items_are_of_different_images_by_the_seed(n: int, images: int) -> None:
    found = figures(n=n).choose(ITEMS)
    assert len(set(found)) == len(found) == min(n, 24)
    assert len({item.index for item in found}) == images
    assert [item.index for item in found] == sorted(item.index for item in found)
    assert found == figures(n=n).choose(ITEMS)
    assert n == 100 or found != figures(n=n, seed=1).choose(ITEMS)


def test_listed_items_come_in_the_order_of_the_list() -> None:
    own = [Item(0, "a", 1, 10), Item(1, "b", 2, 11), Item(1, "b", 2, "x_3")]
    assert figures(items=["x_3", 10]).choose(own) == [own[2], own[0]]
    double = [*own, Item(2, "c", 3, 10)]
    assert figures(items=["3_10"]).choose(double) == [double[3]]
    with pytest.raises(UserError, match="2 expressions have the sent_id 10; give REF_SENT"):
        figures(items=[10]).choose(double)
    with pytest.raises(UserError, match="0 expressions have the sent_id 99"):
        figures(items=[10, 99]).choose(own)


def test_methods_disagree_by_their_masks() -> None:
    one, two = {"size": [2, 2], "counts": "04"}, {"size": [2, 2], "counts": "13"}
    chosen: dict[int, list[Any]] = {
        1: [one, two],
        2: [one, one],
        3: [one, None],
        4: [None, None],
        5: [two, one],
    }
    records = [
        replace(BLANK, sent_id=sent, method=f"M{place}", segmentation=mask, choice=place)
        for sent, masks in chosen.items()
        for place, mask in enumerate(masks)
    ]
    found = by_expression(records)
    assert [key[2] for key in found] == [1, 2, 3, 4, 5]
    assert [[record.method for record in own] for own in found.values()] == [["M0", "M1"]] * 5
    assert list(disagreeing(found)) == [(1, 1, 1), (1, 1, 5)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": None}, "choose a figure: figure=5, 6, 7"),
        ({"n": 0}, "n=0 must be 1 or more"),
        ({"width": 0.5}, r"width=0\.5 from 2 to 40"),
        ({"items": []}, r"items=\[\] not empty"),
        ({"shows": "errors", "items": [1]}, r"leave items=\[1\] out"),
        ({"shows": "heat"}, "Unknown method with a heat map 'global_local'.*grad_cam, heat_files, heat_map"),
        ({"shows": "heat", "methods": "grad_cam", "run": "r"}, "Heat maps are not kept in a run"),
        ({"methods": "nope"}, "Unknown method 'nope'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        figures(**options)
