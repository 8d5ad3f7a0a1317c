from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.reporting import plots
from experiments.reporting.plots import draw_heat_maps


def grid(
    alphas: list[float], betas: list[float], peak: tuple[float, float], k: int = 3
) -> dict[tuple[int, float, float], dict[str, float]]:
    return {
        (k, a, b): {"oIoU": 50 - abs(a - peak[0]) - abs(b - peak[1]), "mIoU": 10 * a}
        for a in alphas
        for b in betas
    }


@pytest.mark.parametrize(
    ("alphas", "betas"),
    [([0.0, 0.5, 1.0], [0.0, 1.0]), ([0.85], [0.5]), ([i / 20 for i in range(21)], [0.1, 0.2, 0.9])],
    ids=["small", "one-cell", "dense"],
)
def test_any_grid_can_be_drawn(alphas: list[float], betas: list[float], tmp_path: Path) -> None:
    draw_heat_maps(tmp_path, grid(alphas, betas, (0.5, 0.5)), (0.85, 0.5), "toy val")
    picture = np.asarray(Image.open(tmp_path / "sweep_k3.png").convert("RGB"))
    assert min(picture.shape[:2]) > 400
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert [path.name for path in tmp_path.iterdir()] == ["sweep_k3.png"]


def test_alpha_runs_to_the_right_and_beta_upwards(tmp_path: Path) -> None:
    """The brightest cell of the left panel is where the peak is."""
    alphas = betas = [i / 20 for i in range(21)]
    centres = {}
    for peak in ((0.1, 0.1), (0.9, 0.1), (0.1, 0.9)):
        draw_heat_maps(tmp_path, grid(alphas, betas, peak), (2.0, 2.0), "")
        picture = np.asarray(Image.open(tmp_path / "sweep_k3.png").convert("RGB")).astype(int)
        left = picture[:, : picture.shape[1] // 2 - 120]
        yellow = (left[..., 0] > 180) & (left[..., 1] > 200) & (left[..., 2] < 90)
        centres[peak] = np.argwhere(yellow).mean(axis=0)
    assert centres[0.9, 0.1][1] > centres[0.1, 0.1][1] + 50
    assert centres[0.1, 0.9][0] < centres[0.1, 0.1][0] - 50


def test_each_map_has_its_cells_and_the_colours_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    draw = plots._draw_map
    monkeypatch.setattr(plots, "_draw_map", lambda *given: drawn.append(given[1:]) or draw(*given))
    points = {**grid([0.0, 0.5], [0.5], (0.0, 0.5), 1), **grid([1.0], [0.5], (0.0, 0.5), 3)}
    draw_heat_maps(tmp_path, points, (0.5, 0.5), "toy val")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep_k1.png", "sweep_k3.png"]
    maps = [{(0.0, 0.5): points[1, 0.0, 0.5], (0.5, 0.5): points[1, 0.5, 0.5]}]
    maps.append({(1.0, 0.5): points[3, 1.0, 0.5]})
    limits = {"oIoU": (49.0, 50.0), "mIoU": (0.0, 10.0)}
    found = [(cells.to_dict(), cells.name, *more) for cells, *more in drawn]
    assert found == [
        ({pair: row[name] for pair, row in cells.items()}, name, (0.5, 0.5), limits[name])
        for cells in maps
        for name in limits
    ]
