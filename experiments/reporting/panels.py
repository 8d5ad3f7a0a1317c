"""Pages of panels for print: rows of pictures of one image, each row with its expression above."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting.plots import save
from gl_ris.visualize import PREDICTION, TARGET

# texts in points, whatever the width of the page; lengths in inches
_TEXT, _SMALL = 8.0, 7.0
_LINE, _SPACE, _GAP, _EDGE, _LEGEND = 0.15, 0.036, 0.06, 0.03, 0.22
_SHAPES = 0.5, 1.25  # of panels, height by width; an image beyond is drawn smaller
_FILL, _SHADE, _HEAT = 0.2, 0.5, 0.7
_MAP = "inferno"  # from dark to light, with any colour vision
_DOTS = {"png": 200, "pdf": 300}  # per inch; of the PDF its images
_COLOURS: list[Any] = [tuple(level / 255 for level in one) for one in ((26, 26, 30), PREDICTION, TARGET)]
_INK, _CHOICE, _TARGET = _COLOURS

Line = list[tuple[str, bool]]  # words, and whether each is of the noun phrase


class Panel(NamedTuple):
    """An image, uint8 ``(H, W, 3)``, and what is drawn over it, all of its size."""

    image: np.ndarray
    target: np.ndarray | None = None  # bool, outlined
    chosen: np.ndarray | None = None  # bool, filled and all else shaded; over a heat map outlined
    heat: np.ndarray | None = None  # float in [0, 1], in place of the image's colours
    corner: str = ""


class Row(NamedTuple):
    """The panels of one expression, and its noun phrase, which is bold."""

    expression: str
    phrase: str | None
    panels: Sequence[Panel]


class Page(NamedTuple):
    """Rows of as many panels each, under each other, or ``across`` of them beside each other."""

    rows: Sequence[Row]
    width: float  # in inches
    titles: Sequence[str] = ()  # of the columns
    heading: str = ""
    across: int = 1


def draw(page: Page, stem: Path) -> list[Path]:
    """Draw a page as ``<stem>.png`` and, with outlines and texts as vectors, ``<stem>.pdf``."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    layout = _Layout(page)
    figure = Figure(figsize=(page.width, layout.height))
    for left, top, line in layout.texts:
        _write(figure, left, top, line)
    for left, top, height, panel in layout.panels:
        box = (left / page.width, 1 - (top + height) / layout.height)
        _draw_panel(figure.add_axes((*box, layout.side / page.width, height / layout.height)), panel)
    _explain(figure, [panel for row in page.rows for panel in row.panels])
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in _DOTS]
    # letters that can be searched and edited, and are as wide as they were measured
    with rc_context({"pdf.fonttype": 42, "text.hinting": "none", "text.hinting_factor": 1}):
        for path, dots in zip(paths, _DOTS.values(), strict=True):
            save(figure, path, dpi=dots)
    return paths


class _Layout:
    """Where texts and panels of a page stand, from its upper left corner; lengths in inches."""

    def __init__(self, page: Page) -> None:
        count, inside = len(page.rows[0].panels), page.width - 2 * _EDGE
        self.side = (inside + _GAP) / (count * page.across) - _GAP
        self.texts: list[tuple[float, float, Line]] = []
        self.panels: list[tuple[float, float, float, Panel]] = []
        self.height = _EDGE
        steps = [_EDGE + number * (self.side + _GAP) for number in range(count * page.across)]
        self._write([(page.heading, page.heading)], steps, inside)
        self._write([(title, None) for title in page.titles], steps, self.side)
        for start in range(0, len(page.rows), page.across):
            rows = page.rows[start : start + page.across]
            block = count * (self.side + _GAP) - _GAP
            self._write([(row.expression, row.phrase) for row in rows], steps[::count], block)
            self._place([panel for row in rows for panel in row.panels], steps)
        self.height += _LEGEND

    def _write(self, texts: Sequence[tuple[str, str | None]], steps: Sequence[float], width: float) -> None:
        """Write texts beside each other, the last lines of all on one level."""
        columns = [_wrapped(words_of(*text), width) for text in texts]
        most = max(map(len, columns), default=0)
        for left, lines in zip(steps, columns, strict=False):
            top = self.height + (most - len(lines)) * _LINE
            self.texts += [(left, top + number * _LINE, line) for number, line in enumerate(lines)]
        self.height += most * _LINE + (_GAP / 2 if most else 0)

    def _place(self, panels: Sequence[Panel], steps: Sequence[float]) -> None:
        shapes = [panel.image.shape[0] / panel.image.shape[1] for panel in panels]
        height = self.side * min(max(_SHAPES[0], *shapes), _SHAPES[1])
        self.panels += [(left, self.height, height, one) for left, one in zip(steps, panels, strict=False)]
        self.height += height + _GAP


