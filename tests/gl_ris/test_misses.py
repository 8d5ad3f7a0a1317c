"""Kinds of miss: by hand on small masks, and the sums of a run against a plain recount of pixels."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.evidence import with_facts, with_overlaps
from gl_ris.headroom import explain, told
from gl_ris.masks import encode_rle
from gl_ris.misses import Seen
from gl_ris.predictions import Prediction
from tests.toy_scenes import make_scene

LENGTH = 100


def strip(*ranges: tuple[int, int]) -> Tensor:
    """A mask on a line of 100 pixels."""
    mask = torch.zeros(1, LENGTH, dtype=torch.bool)
    for first, last in ranges:
        mask[0, first:last] = True
    return mask


def scene_of(objects: list[Tensor], categories: list[str | None], meant: Any, index: int = 0) -> Any:
    """A scene with one expression that means some of the objects."""
    empty = torch.zeros(1, LENGTH, dtype=torch.bool)
    target = torch.stack([empty, *(objects[n] for n in meant or ())]).any(dim=0)
    more = {"objects": torch.stack(objects), "categories": categories, "meant": [meant]}
    return make_scene(index, ["it"], targets=target[None], referents=torch.tensor([0]), **more)


def record_of(scene: Any, mask: Tensor | None, **changes: Any) -> Prediction:
    target = scene.targets[0]
    nothing = torch.zeros_like(target) if mask is None else mask
    intersection, union = int((nothing & target).sum()), int((nothing | target).sum())
    content: dict[str, Any] = {
        "image_id": scene.image_id,
        "ref_id": 1,
        "sent_id": 1,
        "expression": "it",
        "noun_phrase": None,
        "method": "M",
        "choice": None,
        "score": None,
        "iou": intersection / union if union else 0.0,
        "intersection": intersection,
        "union": union,
        "segmentation": None if mask is None else encode_rle(mask),
        "index": scene.index,
        "target": scene.meant[0],
    }
    return Prediction(**{**content, **changes})


TARGET, TWIN, OTHER = strip((0, 20)), strip((30, 50)), strip((60, 80))
FIXED = [TARGET, TWIN, OTHER]


@pytest.mark.parametrize(
    ("kind", "mask", "categories"),
    [
        ("hit", strip((0, 10)), ["dog", "dog", "cat"]),  # IoU 0.5 exactly
        ("part", strip((0, 9)), ["dog", "dog", "cat"]),
        ("part", strip((0, 9), (90, 92)), ["dog", "dog", "cat"]),  # precision 9/11
        ("part", strip((0, 8), (90, 92)), ["dog", "dog", "cat"]),  # 0.8 is not more, but most is on a larger
        ("too_large", strip((0, 17), (80, 98)), ["dog", "dog", "cat"]),  # recall 0.85, most is elsewhere
        ("too_large", strip((0, 25), (30, 50)), ["dog", "dog", "cat"]),  # IoU with the twin is 20/45
        ("same_category", strip((30, 50)), ["dog", "dog", "cat"]),
        ("other_category", strip((60, 80)), ["dog", "dog", "cat"]),
        ("other_object", strip((60, 80)), ["dog", "dog", None]),
        ("other_object", strip((60, 80)), [None, None, "cat"]),
        ("same_category", strip((0, 2), (30, 35)), ["dog", "dog", "cat"]),  # IoU too low with either
        ("background", strip((0, 2), (30, 32), (82, 99)), ["dog", "dog", "cat"]),
        ("abstained", strip(), ["dog", "dog", "cat"]),
    ],
)
def test_the_kind_of_a_drawn_mask(kind: str, mask: Tensor, categories: list[str | None]) -> None:
    scene = scene_of(FIXED, categories, (0,))
    (record,) = with_facts(with_overlaps([record_of(scene, mask)], scene, mask[None]), scene)
    assert record.image is not None
    assert Seen(record.image).kind(record) == kind


def test_an_object_that_lies_within_the_target_is_no_part_of_it() -> None:
    within, mask = strip((10, 30)), strip((10, 28))
    scene = scene_of([strip((0, 60)), within], ["person", "tie"], (0,))
    (record,) = with_facts(with_overlaps([record_of(scene, mask)], scene, mask[None]), scene)
    assert record.image is not None
    assert Seen(record.image).kind(record) == "other_category"


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("failed", {"failure": "score is not a number"}),
        ("no_proposal", {"failure": "no proposals"}),
        ("no_proposal", {"choice": 1}),
        ("abstained", {"abstained": True}),
        ("abstained", {"abstained": True, "failure": "no mask predicted"}),
    ],
)
def test_the_kind_where_there_are_proposals(kind: str, changes: dict[str, Any]) -> None:
    proposals = [strip((0, 9)), TWIN] if changes.get("choice") else [TARGET, TWIN]
    scene = scene_of(FIXED, ["dog", "dog", "cat"], (0,))
    mask = proposals[1] if "choice" in changes else None
    (record,) = with_facts([record_of(scene, mask, **changes)], scene, torch.stack(proposals))
    assert record.image is not None
    assert Seen(record.image).kind(record) == kind


def test_who_abstains_where_the_target_has_no_pixel_failed_by_the_annotation() -> None:
    scene = scene_of([strip(), TWIN], ["dog", "dog"], (0,))
    record = record_of(scene, None, abstained=True, failure="empty target")
    for proposals in (None, torch.stack([TWIN])):
        (told_of,) = with_facts([record], scene, proposals)
        assert told_of.image is not None
        assert Seen(told_of.image).kind(told_of) == "failed"


def test_several_objects_are_one_target_and_one_of_them_is_a_part() -> None:
    scene = scene_of([strip((0, 20)), strip((10, 40)), OTHER], ["dog", "dog", "cat"], (0, 1))
    (record,) = with_facts([record_of(scene, strip((0, 19)), choice=0)], scene, torch.stack([strip((0, 19))]))
    assert record.image is not None
    assert [one.area for one in record.image.united] == [40]  # and not 20 + 30
    assert Seen(record.image).exact(record) == (40, 40)
    assert Seen(record.image).best(record) == (19, 40)
    drawn = with_overlaps([record_of(scene, strip((0, 19)))], scene, strip((0, 19))[None])
    (record,) = with_facts(drawn, scene)
    assert record.image is not None
    assert Seen(record.image).kind(record) == "part"


def test_where_nothing_is_meant_nothing_is_right() -> None:
    scene = scene_of(FIXED, ["dog"] * 3, ())
    wrong = with_facts([record_of(scene, TWIN, choice=0)], scene, TWIN[None])
    right = record_of(scene, None, abstained=True, iou=1.0)
    errors, headroom = explain([*wrong, right])
    assert {kind: (one.count, one.oIoU_gain) for kind, one in errors["M"].items()} == {
        "nothing_meant": (1, None)
    }
    assert (headroom["M"].expressions, headroom["M"].hits, headroom["M"].now) == (2, 1, {})
    assert "1 were given a mask where nothing is meant" in told(errors, headroom)


def _random_run(seed: int, drawn: bool) -> tuple[list[Prediction], list[tuple[Any, list[Tensor], Tensor]]]:
    chance = random.Random(seed)

    def mask(longest: int = 40) -> Tensor:
        first = chance.randrange(LENGTH - longest)
        return strip((first, first + chance.randrange(1, longest)))

    records, kept = [], []
    for index in range(40):
        objects = [mask() for _ in range(4)]
        meant = (0, 1) if chance.random() < 0.2 else (0,)
        scene = scene_of(objects, ["a", "a", "b", None], meant, index)
        proposals = [mask() for _ in range(5)] + objects[: chance.randrange(4)]
        choice = chance.randrange(len(proposals))
        record = record_of(scene, proposals[choice], choice=None if drawn else choice)
        own = with_overlaps([record], scene, proposals[choice][None])
        records += with_facts(own, scene, None if drawn else Bits(torch.stack(proposals)))
        kept.append((scene, [] if drawn else proposals, proposals[choice]))
    return records, kept


def _figures(pairs: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """OIoU and mIoU of masks and targets, by counting pixels of each."""
    areas = [(int((one & other).sum()), int((one | other).sum())) for one, other in pairs]
    overall = 100 * sum(i for i, _ in areas) / sum(u for _, u in areas)
    return overall, 100 * sum(i / u for i, u in areas) / len(areas)


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_gains_are_those_of_measuring_mended_masks(seed: int, drawn: bool) -> None:
    records, kept = _random_run(seed, drawn)
    errors, headroom = explain(records)
    room = headroom["M"]
    seen = [Seen(record.image).kind(record) for record in records if record.image]
    assert sum(one.count for one in errors["M"].values()) + room.hits == len(records) == room.expressions
    assert sum(one.share for one in errors["M"].values()) == pytest.approx(
        100 - 100 * room.hits / len(records)
    )
    mended = []
    for scene, proposals, mask in kept:
        target = scene.targets[0]
        ious = [int((one & target).sum()) / int((one | target).sum()) for one in proposals]
        best = proposals[ious.index(max(ious))] if proposals else target
        mended.append((mask, target, best, max(ious, default=1.0) < 0.5))
    now = _figures([(mask, target) for mask, target, _, _ in mended])
    assert (room.now["oIoU"], room.now["mIoU"]) == pytest.approx(now)
    for kind, one in errors["M"].items():
        pairs = [
            (mask if found != kind else target if none else best, target)
            for found, (mask, target, best, none) in zip(seen, mended, strict=True)
        ]
        assert (one.oIoU_gain, one.mIoU_gain) == pytest.approx(
            tuple(then - before for then, before in zip(_figures(pairs), now, strict=True)), abs=1e-6
        )
    hit = [found == "hit" for found in seen]
    ranked = [(m if drawn and right else b, t) for right, (m, t, b, _) in zip(hit, mended, strict=True)]
    exact = [(t if right or none else m, t) for right, (m, t, _, none) in zip(hit, mended, strict=True)]
    assert (room.ranking["oIoU"], room.ranking["mIoU"]) == pytest.approx(_figures(ranked))
    assert (room.masks["oIoU"], room.masks["mIoU"]) == pytest.approx(_figures(exact))


def test_records_of_before_are_not_explained() -> None:
    scene = scene_of(FIXED, ["dog"] * 3, (0,))
    assert explain([record_of(scene, TARGET)]) == ({}, {})
    assert told({}, {}) == ""


def test_one_method_is_told_in_three_lines_and_several_in_a_table() -> None:
    records, _ = _random_run(0, drawn=False)
    lines = told(*explain(records)).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("Misses       Of 40 expressions ")
    assert "same category;" in lines[0]
    assert "oIoU would be" in lines[1]
    both = [one for record in records for one in (record, replace(record, method="N", image=None))]
    rows = told(*explain(both)).splitlines()
    assert [row.split()[0] for row in rows] == ["Misses,", "M", "N"]
    assert rows[1].split()[1:] == rows[2].split()[1:]
