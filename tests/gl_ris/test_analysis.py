"""Intervals against plain loops over resamples, and against scipy's bootstrap."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gl_ris import analysis
from gl_ris.analysis import bootstrap, differences, half

DRAWS = 400
Sample = tuple[Any, int, int]


def samples(seed: int = 1, images: int = 9, expressions: int = 40) -> list[Sample]:
    """Image, intersection and union of expressions, in no order; some unions are empty."""
    rng = np.random.default_rng(seed)
    unions = rng.integers(0, 50, expressions) * rng.integers(0, 2, expressions)
    found = []
    for union in unions.tolist():
        found.append((int(rng.integers(3, 3 + images)), int(rng.integers(0, union + 1)), union))
    return found


def columns(found: list[Sample]) -> tuple[list[Any], list[int], list[int]]:
    ids, intersections, unions = map(list, zip(*found, strict=True))
    return ids, intersections, unions


def oiou(found: list[Sample]) -> float:
    union = sum(union for _, _, union in found)
    return 100 * sum(shared for _, shared, _ in found) / union if union else 0.0


def miou(found: list[Sample]) -> float:
    return 100 * sum(shared / union if union else 0 for _, shared, union in found) / len(found)


def precision(found: list[Sample]) -> float:
    return 100 * sum(bool(union) and 10 * shared >= 3 * union for _, shared, union in found) / len(found)


FIGURES: dict[str, Callable[[list[Sample]], float]] = {"oIoU": oiou, "mIoU": miou, "Pr@0.3": precision}


def looped(ids: list[Any], seed: int, value: Callable[[list[Any]], float]) -> list[float]:
    """The values of every draw: of ``ids`` in ascending order, those that were drawn."""
    drawn = np.random.default_rng(seed).integers(0, len(ids), (DRAWS, len(ids)))
    return [value([ids[place] for place in row]) for row in drawn]


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("at_once", [1, 50, 1 << 21])
def test_intervals_are_those_of_a_plain_loop(
    seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis, "_AT_ONCE", at_once)  # some draws at a time, or all
    found = samples()
    ids = sorted({one for one, _, _ in found})
    sure = bootstrap(*columns(found), DRAWS, seed, thresholds=[0.3])
    assert list(sure) == list(FIGURES)
    for name, figure in FIGURES.items():

        def of(drawn: list[Any], figure: Callable[[list[Sample]], float] = figure) -> float:
            return figure([sample for one in drawn for sample in found if sample[0] == one])

        ordered = np.sort(looped(ids, seed, of))
        # between the 9.975th and the 389.025th of 400, counted from 0
        low = ordered[9] + 0.975 * (ordered[10] - ordered[9])
        high = ordered[389] + 0.025 * (ordered[390] - ordered[389])
        assert sure[name] == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_paired_differences_take_the_same_images_for_both() -> None:
    first, second = samples(), samples(2)
    second = [(image, i, u) for (image, _, _), (_, i, u) in zip(first, second, strict=True)]
    ids = sorted({one for one, _, _ in first})

    def of(drawn: list[Any]) -> float:
        one, other = ([s for i in drawn for s in found if s[0] == i] for found in (first, second))
        return oiou(other) - oiou(one)

    low, high = np.quantile(looped(ids, 0, of), [0.025, 0.975])
    image_ids, *one = columns(first)
    _, *other = columns(second)
    found = differences(image_ids, (one[0], one[1]), (other[0], other[1]), DRAWS)
    assert list(found) == ["oIoU", "mIoU"]
    assert found["oIoU"] == (pytest.approx(low), pytest.approx(high))
    same = differences(image_ids, (one[0], one[1]), (one[0], one[1]), DRAWS, thresholds=[0.3])
    assert same == dict.fromkeys(FIGURES, (0.0, 0.0))


def test_the_mean_over_images_of_one_expression_has_the_interval_of_scipy() -> None:
    rng = np.random.default_rng(4)
    shared = rng.integers(0, 101, 60)
    sure = bootstrap(range(60), shared.tolist(), [100] * 60)["mIoU"]
    theirs = stats.bootstrap(
        (shared,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(9)
    ).confidence_interval
    # other draws: the ends differ by the noise of 5,000
    assert sure == (pytest.approx(theirs.low, abs=0.6), pytest.approx(theirs.high, abs=0.6))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param([(5, 1, 4), (5, 3, 4)], {"oIoU": (50, 50), "mIoU": (50, 50)}, id="one-image"),
        pytest.param([(5, 0, 0)], {"oIoU": (0, 0), "mIoU": (0, 0)}, id="empty-union"),
        pytest.param([(5, 1, 4), ("no", None, None)], {"oIoU": (25, 25), "mIoU": (25, 25)}, id="no-target"),
    ],
)
def test_few_expressions(found: list[Any], expected: dict[str, Any]) -> None:
    assert bootstrap(*columns(found), DRAWS) == expected


@pytest.mark.parametrize("found", [[], [(5, None, None)]])
def test_without_an_expression_there_is_no_number(found: list[Any]) -> None:
    ids, intersections, unions = columns(found) if found else ([], [], [])
    assert all(math.isnan(end) for ends in bootstrap(ids, intersections, unions).values() for end in ends)


def test_whole_numbers_come_before_texts_in_any_order_of_lines() -> None:
    found: list[Any] = [("10", 1, 9), (10, 4, 9), (9, 8, 9), ("9", 0, 7)]
    numbered = [(place, i, u) for place, (_, i, u) in enumerate([found[2], found[1], found[0], found[3]])]
    expected = bootstrap(*columns(numbered), DRAWS)
    assert bootstrap(*columns(found), DRAWS) == bootstrap(*columns(found[::-1]), DRAWS) == expected


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        bootstrap([1, 2], [1], [1, 1])


def test_halves_are_written_behind_figures() -> None:
    assert [half((10.0, 12.5)), half((3.0, 3.0)), half(None)] == [" ±1.2", " ±0.0", ""]


def test_no_torch_is_needed() -> None:
    code = "import sys, gl_ris.analysis, gl_ris.predictions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
