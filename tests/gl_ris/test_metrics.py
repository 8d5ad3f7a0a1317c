"""The figures against a numpy loop, against torchmetrics' own, and what is no mask or area."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torchmetrics import Metric
from torchmetrics.classification import BinaryJaccardIndex
from torchmetrics.segmentation import MeanIoU as TorchMeanIoU

from gl_ris.metrics import (
    MeanIoU,
    OverallIoU,
    PrecisionAtIoU,
    RISMetrics,
    area_sums,
    mask_areas,
    sample_iou,
)

METRICS = [OverallIoU, MeanIoU, PrecisionAtIoU]


FIGURES = ["oIoU", "mIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9"]


def _pairs(count: int = 40, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ragged masks whose IoUs spread over [0, 1], some predictions empty."""
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(count):
        target = rng.random((rng.integers(3, 40), rng.integers(3, 40))) < 0.5
        target.flat[0] = True
        noise = rng.random(target.shape) < rng.random() * 0.7
        prediction = np.zeros_like(target) if i % 10 == 9 else target ^ noise
        pairs.append((torch.from_numpy(prediction), torch.from_numpy(target)))
    return pairs


def test_figures_match_a_numpy_loop_on_ragged_masks() -> None:
    metrics, total_i, total_u, ious = RISMetrics(), 0, 0, []
    for prediction, target in _pairs():
        metrics.update(prediction, target)
        i = int(np.logical_and(prediction.numpy(), target.numpy()).sum())
        u = int(np.logical_or(prediction.numpy(), target.numpy()).sum())
        total_i, total_u, ious = total_i + i, total_u + u, [*ious, i / u]
    expected = [total_i / total_u, np.mean(ious), *(np.mean(np.array(ious) >= x / 10) for x in range(5, 10))]
    figures = metrics.compute()
    assert list(figures) == FIGURES
    assert list(figures.values()) == pytest.approx([100 * value for value in expected], abs=1e-7)
    assert len(set(figures.values())) == len(FIGURES), "the example should tell the figures apart"
    assert metrics.count == 40


def test_figures_match_torchmetrics_on_ragged_masks() -> None:
    overall, mean, jaccard, torch_mean = (
        OverallIoU(),
        MeanIoU(),
        BinaryJaccardIndex(),
        TorchMeanIoU(num_classes=1),
    )
    for prediction, target in _pairs():
        overall.update(prediction, target)
        mean.update(prediction, target)
        jaccard.update(prediction, target)
        torch_mean.update(prediction[None, None], target[None, None])
    assert overall.compute().item() == pytest.approx(jaccard.compute().item(), abs=1e-6)
    assert mean.compute().item() == pytest.approx(torch_mean.compute().item(), abs=1e-6)


def test_mask_areas_keep_the_leading_dimensions() -> None:
    prediction, target = torch.rand(2, 3, 5, 7) < 0.5, torch.rand(2, 3, 5, 7) < 0.5
    intersection, union = mask_areas(prediction, target)
    assert intersection.dtype == union.dtype == torch.int64
    assert torch.equal(intersection[1, 2], (prediction[1, 2] & target[1, 2]).sum())
    assert torch.equal(union[1, 2], (prediction[1, 2] | target[1, 2]).sum())


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.55, 0.6, 0.7, 0.9, 1.0, 0.123456789])
def test_a_sample_on_the_threshold_is_a_hit_and_one_pixel_less_is_not(threshold: float) -> None:
    ratio = Fraction(str(threshold))
    scale = (2**31 - 1) // ratio.denominator
    on = torch.tensor([ratio.numerator, ratio.numerator * scale])
    union = torch.tensor([ratio.denominator, ratio.denominator * scale])
    assert area_sums(on, union, [threshold]).precision() == 1
    assert area_sums(on - 1, union, [threshold]).precision() == 0


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan"), float("inf"), 1 / 3, "half"])
def test_bad_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\].*nine decimals"):
        PrecisionAtIoU(threshold)


