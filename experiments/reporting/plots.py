"""The figures of experiments: quiet axes, colours that also differ in grey, no display needed."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.frame import FIGURES
from gl_ris.files import atomic_file

INK = "#333333"
ZERO_SHOT = "#222222"
# Of Okabe and Ito, which people with colour blindness can tell apart.
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")

Row = Mapping[str, Any]
_ASIDE = 1.04
_MOST_LABELS = 11


def panels(width: float, height: float, title: str, count: int = 1, **options: Any) -> tuple[Any, Any]:
    """Make a picture with panels beside each other; width and height in inches."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(width, height), dpi=140, layout="constrained")
    picture.suptitle(title, fontsize="medium")
    return picture, picture.subplots(1, count, **options)


def _quiet_panel(width: float, height: float, title: str) -> tuple[Any, Any]:
    picture, axes = panels(width, height, title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.set_ylabel("oIoU (%)")
    return picture, axes


def legend_below(picture: Any, axes: Any, columns: int) -> None:
    """Explain the lines of one panel, which are those of all, below the picture."""
    handles, labels = axes.get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def save(picture: Any, path: Path, **options: Any) -> None:
    """Write a picture in the format that its name ends with, complete or not at all."""
    with atomic_file(path) as file:
        picture.savefig(file, format=path.suffix.removeprefix("."), **options)


def axis_place(row: Row) -> float:
    """Return where a row stands on the axis of k: all refs at their mean number per class, NaN if unknown."""
    return float(row["k"]) if row["k"] != "all" else float(row["refs_per_class"] or math.nan)


def rounded(place: float) -> str:
    """Write a place on the axis of k, e.g. "2.0" or "17"."""
    return f"{place:.0f}" if place >= 9.95 else f"{place:.1f}"


def draw_curves(path: Path, few_shot: Row, title: str) -> None:
    """Draw Figure 4 right: oIoU against k with spreads and single seeds, zero-shot lines and crossings.

    ``few_shot`` is that part of the document of `experiments.reporting.fewshot_report`.
    """
    picture, axes = _quiet_panel(7.2, 4.8, title)

    axes.set_xscale("log")
    rows = few_shot["rows"]
    models = list(dict.fromkeys(row["model"] for row in rows))
    for index, model in enumerate(models):
        # Spreads stand beside each other, so that none hides another.
        aside = _ASIDE ** (2 * index - len(models) + 1)
        _draw_model(axes, model, [row for row in rows if row["model"] == model], index, aside)
    _draw_levels(axes, few_shot["zero_shot"])
    crossings = [crossing for crossing in few_shot["crossings"] if crossing["place"] is not None]
    for index, crossing in enumerate(crossings):
        _mark_crossing(axes, crossing, LINES[models.index(crossing["model"]) % len(LINES)], index)
    _label_ks(axes, rows)
    axes.legend(frameon=False, fontsize="small", loc="best")
    save(picture, path)


def _draw_model(axes: Any, model: str, rows: Sequence[Row], index: int, aside: float) -> None:
    colour, marker = LINES[index % len(LINES)], MARKERS[index % len(MARKERS)]
    drawn = [row for row in rows if row["oIoU"]["mean"] is not None and math.isfinite(axis_place(row))]
    counted, every = ([row for row in drawn if (row["k"] == "all") is is_all] for is_all in (False, True))
    seeds = {len(row["seeds"]) for row in rows}
    most = f"{'up to ' if len(seeds) > 1 else ''}{max(seeds)}"
    label = model if seeds == {1} else f"{model} (mean ± std, {most} seeds)"
    axes.plot(*_means(counted), color=colour, marker=marker, label=label)
    # All refs stand apart, since their mean per class is no k.
    if every:
        axes.plot(*_means([*counted[-1:], *every]), color=colour, linestyle=":")
        look: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markersize": 8}
        axes.plot(*_means(every), color=colour, marker=marker, **look)
    spread = [row for row in drawn if row["oIoU"]["std"] is not None]
    stds = [row["oIoU"]["std"] for row in spread]
    look = {"fmt": "none", "ecolor": colour, "capsize": 3, "elinewidth": 1.1, "alpha": 0.7}
    axes.errorbar(*_means(spread, aside), stds, **look)
    for row in spread:
        values = [value for value in row["oIoU"]["values"] if value is not None]
        places = [axis_place(row) * aside**2] * len(values)
        axes.scatter(places, values, color=colour, s=14, alpha=0.4, linewidths=0)


def _means(rows: Sequence[Row], aside: float = 1.0) -> tuple[list[float], list[float]]:
    return [axis_place(row) * aside for row in rows], [row["oIoU"]["mean"] for row in rows]


def _draw_levels(axes: Any, zero_shot: Mapping[str, Mapping[str, float | None]]) -> None:
    styles = ("--", "-.", (0, (1, 1)))
    for index, (method, figures) in enumerate(zero_shot.items()):
        level = figures["oIoU"]
        if level is not None:
            look: dict[str, Any] = {"color": ZERO_SHOT, "linestyle": styles[index % len(styles)]}
            axes.axhline(level, **look, label=f"{method} (zero-shot): {level:.2f}", zorder=1.8)


def _mark_crossing(axes: Any, crossing: Row, colour: str, index: int) -> None:
    place, level = crossing["place"], crossing["level"]
    axes.plot([place], [level], marker="o", markersize=11, color=colour, fillstyle="none", linestyle="none")
    # Labels stand below each other.
    offset: dict[str, Any] = {"xytext": (10, -16 - 12 * index), "textcoords": "offset points"}
    axes.annotate(f"k ≈ {rounded(place)}", (place, level), **offset, color=colour, fontsize="small")


def _label_ks(axes: Any, rows: Sequence[Row]) -> None:
    """Label the places that were measured, and nothing between them."""
    from matplotlib.ticker import NullLocator

    ks = {axis_place(row): str(row["k"]) for row in rows if row["k"] != "all"}
    axes.set_xticks(list(ks), list(ks.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    every = next((axis_place(row) for row in rows if row["k"] == "all"), math.nan)
    if math.isfinite(every):
        axes.axvline(every, color=INK, linewidth=0.6, alpha=0.4, linestyle=":")
        beside: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        look: dict[str, Any] = {"fontsize": "x-small", "ha": "right", "va": "bottom"}
        axes.annotate(f"all\n(mean {every:,.0f}\nper class)", (every, 0.02), (-4, 0), **beside, **look)
    axes.set_xlabel("k, refs of each class to learn from")
    axes.margins(x=0.06, y=0.1)


def draw_bars(path: Path, bars: Mapping[str, Mapping[str, float | None]], title: str) -> None:
    """Draw Figure 4 left: for each method its bars by label, in percent; None leaves a gap."""
    from pandas import DataFrame

    picture, axes = _quiet_panel(6.4, 4.4, title)
    values = DataFrame(bars, dtype=float).T
    values.fillna(0.0).plot.bar(ax=axes, width=0.8, rot=0, color=LINES, edgecolor="white")
    axes.grid(visible=True, axis="y", alpha=0.25)
    for container, label in zip(axes.containers, values, strict=True):
        texts = ["-" if value != value else f"{value:.1f}" for value in values[label]]
        axes.bar_label(container, texts, padding=2, fontsize="small")
    axes.tick_params(axis="x", length=0)
    axes.margins(y=0.12)
    axes.legend(frameon=False, ncols=len(values.columns), loc="upper right", fontsize="small")
    save(picture, path)


def draw_heat_maps(
    folder: Path, points: Mapping[tuple[int, float, float], Row], default: tuple[float, float], title: str
) -> None:
    """Draw for each k, of (k, alpha, beta), ``sweep_k{k}.png``: figures in percent, colours the same.

    Alpha runs to the right, beta upwards. ``default`` is the pair to mark.
    """
    from pandas import DataFrame

    every = DataFrame(points).T.astype(float)
    for k in every.index.unique(0):
        picture, both = panels(11, 5.6, f"{title}, k = {k}", len(FIGURES))
        for panel, name in zip(both, FIGURES, strict=True):
            limits = every[name].min(), every[name].max()
            image = _draw_map(panel, every.loc[k][name], default, limits)
            picture.colorbar(image, ax=panel, label=f"{name} (%)", shrink=0.85)
        legend_below(picture, both[0], 2)
        save(picture, folder / f"sweep_k{k}.png")


def _draw_map(panel: Any, cells: Any, default: tuple[float, float], limits: tuple[float, float]) -> Any:
    """Draw a figure, a series by alpha and beta, as cells equally large, whatever the spacing of values."""
    grid = cells.unstack(0)
    betas, alphas = list(grid.index), list(grid.columns)
    image = panel.imshow(grid, origin="lower", aspect="auto", cmap="viridis", vmin=limits[0], vmax=limits[1])
    panel.set_title(cells.name)
    panel.set_xlabel("alpha (share of the global visual feature)")
    panel.set_ylabel("beta (share of the global text feature)")
    for set_ticks, values in ((panel.set_xticks, alphas), (panel.set_yticks, betas)):
        ticks = range(0, len(values), -(-len(values) // _MOST_LABELS))
        set_ticks(list(ticks), [f"{values[tick]:.3g}" for tick in ticks])
    if max(grid.shape) <= _MOST_LABELS:
        for (alpha, beta), value in cells.items():
            # Below the middle of the cell, where a mark may be.
            place = alphas.index(alpha), betas.index(beta) - 0.32
            colour = "black" if value > sum(limits) / 2 else "white"
            panel.text(*place, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=7)
    if default in cells.index:
        # A white line with a dark rim, to be seen on any colour.
        place = alphas.index(default[0]), betas.index(default[1])
        _mark_cell(panel, place, "s", markeredgewidth=4, label="default")
        _mark_cell(panel, place, "s", markeredgewidth=1.5, markeredgecolor="white")
    best = cells.idxmax()
    place = alphas.index(best[0]), betas.index(best[1])
    _mark_cell(panel, place, "*", markerfacecolor="white", label="best")
    return image


def _mark_cell(panel: Any, place: tuple[int, int], marker: str, **style: Any) -> None:
    outline = {"markersize": 14, "markerfacecolor": "none", "markeredgecolor": "black", "linestyle": "none"}
    panel.plot(*place, marker=marker, **{**outline, **style})
