from __future__ import annotations

import pytest
import torch

from gl_ris.proposals.freesolo_network import (
    GRIDS,
    FreeSOLONetwork,
    keep_peaks,
    with_coordinates,
)
from gl_ris.weights import renamed


def test_a_cell_stays_where_no_neighbour_above_left_or_above_left_exceeds_it() -> None:
    given = torch.rand(1, 2, 9, 9)
    given[0, 0, 4, 4] = given[0, 0, 4, 5] = 0.99  # equals both stay
    wanted = torch.zeros_like(given)
    for label in range(2):
        for y in range(9):
            for x in range(9):
                window = [given[0, label, b, a] for b in (y - 1, y) for a in (x - 1, x) if a >= 0 and b >= 0]
                if given[0, label, y, x] == max(window):
                    wanted[0, label, y, x] = given[0, label, y, x]
    assert torch.equal(keep_peaks(given), wanted)
    assert 0 < (wanted > 0).float().mean() < 0.5


def test_coordinates_go_from_minus_one_to_one() -> None:
    got = with_coordinates(torch.zeros(1, 3, 2, 5))
    assert got.shape == (1, 5, 2, 5)
    assert got[0, 3].tolist() == [[-1, -0.5, 0, 0.5, 1]] * 2
    assert got[0, 4].tolist() == [[-1] * 5, [1] * 5]


@pytest.mark.parametrize("depth", [50, 101])
def test_names_and_shapes_are_the_published_ones(depth: int, shapes: dict[str, tuple[int, ...]]) -> None:
    blocks = {101: 23, 50: 6}[depth]  # of the fourth stage; the rest is the same
    dropped = tuple(f"backbone.bottom_up.res4.{block}." for block in range(blocks, 23))
    wanted = {name: shape for name, shape in shapes.items() if not name.startswith(("_iter", *dropped))}
    own = FreeSOLONetwork(depth).state_dict()
    assert {renamed(name, "freesolo"): tuple(tensor.shape) for name, tensor in own.items()} == wanted


@pytest.mark.parametrize(("height", "width"), [(32, 64), (96, 32)])
def test_predictions_fit_together(height: int, width: int) -> None:
    with torch.no_grad():
        predictions = FreeSOLONetwork(50).eval()(torch.randn(1, 3, height, width))
    cells = sum(grid * grid for grid in GRIDS)
    assert cells == 3872
    assert predictions.categories.shape == (cells, 2)
    assert 0 <= predictions.categories.min() <= predictions.categories.max() <= 1
    assert predictions.kernels.shape == (cells, 256)
    assert predictions.features.shape == (1, 256, height // 4, width // 4)
    counts = {8: 40**2 + 36**2, 16: 24**2, 32: 16**2 + 12**2}
    assert predictions.strides.tolist() == [stride for stride, count in counts.items() for _ in range(count)]
