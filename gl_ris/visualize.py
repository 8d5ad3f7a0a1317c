"""Pictures of predictions, drawn with PIL alone."""

import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional as F

from gl_ris.masks import decode_rle
from gl_ris.predictions import Prediction, read_predictions

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_Item = TypeVar("_Item", bound=Any)

# cyan and magenta: rare in photographs, told apart with any colour vision, and by fill against outline
PREDICTION: Colour = (0, 229, 255)
TARGET: Colour = (255, 0, 144)
_OPACITY = 0.4
_SHADE = 0.25
_INK: Colour = (32, 33, 36)
_FAINT: Colour = (112, 117, 122)
_PAPER: Colour = (255, 255, 255)
_SHORT_SIDE = 256
_LONG_SIDE = 2048
_MARGIN = 8
COUNT = 12
# of images with their masks apart: the folder among the overlays, what each bit of a label says, and what the
# caption is called in the file
MASKS, BITS, CAPTION = "masks", {"prediction": 1, "target": 2}, "caption"


def overlay(
    image: Tensor,
    prediction: Tensor | None,
    target: Tensor | None,
    caption: str = "",
    *,
    iou: float | None = None,
) -> Image.Image:
    """Draw a prediction (filled, all else shaded) and its target (outlined) over an image, captioned.

    Small images are enlarged by a whole factor, so mask pixels stay square, until their short side has 256
    pixels or their long side would exceed 2048.

    Args:
        image: uint8 ``(3, H, W)`` RGB, at least one pixel.
        prediction: bool ``(H, W)`` in pixels of the image, or None where there is none; may be empty.
        target: bool ``(H, W)``, likewise.
        caption: Text under the image, wrapped to its width, e.g. the expression.
        iou: In [0, 1], written below the caption in percent; None leaves it out.

    Returns:
        An RGB picture: the image, and below it a strip for caption and IoU if either is given. `TypeError`
        if the image is not uint8 or a mask not bool, `ValueError` if the shapes do not fit.

    Example:
        >>> overlay(torch.zeros(3, 64, 96, dtype=torch.uint8), None, None).size
        (384, 256)
    """
    _check(image, prediction, target)
    height, width = image.shape[1:]
    factor = max(1, min(math.ceil(_SHORT_SIDE / min(height, width)), _LONG_SIDE // max(height, width)))
    size = (width * factor, height * factor)
    canvas = Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).resize(size, Image.Resampling.BICUBIC)
    stroke = max(2, round(min(size) / 128))
    if prediction is not None and prediction.any():
        mask = _enlarged(prediction, size)
        lit = Image.blend(canvas, Image.new("RGB", size, PREDICTION), _OPACITY)
        canvas = Image.composite(lit, Image.blend(canvas, Image.new("RGB", size, _INK), _SHADE), mask)
        canvas.paste(PREDICTION, mask=_outline(mask, stroke - 1))
    if target is not None:
        mask = _enlarged(target, size)
        # a dark rim keeps the line visible on a bright or green ground
        canvas.paste(_INK, mask=_outline(mask, stroke + 1))
        canvas.paste(TARGET, mask=_outline(mask, stroke - 1))
    return _captioned(canvas, caption, iou)


def contact_sheet(images: Sequence[Image.Image], columns: int = 4, *, legend: bool = True) -> Image.Image:
    """Lay out RGB pictures in rows, each in a cell as wide as the widest, into one of the kind.

    ``columns`` pictures, at least 1, are in a row; a ``legend`` below explains the colours. `ValueError` if
    there are no images or fewer columns.

    Example:
        >>> contact_sheet([Image.new("RGB", (100, 50))] * 3, columns=2, legend=False).size
        (224, 124)
    """
    if not images or columns < 1:
        raise ValueError(f"A contact sheet needs pictures and columns >= 1, got {len(images)} and {columns}.")
    columns = min(columns, len(images))
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    width = max(image.width for image in images)
    heights = [max(image.height for image in row) for row in rows]
    footer = 3 * _MARGIN + 4 if legend else 0
    size = (columns * (width + _MARGIN) + _MARGIN, sum(heights) + (len(rows) + 1) * _MARGIN + footer)
    sheet = Image.new("RGB", size, _PAPER)
    top = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            left = _MARGIN + column * (width + _MARGIN) + (width - image.width) // 2
            sheet.paste(image, (left, top))
        top += height + _MARGIN
    if legend:
        _draw_legend(sheet, top)
    return sheet


def _check(image: Tensor, *masks: Tensor | None) -> None:
    if image.dtype != torch.uint8:
        raise TypeError(f"The image must be uint8, got {image.dtype}.")
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(f"The image must have the shape (3, H, W), got {tuple(image.shape)}.")
    for mask in masks:
        if mask is not None and mask.dtype != torch.bool:
            raise TypeError(f"A mask must be bool, got {mask.dtype}.")
        if mask is not None and mask.shape != image.shape[1:]:
            raise ValueError(f"A mask is {tuple(mask.shape)}, but the image is {tuple(image.shape[1:])}.")


def _enlarged(mask: Tensor, size: tuple[int, int]) -> Image.Image:
    """Make an image of mode L (0 or 255) out of a mask, in whole blocks."""
    levels = Image.fromarray(mask.cpu().numpy().astype(np.uint8) * 255)
    return levels.resize(size, Image.Resampling.NEAREST)


def _outline(mask: Image.Image, reach: int) -> Image.Image:
    """Mark the pixels up to ``reach`` from the mask's edge, on either side; the image border is an edge."""
    inside = torch.from_numpy(np.asarray(mask) > 0)[None, None]
    padded = F.pad(torch.cat([inside, ~inside]).float(), (reach,) * 4)
    padded[1, :, :reach] = padded[1, :, -reach:] = padded[1, :, :, :reach] = padded[1, :, :, -reach:] = 1
    near_inside, near_outside = F.max_pool2d(padded, 2 * reach + 1, stride=1).bool()[:, 0]
    return Image.fromarray((near_inside & near_outside).numpy().astype(np.uint8) * 255)


def _captioned(picture: Image.Image, caption: str, iou: float | None) -> Image.Image:
    # captions of pictures of one size are alike, whether upright or lying; a narrow one must hold words
    font_size = max(15, min(max(picture.size) // 26, picture.width // 10))
    font = ImageFont.load_default(size=font_size)
    lines = [(line, _INK) for line in _wrapped(caption, font, picture.width - 2 * _MARGIN)]
    if iou is not None:
        lines.append((f"IoU {100 * iou:.1f}", _FAINT))
    if not lines:
        return picture
    pitch = round(1.3 * font_size)
    framed = Image.new("RGB", (picture.width, picture.height + len(lines) * pitch + 2 * _MARGIN), _PAPER)
    framed.paste(picture)
    draw = ImageDraw.Draw(framed)
    for row, (line, colour) in enumerate(lines):
        draw.text((_MARGIN, picture.height + _MARGIN + row * pitch), line, fill=colour, font=font)
    return framed


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """Break text into lines of at most ``width`` pixels: at blanks, and within words that are too long."""
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if font.getlength(longer) > width:
                lines += [line] if line else []
                longer = word
            while font.getlength(longer) > width and len(longer) > 1:
                fits = max(1, sum(font.getlength(longer[: n + 1]) <= width for n in range(len(longer))))
                lines.append(longer[:fits])
                longer = longer[fits:]
            line = longer
        lines.append(line)
    return lines


def _draw_legend(sheet: Image.Image, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    side = 2 * _MARGIN
    font = ImageFont.load_default(size=15)
    left = _MARGIN
    pale = tuple(round(_OPACITY * level + (1 - _OPACITY) * 255) for level in PREDICTION)
    for label, fill, line in (("prediction", pale, PREDICTION), ("target", _PAPER, TARGET)):
        draw.rectangle((left, top, left + side, top + side), fill=fill, outline=line, width=3)
        draw.text((left + side + _MARGIN, top + side // 2), label, fill=_INK, font=font, anchor="lm")
        left += side + 3 * _MARGIN + round(font.getlength(label))


def draw_overlays(folder: Path, scenes: Any, *, count: int = COUNT) -> list[Path]:
    """Draw ``count`` predictions of a run's first method, picked with seed 0, into ``<folder>/overlays``.

    They are in the folder's ``predictions.jsonl``, each of another image as far as there are enough;
    ``scenes`` is the data set of the run, by the index of an image. Returns the pictures; the last is
    ``contact_sheet.png`` with all of them. In the folder `MASKS` are the images as they are (JPEG), each with
    its labels (PNG, by `BITS`).
    """
    overlays = folder / "overlays"
    (overlays / MASKS).mkdir(parents=True, exist_ok=True)
    pictures: dict[Path, Image.Image] = {}
    for number, record in enumerate(
        pick(read_predictions(folder / "predictions.jsonl"), count, seed=0), start=1
    ):
        name = re.sub(r"[^\w-]", "_", str(record.image_id), flags=re.ASCII)[:60]
        path, shown = overlays / f"{number:02d}_image_{name}.png", _Shown(record, scenes[record.index])
        pictures[path] = shown.drawn()
        shown.save(overlays / MASKS / path.name)
    if pictures:
        pictures[overlays / "contact_sheet.png"] = contact_sheet(list(pictures.values()))
    for path, picture in pictures.items():
        picture.save(path)
    return list(pictures)


def pick(records: Sequence[Prediction], count: int, seed: int) -> list[Prediction]:
    """Pick records of the first method at random, of different images as far as there are enough.

    Example:
        >>> pick([], 12, 0)
        []
    """
    own = spread([record for record in records if record.method == records[0].method], count, seed)
    return sorted(own, key=lambda record: (record.index, str(record.ref_id), str(record.sent_id)))


def spread(items: Sequence[_Item], count: int, seed: int) -> list[_Item]:
    """Draw from items with an ``index``, their image's, one of each image before all others."""
    drawn = list(items)
    random.Random(seed).shuffle(drawn)
    first_of_image = {item.index: item for item in reversed(drawn)}
    # stable: the first of each image and all others, each in the order of the draw
    return sorted(drawn, key=lambda item: first_of_image[item.index] is not item)[:count]


class _Shown:
    """A prediction, with image and target."""

    def __init__(self, record: Prediction, scene: Any) -> None:
        expressions = list(zip(scene.ref_ids, scene.sent_ids, strict=True))
        row = expressions.index((record.ref_id, record.sent_id))
        self.record, self.image = record, scene.image
        self.chosen = None if record.segmentation is None else decode_rle(record.segmentation)
        self.target = None if record.iou is None else scene.targets[scene.referents[row]]
        self.caption = record.expression + (f" [{record.failure}]" if record.failure else "")

    def drawn(self) -> Image.Image:
        return overlay(self.image, self.chosen, self.target, self.caption, iou=self.record.iou)

    def save(self, path: Path) -> None:
        """Write the labels to ``path``, and the image beside it."""
        labels = torch.zeros(self.image.shape[1:], dtype=torch.uint8)
        for mask, bit in zip((self.chosen, self.target), BITS.values(), strict=True):
            labels |= bit * (torch.zeros_like(labels) if mask is None else mask.byte())
        text, iou = PngInfo(), self.record.iou
        measured = "" if iou is None else f", IoU {iou:.3f}"
        text.add_itxt(CAPTION, f"{self.caption} ({self.record.method}{measured})")
        Image.fromarray(labels.numpy()).save(path, pnginfo=text)
        Image.fromarray(self.image.permute(1, 2, 0).numpy()).save(path.with_suffix(".jpg"), quality=90)