def test_mean_iou_is_as_precise_as_it_says_even_for_huge_masks() -> None:
    union = torch.tensor([3, 7, 2**31 - 1, 2**31 - 1, 1])
    intersection = torch.tensor([1, 6, 2**31 - 1, 2**31 - 2, 0])
    exact = sum(Fraction(int(i), int(u)) for i, u in zip(intersection, union, strict=True)) / 5
    assert abs(Fraction(area_sums(intersection, union).mean().item()) - exact) <= Fraction(1, 2**33)
    rounded_up = area_sums(torch.tensor([2]), torch.tensor([3])).mean().item()
    assert abs(Fraction(rounded_up) - Fraction(2, 3)) <= Fraction(1, 2**33)


def test_empty_cases() -> None:
    nothing, something = torch.zeros(1, 2, 2, dtype=torch.bool), torch.ones(1, 2, 2, dtype=torch.bool)
    both_empty = RISMetrics()
    both_empty.update(nothing, nothing)
    assert set(both_empty.compute().values()) == {0.0}
    both_empty.update(something, something)
    assert both_empty.compute() == {"oIoU": 100.0, **dict.fromkeys(FIGURES[1:], 50.0)}
    assert both_empty.count == 2
    missed = RISMetrics()
    missed.update(nothing, something)
    assert set(missed.compute().values()) == {0.0}
    assert sample_iou(torch.tensor([0, 3]), torch.tensor([0, 4])).tolist() == [0.0, 0.75]


def test_sums_give_nan_for_no_sample() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    sums = area_sums(none, none, [0.5])
    assert sums.overall().isnan()
    assert sums.mean().isnan()
    assert sums.precision().isnan()


def _mask(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.bool)


@pytest.mark.parametrize(
    ("prediction", "target", "error", "message"),
    [
        pytest.param(
            torch.zeros(2, 2), _mask(2, 2), TypeError, "prediction torch.float32", id="float-prediction"
        ),
        pytest.param(_mask(2, 2), torch.zeros(2, 2).long(), TypeError, "target torch.int64", id="int-target"),
        pytest.param(_mask(2, 2), _mask(2, 3), ValueError, r"\(2, 2\) and \(2, 3\)", id="sizes-differ"),
        pytest.param(_mask(1, 2, 2), _mask(2, 2), ValueError, r"one shape", id="no-broadcast"),
        pytest.param(_mask(4), _mask(4), ValueError, r"\(\.\.\., H, W\)", id="flat"),
    ],
)
@pytest.mark.parametrize("metric_class", [*METRICS, RISMetrics])
def test_bad_masks_are_refused(
    metric_class: type[Metric], prediction: torch.Tensor, target: torch.Tensor, error: type, message: str
) -> None:
    metric = metric_class()
    with pytest.raises(error, match=message):
        metric.update(prediction, target)


@pytest.mark.parametrize(
    ("intersection", "union", "error", "message"),
    [
        pytest.param(torch.tensor(1.0), torch.tensor(2), TypeError, "float32", id="float"),
        pytest.param(torch.tensor(True), torch.tensor(True), TypeError, "bool", id="bool"),
        pytest.param(torch.tensor([1]), torch.tensor([2, 2]), ValueError, "one shape", id="shapes-differ"),
        pytest.param(torch.tensor([3]), torch.tensor([2]), ValueError, "0 <= intersection", id="i-over-u"),
        pytest.param(torch.tensor([-1]), torch.tensor([2]), ValueError, "0 <= intersection", id="negative"),
        pytest.param(torch.tensor([1]), torch.tensor([2**31]), ValueError, "2\\*\\*31", id="too-large"),
    ],
)
def test_bad_areas_are_refused(
    intersection: torch.Tensor, union: torch.Tensor, error: type, message: str
) -> None:
    for refuse in (area_sums, sample_iou, RISMetrics().update_areas):
        with pytest.raises(error, match=message):
            refuse(intersection, union)
