"""Heat maps of a sweep: one picture for each number of masked blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gl_ris.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = ("oIoU", "mIoU")
Figures = Mapping[tuple[float, float], Mapping[str, float]]

_MOST_LABELS = 11
_EDGE = "black"


def draw_heat_map(
    path: Path | str,
    figures: Figures,
    default: tuple[float, float],
    title: str,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Draw oIoU and mIoU over alpha (to the right) and beta (upwards) side by side.

    Cells are drawn equally large, whatever the spacing of the values; on small grids each carries its value.

    Args:
        path: Of the PNG.
        figures: For every pair (alpha, beta) of a grid the figures in percent.
        default: The pair to mark, if it is on the grid.
        title: Above the picture.
        limits: For each figure the ends of its colours, so that several pictures compare; by default its own.
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11, 5.6), dpi=120, layout="constrained")
    picture.suptitle(title)
    panels: Any = picture.subplots(1, len(FIGURES))
    for panel, name in zip(panels, FIGURES, strict=True):
        image = _panel(panel, figures, name, default, (limits or limits_of([figures]))[name])
        picture.colorbar(image, ax=panel, label=f"{name} (%)", shrink=0.85)
    handles, labels = panels[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    with atomic_file(path) as file:
        picture.savefig(file, format="png")


def limits_of(maps: Sequence[Figures]) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest value of each figure over several maps."""
    values = {name: [row[name] for figures in maps for row in figures.values()] for name in FIGURES}
    return {name: (min(found), max(found)) for name, found in values.items()}


def _panel(
    panel: Axes, figures: Figures, name: str, default: tuple[float, float], limits: tuple[float, float]
) -> Any:
    alphas, betas = (sorted(set(values)) for values in zip(*figures, strict=True))
    grid = [[figures[alpha, beta][name] for alpha in alphas] for beta in betas]
    image = panel.imshow(grid, origin="lower", aspect="auto", cmap="viridis", vmin=limits[0], vmax=limits[1])
    panel.set_title(name)
    panel.set_xlabel("alpha (share of the global visual feature)")
    panel.set_ylabel("beta (share of the global text feature)")
    _label(panel.set_xticks, alphas)
    _label(panel.set_yticks, betas)
    if max(len(alphas), len(betas)) <= _MOST_LABELS:
        _write_values(panel, grid, sum(limits) / 2)
    if default in figures:
        # A white line with a dark rim, to be seen on any colour.
        place = alphas.index(default[0]), betas.index(default[1])
        _mark(panel, place, "s", markeredgewidth=4, label="default")
        _mark(panel, place, "s", markeredgewidth=1.5, markeredgecolor="white")
    best = max(figures, key=lambda pair: figures[pair][name])
    _mark(panel, (alphas.index(best[0]), betas.index(best[1])), "*", markerfacecolor="white", label="best")
    return image


def _label(set_ticks: Any, values: Sequence[float]) -> None:
    step = -(-len(values) // _MOST_LABELS)
    places = range(0, len(values), step)
    set_ticks(list(places), [f"{values[place]:.3g}" for place in places])


def _write_values(panel: Axes, grid: Sequence[Sequence[float]], middle: float) -> None:
    for y, row in enumerate(grid):
        for x, value in enumerate(row):
            # Below the middle of the cell, where a mark may be.
            colour = _EDGE if value > middle else "white"
            panel.text(x, y - 0.32, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)


def _mark(panel: Axes, place: tuple[int, int], marker: str, **style: Any) -> None:
    outline = {"markersize": 14, "markerfacecolor": "none", "markeredgecolor": _EDGE, "linestyle": "none"}
    panel.plot(*place, marker=marker, **{**outline, **style})
