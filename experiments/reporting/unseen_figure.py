"""Figure 4 left: oIoU on all phrases of the unseen domain, and on those about unseen concepts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from experiments.reporting.plot_style import LINES, figure, save


def draw(path: Path, bars: Mapping[str, Mapping[str, float | None]], title: str) -> None:
    """Draw a group of bars for each method.

    Args:
        path: A PNG file.
        bars: For each method its bars by label, in percent; None leaves a gap.
        title: Above the picture.
    """
    picture, axes = figure(6.4, 4.4)
    axes.set_title(title, fontsize="medium")
    labels = list(dict.fromkeys(label for row in bars.values() for label in row))
    width = 0.8 / max(1, len(labels))
    for number, label in enumerate(labels):
        shift = (number - (len(labels) - 1) / 2) * width
        places = [place + shift for place in range(len(bars))]
        values = [row.get(label) for row in bars.values()]
        drawn = [0.0 if value is None else value for value in values]
        container = axes.bar(places, drawn, width * 0.94, color=LINES[number % len(LINES)], label=label)
        texts = ["-" if value is None else f"{value:.1f}" for value in values]
        axes.bar_label(container, texts, padding=2, fontsize="small")
    axes.set_xticks(range(len(bars)), list(bars))
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("oIoU (%)")
    axes.margins(y=0.12)
    axes.legend(frameon=False, ncols=len(labels), loc="upper right", fontsize="small")
    save(picture, path)
