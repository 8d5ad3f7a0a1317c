"""Where a curve crosses a level; the places worked out by hand."""

from __future__ import annotations

import pytest

from experiments.reporting.fewshot_report import Crossing, Point, find_crossing, sentence

PLACES = {"1": 1.0, "4": 4.0, "16": 16.0, "64": 64.0, "all": 40.0}


def curve(**values: float | None) -> list[Point]:
    return [Point(name, PLACES[name], value) for key, value in values.items() if (name := key.lstrip("k"))]


@pytest.mark.parametrize(
    ("points", "level", "expected"),
    [
        pytest.param([], 5.0, Crossing(), id="empty"),
        pytest.param(curve(k1=None), 5.0, Crossing(), id="nothing-measured"),
        pytest.param(curve(k1=3.0), 5.0, Crossing(start="below", last="1"), id="one-below"),
        pytest.param(curve(k1=5.0), 5.0, Crossing(start="above", last="1"), id="one-at-the-level"),
        pytest.param(
            # half-way between log 4 and log 16
            curve(k1=0.0, k4=40.0, k16=60.0),
            50.0,
            Crossing("below", "16", "4", "16", 8.0, (), 1),
            id="half-way",
        ),
        pytest.param(
            curve(k1=0.0, k4=30.0, k16=40.0),
            30.0,
            Crossing("below", "16", "1", "4", 4.0, (), 1),
            id="tie-at-a-point",
        ),
        pytest.param(
            curve(k1=0.0, k4=None, k16=40.0),
            20.0,
            Crossing("below", "16", "1", "16", 4.0, (), 1, ("4",)),
            id="missing-between",
        ),
        pytest.param(
            curve(k1=0.0, k4=40.0, k16=None),
            20.0,
            Crossing("below", "4", "1", "4", 2.0, (), 1),
            id="missing-at-the-end-is-not-between",
        ),
        pytest.param(
            curve(k1=0.0, k4=40.0, k16=10.0, k64=30.0),
            20.0,
            Crossing("below", "64", "1", "4", 2.0, ("16",), 2),
            id="twice-upwards",
        ),
        pytest.param(
            curve(k1=30.0, k4=10.0, k16=10.0, k64=30.0),
            20.0,
            Crossing("above", "64", "16", "64", 32.0, ("4",), 1),
            id="from-above",
        ),
        pytest.param(
            curve(k1=30.0, k4=10.0), 20.0, Crossing("above", "4", falls=("4",)), id="falls-and-stays"
        ),
        pytest.param(
            # all of the refs may be fewer of each class, on average, than the largest k asks for
            curve(k64=10.0, kall=30.0),
            20.0,
            Crossing("below", "all", "64", "all", None, (), 1),
            id="all-stands-before-the-largest-k",
        ),
        pytest.param(curve(k1=20.0, k4=20.0), 20.0, Crossing("above", "4"), id="level-throughout"),
    ],
)
def test_crossings(points: list[Point], level: float, expected: Crossing) -> None:
    found = find_crossing(points, level)
    assert found.place == (None if expected.place is None else pytest.approx(expected.place))
    assert found == Crossing(**{**vars(expected), "place": found.place})


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (curve(k1=None), "CRIS has no figure to compare with X (20.00)."),
        (curve(k4=30.0, k16=40.0), "CRIS is above X (20.00) at every k from 4."),
        (curve(k4=10.0, k16=None), "CRIS is below X (20.00) at k=4."),
        (curve(k64=20.0), "CRIS is above X (20.00) at k=64."),
        (curve(k4=10.0, k16=19.9), "CRIS stays below X (20.00) at every k up to 16."),
        (
            curve(k1=0.0, k4=40.0),
            "CRIS crosses X (20.00) between k=1 and k=4, at about k=2.0 (linear in log k between means).",
        ),
        (curve(k64=10.0, kall=30.0), "CRIS crosses X (20.00) between k=64 and k=all."),
        (curve(k1=30.0, k4=10.0), "CRIS is above X (20.00) at first, but below from k=4 on."),
        (
            curve(k1=0.0, k4=40.0, k16=10.0, k64=30.0),
            "CRIS crosses X (20.00) between k=1 and k=4, at about k=2.0 (linear in log k between means); it "
            "falls below at k=16.",
        ),
        (
            curve(k1=30.0, k4=10.0, k16=30.0),
            "CRIS crosses X (20.00) between k=4 and k=16, at about k=8.0 (linear in log k between means); it "
            "falls below at k=4.",
        ),
        (
            curve(k1=0.0, k4=None, k16=10.0),
            "CRIS stays below X (20.00) at every k up to 16. Not measured: k=4.",
        ),
    ],
)
def test_sentences(points: list[Point], said: str) -> None:
    assert sentence("CRIS", "X (20.00)", points[0].name, find_crossing(points, 20.0)) == said
