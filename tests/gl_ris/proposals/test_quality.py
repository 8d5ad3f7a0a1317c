"""The quality of proposals, against loops over sets of pixels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.run.proposal_jobs import labels
from gl_ris.proposals import Proposals
from gl_ris.proposals.quality import COCO_BOUNDS, THRESHOLDS, Quality, size_bounds

Image = tuple[Proposals, torch.Tensor, torch.Tensor]


def draw(seed: int) -> Image:
    """Up to five proposals and one to three objects on 4 x 5 pixels, with one to six expressions."""
    rng = torch.Generator().manual_seed(seed)
    count, objects, expressions = (
        int(torch.randint(low, high, (1,), generator=rng)) for low, high in ((0, 6), (1, 4), (1, 7))
    )
    targets = torch.rand(objects, 4, 5, generator=rng) > 0.5
    noise = torch.rand(count, 4, 5, generator=rng) > 0.85
    masks = targets[torch.randint(0, objects, (count,), generator=rng)] ^ noise
    scores = torch.randint(0, 3, (count,), generator=rng).float()
    return (
        Proposals.from_masks(masks, scores),
        targets,
        torch.randint(0, objects, (expressions,), generator=rng),
    )


def pixels(mask: torch.Tensor) -> set[int]:
    return set(mask.flatten().nonzero().flatten().tolist())


def iou(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


def oracle(images: list[Image]) -> dict[str, Any]:
    areas, curve = [], {threshold: [] for threshold in THRESHOLDS}
    for proposals, targets, referents in images:
        order = sorted(range(len(proposals)), key=lambda row: -proposals.scores[row].item())
        masks = [pixels(proposals.masks[row]) for row in order]
        for target in map(pixels, targets):
            for threshold, kept in curve.items():
                kept.append([any(iou(m, target) >= threshold for m in masks[: n + 1]) for n in range(6)])
        for referent in referents.tolist():
            target = pixels(targets[referent])
            best = max(masks, key=lambda mask, target=target: iou(mask, target), default=set())
            areas.append((len(best & target), len(best | target)))
    return {
        "oIoU": 100 * sum(i for i, _ in areas) / max(1, sum(u for _, u in areas)),
        "mIoU": 100 * sum(i / u if u else 0 for i, u in areas) / len(areas),
        "curve": {
            t: [100 * sum(column) / len(kept) for column in zip(*kept, strict=True)]
            for t, kept in curve.items()
        },
    }


def measured(images: list[Image]) -> Quality:
    quality = Quality()
    for image in images:
        quality.add(*image)
    return quality


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_figures_are_those_of_a_loop_over_pixels(seeds: list[int]) -> None:
    images = [draw(seed) for seed in seeds]
    quality, wanted = measured(images), oracle(images)
    assert quality.upper_bound() == pytest.approx({name: wanted[name] for name in ("oIoU", "mIoU")})
    most = max(len(proposals) for proposals, _, _ in images)
    for threshold in THRESHOLDS:
        assert quality.curve(threshold) == pytest.approx(wanted["curve"][threshold][:most])
        assert quality.recall(threshold) == pytest.approx(wanted["curve"][threshold][-1])


def test_recall_by_size_counts_objects_of_that_size_only() -> None:
    targets = torch.zeros(3, 6, 6, dtype=torch.bool)
    targets[0, 0, 0], targets[1, 0, 2:5], targets[2, 3:] = True, True, True
    quality = Quality()
    quality.add(Proposals.from_masks(targets[1:2]), targets, torch.tensor([0, 1, 2, 2]))
    found = [quality.recall(0.5, area) for area in ((0, 3), (3, 4), (4, 99), (0, 99))]
    assert found == pytest.approx([0, 100, 0, 100 / 3])
    assert math.isnan(quality.recall(0.5, (100, 200)))
    assert quality.upper_bound()["mIoU"] == 25


def test_qualities_of_several_processes_add_up_to_that_of_one() -> None:
    images = [draw(seed) for seed in range(7)]
    parts = [[measured(images[:3]), Quality()], [measured(images[3:]), Quality([], 1, 2)]]
    together, second = (sum(own, Quality()) for own in zip(*parts, strict=True))
    assert together == measured(images)
    assert (second.failed, second.missing) == (1, 2)


@pytest.mark.parametrize(
    ("areas", "bounds"),
    [
        ([500, 5_000, 50_000] * 20, COCO_BOUNDS),
        ([100, 200, 300, 400, 500, 600], (300, 500)),
        ([500] * 50 + [5_000] * 49 + [50_000], (500, 5_000)),
        ([], COCO_BOUNDS),
    ],
    ids=["photographs", "small-drawings", "one-large-in-a-hundred", "nothing"],
)
def test_sizes_are_cocos_where_each_class_has_objects(areas: list[int], bounds: tuple[int, int]) -> None:
    assert size_bounds(areas) == bounds


def test_generators_of_one_name_are_told_apart_by_what_differs() -> None:
    def manifest(name: str, weights: str | None = None, **settings: Any) -> dict[str, Any]:
        return {
            "generator": name,
            "version": 1,
            "weights": weights,
            "generator_class": "A",
            "settings": settings,
        }

    assert labels([manifest("a", x=0.5), manifest("b", x=0.5), manifest("b", x=2.0, y=1)]) == [
        "a",
        "b x=0.5 y=None",
        "b x=2 y=1",
    ]
    assert labels([manifest("a", "11"), manifest("a", "22")]) == ["a weights=11", "a weights=22"]