def words_of(expression: str, phrase: str | None) -> Line:
    """Split an expression into words, each with whether it is of the noun phrase."""
    text = expression.encode(errors="replace").decode()  # no font has lone surrogates
    start = text.lower().find(phrase.lower()) if phrase else -1
    end = start + len(phrase or "") if start >= 0 else -1
    return [(word[0], word.start() < end and word.end() > start) for word in re.finditer(r"\S+", text)]


def _wrapped(words: Line, inches: float) -> list[Line]:
    lines: list[Line] = []
    for part in (part for word in words for part in _parted(*word, inches)):
        if not lines or sum(_length(*one) + _SPACE for one in lines[-1]) + _length(*part) > inches:
            lines.append([])
        lines[-1].append(part)
    return lines


def _parted(text: str, bold: bool, inches: float) -> Iterator[tuple[str, bool]]:
    """Part a word that is too long for a line, behind a hyphen if it has one."""
    while len(text) > 1 and _length(text, bold) > inches:
        fits = next((n for n in range(1, len(text)) if _length(text[: n + 1], bold) > inches), 1)
        cut = text.rfind("-", 0, fits) + 1 or fits
        yield text[:cut], bold
        text = text[cut:]
    yield text, bold


def _length(text: str, bold: bool) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=_TEXT, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def _write(figure: Any, left: float, top: float, line: Line) -> None:
    """Write a line of words, those alike in one piece."""
    width, height = figure.get_size_inches()
    for bold, words in groupby(line, key=lambda word: word[1]):
        text = " ".join(word for word, _ in words)
        look: dict[str, Any] = {"size": _TEXT, "weight": "bold" if bold else "normal", "color": _INK}
        figure.text(left / width, 1 - (top + 0.75 * _LINE) / height, text, parse_math=False, **look)
        left += _length(text, bold) + _SPACE


def _draw_panel(axes: Any, panel: Panel) -> None:
    axes.set_axis_off()
    axes.set_anchor("N")
    axes.imshow(_pixels(panel), interpolation="bicubic")
    _outline(axes, panel.chosen, _CHOICE)
    _outline(axes, panel.target, _TARGET)
    if panel.corner:
        box = {"facecolor": _INK, "alpha": 0.8, "pad": 1.5, "linewidth": 0}
        look: dict[str, Any] = {"size": _SMALL, "color": "white", "bbox": box, "parse_math": False}
        look |= {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(panel.corner, (0, 0), (3, 4), **look)


def _pixels(panel: Panel) -> np.ndarray:
    """Colour an image by what is known of it, float ``(H, W, 3)`` in [0, 1]."""
    from matplotlib import colormaps

    image: np.ndarray = panel.image / 255
    if panel.heat is not None:
        grey = image.mean(axis=2, keepdims=True)
        return (1 - _HEAT) * grey + _HEAT * colormaps[_MAP](panel.heat)[..., :3]
    if panel.chosen is None:
        return image
    lit, shaded = ((1 - s) * image + s * np.array(c) for s, c in ((_FILL, _CHOICE), (_SHADE, _INK)))
    return np.where(panel.chosen[..., None], lit, shaded)


def _outline(axes: Any, mask: np.ndarray | None, colour: Sequence[float]) -> None:
    """Draw the edge of a mask, also along the border of the image; a dark rim parts it from any ground."""
    if mask is None or not mask.any():
        return
    height, width = mask.shape
    for thick, ink in ((2.2, _INK), (1.2, colour)):
        where = np.arange(-1, width + 1), np.arange(-1, height + 1)
        edge = axes.contour(*where, np.pad(mask * 1.0, 1), [0.5], colors=[ink], linewidths=thick)
        edge.set_clip_on(False)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _explain(figure: Any, panels: Sequence[Panel]) -> None:
    """Explain below what is drawn, and nothing else."""
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    chosen, heat = (any(getattr(one, name) is not None for one in panels) for name in ("chosen", "heat"))
    signs = [Patch(facecolor="none", edgecolor=_TARGET, label="target")]
    fill: Any = "none" if heat else (*_CHOICE, _FILL)
    signs += [Patch(facecolor=fill, edgecolor=_CHOICE, label="chosen mask")] if chosen else []
    look: dict[str, Any] = {"fontsize": _SMALL, "frameon": False, "borderpad": 0, "borderaxespad": 0}
    where = (_EDGE / width, _LEGEND / 4 / height)
    figure.legend(handles=signs, ncols=2, loc="lower left", bbox_to_anchor=where, handlelength=1.4, **look)
    if heat:
        axes = figure.add_axes((1 - 1.1 / width, _LEGEND / 3 / height, 0.7 / width, 0.09 / height))
        axes.set_axis_off()
        axes.imshow(np.linspace(0, 1, 256)[None], cmap=_MAP, aspect="auto")
        for place, word, side in ((-0.06, "low", "right"), (1.06, "high", "left")):
            axes.text(place, 0.5, word, ha=side, va="center", size=_SMALL, transform=axes.transAxes)
