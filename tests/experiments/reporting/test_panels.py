"""Pages of panels, looked at pixel by pixel: how many there are, and what is drawn where."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.reporting.panels import Page, Panel, Row, draw, words_of

GREEN = (40, 140, 60)
CYAN, MAGENTA = (0, 229, 255), (255, 0, 144)
SQUARE = np.zeros((60, 80), dtype=bool)
SQUARE[30:50, 50:70] = True  # in the lower right quarter


def image(height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), GREEN, dtype=np.uint8)


def drawn(page: Page, folder: Path) -> np.ndarray:
    png, pdf = draw(page, folder / "page")
    assert [png.name, pdf.name] == ["page.png", "page.pdf"]
    with Image.open(png) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def near(pixels: np.ndarray, colour: tuple[int, ...], by: int = 12) -> np.ndarray:
    return np.abs(pixels - colour).max(axis=-1) <= by


def stretches(flags: np.ndarray) -> list[tuple[int, int]]:
    """The first and last places of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


@pytest.mark.parametrize(("rows", "columns", "across"), [(2, 3, 1), (1, 5, 1), (4, 1, 4), (5, 1, 2)])
def test_all_panels_are_there_and_alike(rows: int, columns: int, across: int, tmp_path: Path) -> None:
    page = Page([Row("a star", None, [Panel(image())] * columns)] * rows, 5.0, across=across)
    ground = near(drawn(page, tmp_path), GREEN)
    assert ground.shape[1] == 1000
    lines = -(-rows // across)
    down = stretches(ground.any(axis=1))
    assert len(down) == lines
    found = [stretches(ground[top : low + 1].all(axis=0)) for top, low in down]
    last = (rows - (lines - 1) * across) * columns
    assert [len(line) for line in found] == [columns * across] * (lines - 1) + [last]
    sides = {right - left for line in found for left, right in line}
    assert max(sides) - min(sides) <= 1
    heights = {low - top for top, low in down}
    assert max(heights) / max(sides) == pytest.approx(60 / 80, abs=0.03)


def test_the_target_is_outlined_and_the_choice_lit(tmp_path: Path) -> None:
    other = np.roll(SQUARE, -40, axis=1)
    row = Row("a star", None, [Panel(image(), SQUARE), Panel(image(), chosen=other, corner="IoU 0")])
    pixels = drawn(Page([row], 5.0), tmp_path)
    ground = near(pixels, GREEN)
    (top, low), (left, right) = stretches(ground.any(axis=1))[0], stretches(ground.any(axis=0))[0]
    scale = (right - left + 1) / 80
    first, second = (
        pixels[top : low + 1, left : right + 1],
        pixels[top : low + 1, 506 : 506 + right - left + 1],
    )

    def of(panel: np.ndarray, row: float, column: float) -> tuple[int, ...]:
        return tuple(panel[round(row * scale), round(column * scale)])

    pink = np.argwhere(near(first, MAGENTA))
    assert (pink.min(axis=0) / scale).round() == pytest.approx([30, 50], abs=1)
    assert (pink.max(axis=0) / scale).round() == pytest.approx([50, 70], abs=1)
    assert near(np.array(of(first, 40, 60)), GREEN)  # nothing inside of it
    assert not near(second, MAGENTA).any()
    cyan = np.argwhere(near(second, CYAN))
    assert (cyan.min(axis=0) / scale).round() == pytest.approx([30, 10], abs=1)
    inside, outside = of(second, 40, 20), of(second, 10, 60)
    assert inside == pytest.approx([0.8 * a + 0.2 * b for a, b in zip(GREEN, CYAN, strict=True)], abs=3)
    assert sum(outside) < 0.7 * sum(GREEN)
    # the IoU in white on dark, in the lower left corner and nowhere else
    white = np.argwhere(near(second, (255, 255, 255), 40))
    assert white[:, 0].min() > 0.85 * (low - top)
    assert white[:, 1].max() < 0.35 * (right - left)


def test_a_mask_of_the_whole_image_has_its_outline_along_the_border(tmp_path: Path) -> None:
    whole = np.ones((60, 80), dtype=bool)
    pixels = drawn(Page([Row("all", None, [Panel(image(), whole)])], 2.0), tmp_path)
    pink = np.argwhere(near(pixels, MAGENTA))
    ground = np.argwhere(near(pixels, GREEN))
    assert pink[:, 1].min() < ground[:, 1].min()
    assert pink[:, 1].max() > ground[:, 1].max()
    empty = drawn(Page([Row("none", None, [Panel(image(), ~whole)])], 2.0), tmp_path)
    assert near(empty, GREEN).sum() > near(pixels, GREEN).sum()


def test_a_heat_map_takes_the_place_of_the_colours(tmp_path: Path) -> None:
    heat = np.zeros((60, 80))
    heat[:, 40:] = 1
    pixels = drawn(
        Page([Row("hot", None, [Panel(image(), SQUARE), Panel(image(), heat=heat)])], 5.0), tmp_path
    )
    middle = pixels[near(pixels, GREEN).any(axis=1)][50, 500:]
    cold, hot = middle[100], middle[-100]
    assert hot.sum() > 2 * cold.sum()
    assert hot[0] > hot[2] + 40, "yellow"
    assert abs(cold - cold.mean()).max() < 12, "no colour of the image"


def test_an_upright_image_is_drawn_whole(tmp_path: Path) -> None:
    pixels = drawn(Page([Row("tall", None, [Panel(image(160, 80)), Panel(image(80, 80))])], 4.0), tmp_path)
    ground = near(pixels, GREEN)
    tall = ground[:, :390]
    assert tall.any(axis=1).sum() / tall.any(axis=0).sum() == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("text", "phrase", "bold"),
    [
        ("the red star left of it", "the red star", "the red star"),
        ("on top: The Red star", "the red star", "The Red star"),
        ("stars, left", "stars", "stars,"),
        ("a star", None, ""),
        ("a star", "circle", ""),
        ("", "", ""),
        ("a \udc80 star", "star", "star"),
    ],
)
def test_the_noun_phrase_is_found_in_the_expression(text: str, phrase: str | None, bold: str) -> None:
    words = words_of(text, phrase)
    assert " ".join(word for word, marked in words if marked) == bold
    assert len(words) == len(text.split())


def test_texts_of_any_length_stay_on_the_page(tmp_path: Path) -> None:
    def ink(expression: str, title: str) -> np.ndarray:
        page = Page([Row(expression, "star", [Panel(image())] * 3)], 3.3, [title] * 3, "Of a kind")
        return drawn(page, tmp_path).min(axis=-1) < 200

    short, long = ink("star", "T"), ink("$x_1$ star " * 30 + "y" * 300, "Global-Local-of-many-words")
    assert long.shape[0] > short.shape[0] + 10 * 25
    assert long.shape[1] == 660
    assert not long[:, -5:].any()


def test_the_pdf_has_vectors_and_letters(tmp_path: Path) -> None:
    draw(
        Page([Row("a star", "star", [Panel(image(), SQUARE)] * 3)], 5.0, ["One", "Two", "Three"]),
        tmp_path / "p",
    )
    content = (tmp_path / "p.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Subtype /Image", content)) == 3
    assert b"/FontFile2" in content, "letters, not outlines"
    streams = [zlib.decompress(one) for one in re.findall(rb"stream\r?\n(x.*?)endstream", content, re.DOTALL)]
    page = max(streams, key=lambda one: one.count(b" l\n"))
    assert page.count(b" l\n") > 20, "outlines, not pixels"
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)
