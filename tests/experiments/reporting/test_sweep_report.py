from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.reporting import sweep_report
from gl_ris.sweep import Cell


def test_each_map_has_its_cells_by_alpha_and_beta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        sweep_report,
        "draw_heat_map",
        lambda path, cells, default, *_: drawn.update({path.name: (cells, default)}),
    )
    figures = {
        Cell(alpha, beta, k): {"oIoU": 10 * alpha + beta, "mIoU": float(k)}
        for k in (1, 3)
        for alpha in (0.2, 0.7)
        for beta in (0.0, 0.5, 1.0)
    }
    done: Any = SimpleNamespace(
        cells=list(figures),
        blocks=[1, 3],
        alpha=0.7,
        beta=0.5,
        evaluation=SimpleNamespace(methods={cell.title: row for cell, row in figures.items()}),
    )
    document = {"dataset": "toy", "split": "val", "proposals": "none", "config": {"model": {"clip": "tiny"}}}
    paths = sweep_report.draw_heat_maps(tmp_path, done, document)
    assert [path.name for path in paths] == list(drawn) == ["sweep_k1.png", "sweep_k3.png"]
    for k, (cells, default) in zip((1, 3), drawn.values(), strict=True):
        assert default == (0.7, 0.5)
        assert set(cells) == {(alpha, beta) for alpha in (0.2, 0.7) for beta in (0.0, 0.5, 1.0)}
        assert cells[0.7, 0.5] == {"oIoU": 7.5, "mIoU": k}
        assert cells[0.2, 1.0] == {"oIoU": 3.0, "mIoU": k}
