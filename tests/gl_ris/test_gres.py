"""The figures of GRES against a plain loop, twenty samples by hand, and what is no flag."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gl_ris.metrics import GRES, MeanIoU, OverallIoU, PrecisionAtIoU

SIDE = 10


def _row(first: int, last: int) -> torch.Tensor:
    """A mask of one row's pixels, first to last."""
    mask = torch.zeros(2, SIDE, dtype=torch.bool)
    mask[0, first:last] = True
    return mask


# prediction, target, predicted empty: as (first, last) of a row of ten pixels
SAMPLES = [
    *[((0, 10), (0, 10), False), ((0, 9), (0, 10), False), ((0, 8), (0, 10), False)],  # 1, 0.9, 0.8
    *[((0, 7), (0, 10), False), ((0, 5), (0, 10), False), ((5, 10), (0, 5), False)],  # 0.7, 0.5, 0
    *[((0, 0), (0, 4), False), ((0, 4), (0, 4), False), ((2, 4), (0, 4), False)],  # nothing, 1, 0.5
    *[((0, 10), (0, 1), False), ((0, 10), (0, 10), True), ((0, 3), (0, 6), True)],  # 0.1, and two dropped
    *[((8, 10), (0, 6), True), ((0, 0), (0, 5), True)],  # dropped: U = 8, and U = 5
    *[((0, 7), (0, 0), True), ((0, 0), (0, 0), True), ((0, 10), (0, 0), True)],  # rightly none: no area
    *[((0, 7), (0, 0), False), ((0, 0), (0, 0), False), ((3, 10), (0, 0), False)],  # wrongly something
]


def _given(samples: list[tuple[tuple[int, int], tuple[int, int], bool]]) -> tuple[torch.Tensor, ...]:
    predictions, targets, flags = zip(*samples, strict=True)
    masks = [torch.stack([_row(*ends) for ends in part]) for part in (predictions, targets)]
    return masks[0], masks[1], torch.tensor(flags)


def test_twenty_samples_by_hand() -> None:
    assert len(SAMPLES) == 20
    metric = GRES()
    metric.update(*_given(SAMPLES))
    ious = 1 + 0.9 + 0.8 + 0.7 + 0.5 + 0 + 0 + 1 + 0.5 + 0.1
    intersection = 10 + 9 + 8 + 7 + 5 + 0 + 0 + 4 + 2 + 1
    targeted, dropped, wrong = 10 * 6 + 4 + 4 + 4 + 10, 10 + 6 + 8 + 5, 7 + 0 + 7
    assert metric.compute() == pytest.approx(
        {
            "gIoU": (ious + 3) / 20,
            "cIoU": intersection / (targeted + dropped + wrong),
            "N_acc": 3 / 6,
            "T_acc": 10 / 14,
            "Pr@0.7": 5 / 14,
            "Pr@0.8": 4 / 14,
            "Pr@0.9": 3 / 14,
        },
        abs=1e-9,
    )


def _loop(prediction: np.ndarray, target: np.ndarray, empty: np.ndarray) -> dict[str, float]:
    total_i, total_u, ious, hits, right, wrong = 0, 0, [], [], [], []
    for mask, truth, flag in zip(prediction, target, empty, strict=True):
        union = int((mask | truth).sum())
        if truth.any():
            shared = 0 if flag else int((mask & truth).sum())
            total_i, total_u = total_i + shared, total_u + union
            ious.append(shared / union)
            hits.append(shared / union)
            wrong.append(flag)
        else:
            total_u += 0 if flag else union
            ious.append(float(flag))
            right.append(flag)
    figures = {"gIoU": np.mean(ious), "cIoU": total_i / total_u}
    figures |= {"N_acc": np.mean(right), "T_acc": 1 - np.mean(wrong)} if right else {"N_acc": 0, "T_acc": 0}
    return figures | {f"Pr@{x}": np.mean([iou >= x for iou in hits]) for x in (0.7, 0.8, 0.9)}


@pytest.mark.parametrize("without", [0.0, 0.4])
def test_figures_are_those_of_a_plain_loop(without: float) -> None:
    rng = np.random.default_rng(3)
    target = rng.random((200, 6, 7)) < 0.5
    target[:, 0, 0] = True
    target[rng.random(200) < without] = False
    prediction = target ^ (rng.random(target.shape) < rng.random((200, 1, 1)) * 0.5)
    empty = rng.random(200) < 0.3
    metric, parts = GRES(), [torch.from_numpy(part) for part in (prediction, target, empty)]
    for start, end in ((0, 7), (7, 7), (7, 200)):
        metric.update(*(part[start:end] for part in parts))
    whole = GRES()
    whole.update(*(part.reshape(20, 10, *part.shape[1:]) for part in parts))
    assert metric.compute() == pytest.approx(_loop(prediction, target, empty), abs=1e-9)
    assert metric.compute() == whole.compute()


def test_where_every_sample_has_a_target_and_none_is_dropped_the_figures_have_two_names() -> None:
    prediction, target, _ = _given(SAMPLES[:10])
    metric, overall, mean, precision = GRES(), OverallIoU(), MeanIoU(), PrecisionAtIoU(0.8)
    metric.update(prediction, target, torch.zeros(10, dtype=torch.bool))
    for other in (overall, mean, precision):
        other.update(prediction, target)
    found = metric.compute()
    assert (found["gIoU"], found["cIoU"]) == (float(mean.compute()), float(overall.compute()))
    assert found["Pr@0.8"] == float(precision.compute())
    assert (found["N_acc"], found["T_acc"]) == (0, 0)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_samples_of_a_kind() -> None:
    assert all(math.isnan(GRES().compute()[name]) for name in ("gIoU", "Pr@0.7"))
    metric = GRES()
    metric.update(*_given(SAMPLES[14:17]))
    found = metric.compute()
    assert (found["gIoU"], found["cIoU"], found["N_acc"]) == (1, 0, 1)
    assert math.isnan(found["T_acc"])


@pytest.mark.parametrize("flags", [torch.zeros(1, dtype=torch.bool), torch.zeros(2), torch.zeros(2).long()])
def test_flags_must_be_bool_and_one_for_each_sample(flags: torch.Tensor) -> None:
    prediction, target, _ = _given(SAMPLES[:2])
    with pytest.raises(ValueError, match=r"predicted_empty must be bool \(2,\), got"):
        GRES().update(prediction, target, flags)
