"""How the figures of experiments look: quiet axes, colours that also differ in grey, no display needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gl_ris.files import atomic_file

INK = "#333333"
ZERO_SHOT = "#222222"
# Of Okabe and Ito, which people with colour blindness can tell apart.
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")


def figure(width: float, height: float) -> tuple[Any, Any]:
    """Make a picture with one panel; width and height in inches."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(width, height), dpi=160, layout="constrained")
    axes = picture.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    return picture, axes


def save(picture: Any, path: Path) -> None:
    """Write a picture as PNG, complete or not at all."""
    with atomic_file(path) as file:
        picture.savefig(file, format="png")
