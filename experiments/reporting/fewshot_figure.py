"""Figure 4 right: oIoU against the number of refs of each class, beside the zero-shot line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.fewshot_results import place
from experiments.reporting.plot_style import INK, LINES, MARKERS, ZERO_SHOT, figure, save

Row = Mapping[str, Any]
_ASIDE = 1.04


def draw(path: Path, few_shot: Mapping[str, Any], title: str) -> None:
    """Draw the curves with their means, spread and single seeds, the zero-shot lines, and the crossings.

    Args:
        path: A PNG file.
        few_shot: See `experiments.reporting.fewshot_results.few_shot`.
        title: Above the picture.
    """
    picture, axes = figure(7.2, 4.8)
    axes.set_title(title, fontsize="medium")
    axes.set_xscale("log")
    models = list(dict.fromkeys(row["model"] for row in few_shot["rows"]))
    for number, model in enumerate(models):
        # Spreads stand beside each other, so that none hides another.
        aside = _ASIDE ** (2 * number - len(models) + 1)
        _draw_model(axes, model, [row for row in few_shot["rows"] if row["model"] == model], number, aside)
    _draw_levels(axes, few_shot["zero_shot"])
    crossings = [crossing for crossing in few_shot["crossings"] if crossing["place"] is not None]
    for number, crossing in enumerate(crossings):
        _mark(axes, crossing, LINES[models.index(crossing["model"]) % len(LINES)], number)
    _axis(axes, few_shot["rows"])
    axes.legend(frameon=False, fontsize="small", loc="best")
    save(picture, path)


def _draw_model(axes: Any, model: str, rows: Sequence[Row], number: int, aside: float) -> None:
    """Draw numbers of refs with a line; all refs apart, since their mean per class is no k."""
    look: dict[str, Any] = {"color": LINES[number % len(LINES)], "marker": MARKERS[number % len(MARKERS)]}
    counted = _measured(row for row in rows if row["k"] != "all")
    every = _measured(row for row in rows if row["k"] == "all")
    spread = _spread_of(rows)
    axes.plot(*_means(counted), **look, label=f"{model} ({spread})" if spread else model)
    if every:
        axes.plot(*_means([*counted[-1:], *every]), color=look["color"], linestyle=":")
        axes.plot(*_means(every), **look, linestyle="none", markerfacecolor="white", markersize=8)
    for row in (*counted, *every):
        _draw_spread(axes, row, look["color"], aside)


def _draw_spread(axes: Any, row: Row, colour: str, aside: float) -> None:
    """Draw one standard deviation to each side of the mean, and the seeds themselves, a little aside."""
    if row["oIoU"]["std"] is None:
        return
    mean, std = row["oIoU"]["mean"], row["oIoU"]["std"]
    axes.errorbar(place(row) * aside, mean, std, color=colour, capsize=3, elinewidth=1.1, alpha=0.7)
    values = [value for value in row["oIoU"]["values"] if value is not None]
    dots: dict[str, Any] = {"s": 14, "alpha": 0.4, "linewidths": 0}
    axes.scatter([place(row) * aside**2] * len(values), values, color=colour, **dots)


def _draw_levels(axes: Any, zero_shot: Mapping[str, Mapping[str, float | None]]) -> None:
    styles = ("--", "-.", (0, (1, 1)))
    for number, (method, figures) in enumerate(zero_shot.items()):
        if figures["oIoU"] is not None:
            label = f"{method} (zero-shot): {figures['oIoU']:.2f}"
            style = styles[number % len(styles)]
            axes.axhline(figures["oIoU"], color=ZERO_SHOT, linestyle=style, label=label, zorder=1.8)


def _mark(axes: Any, crossing: Mapping[str, Any], colour: str, number: int) -> None:
    """Point out where a curve crosses a line; labels stand below each other."""
    place, level = crossing["place"], crossing["level"]
    axes.plot([place], [level], marker="o", markersize=11, color=colour, fillstyle="none", linestyle="none")
    text = f"k ≈ {place:.0f}" if place >= 9.95 else f"k ≈ {place:.1f}"
    offset = {"xytext": (10, -16 - 12 * number), "textcoords": "offset points"}
    axes.annotate(text, (place, level), **offset, color=colour, fontsize="small")


def _axis(axes: Any, rows: Sequence[Row]) -> None:
    """Label the places that were measured, and nothing between them."""
    from matplotlib.ticker import NullLocator

    numbers = {place(row): str(row["k"]) for row in rows if row["k"] != "all"}
    axes.set_xticks(list(numbers), list(numbers.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    every = next((place(row) for row in rows if row["k"] == "all"), math.nan)
    if math.isfinite(every):
        text = f"all\n(mean {every:,.0f}\nper class)"
        axes.axvline(every, color=INK, linewidth=0.6, alpha=0.4, linestyle=":")
        axes.annotate(
            text,
            (every, 0.02),
            (-4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize="x-small",
            ha="right",
            va="bottom",
        )
    axes.set_xlabel("k, refs of each class to learn from")
    axes.set_ylabel("oIoU (%)")
    axes.margins(x=0.06, y=0.1)


def _measured(rows: Any) -> list[Row]:
    """Return the rows that have a place and a figure."""
    return [row for row in rows if row["oIoU"]["mean"] is not None and math.isfinite(place(row))]


def _means(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [place(row) for row in rows], [row["oIoU"]["mean"] for row in rows]


def _spread_of(rows: Sequence[Row]) -> str:
    """Say how many seeds are behind the points that have several."""
    counts = {len(row["seeds"]) for row in rows}
    if max(counts, default=1) == 1:
        return ""
    return f"mean ± std, {'up to ' if len(counts) > 1 else ''}{max(counts)} seeds"
