"""What the demo answers: a picture and a sentence in, ranked masks out, from features that are kept."""

from __future__ import annotations

import html
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from experiments.cli.photo_words import PhotoSegmenter
from gl_ris.defaults import is_drawing, of_photograph, suits_drawings
from gl_ris.errors import UserError
from gl_ris.pictures import read_picture
from gl_ris.proposals import SLIC, Felzenszwalb, ProposalGenerator
from gl_ris.rerank import NONE
from gl_ris.scorers.base import available_scorers
from gl_ris.segmentation import OpenImage, Segmentation
from gl_ris.visualize import overlay

log = logging.getLogger(__name__)

MAX_SIDE = 1024  # pixels; larger pictures are reduced, so that one visitor does not take all memory
MAX_CHARACTERS = 500  # of a sentence; CLIP reads 77 tokens at most
SHOWN = 6  # masks of the ranking
_THUMBNAIL = 320
_KEPT = 3  # pictures whose features are kept


@dataclass(frozen=True)
class Asked:
    """The settings that the page has a control for."""

    alpha: float | None = None  # None takes what suits the CLIP model
    beta: float | None = None
    rerank: str = NONE
    method: str = "global_local"
    proposals: str | None = None  # name of one of `Models.generators`; None for the first


@dataclass
class Models:
    """What answers.

    Args:
        clip: A CLIP model: refshapes-rn and refshapes-vit, which know drawn shapes only; an open_clip name
            such as ViT-B-32-quickgelu for photographs, or local-dir:FOLDER.
        pretrained: Weights for an open_clip name; null takes OpenAI's for ViT-B-32-quickgelu.
        proposals: What makes the masks: null takes SLIC for a shipped CLIP, and for any other SAM 2. The page
            offers superpixels beside it.
        device: Where models compute: cpu, cuda, or auto for a GPU where there is one.
    """

    clip: str = "refshapes-rn"
    pretrained: str | None = None
    proposals: ProposalGenerator | None = None
    device: str = "auto"

    def generators(self) -> dict[str, ProposalGenerator | None]:
        """Return what the page lets choose from by its name, the one that was asked for first."""
        usual = "slic" if suits_drawings(self.clip) else "sam2"
        first = self.proposals.name if self.proposals else usual
        photos = {"felzenszwalb-photo": Felzenszwalb.for_photos()}
        others = {"slic": SLIC(), "felzenszwalb": Felzenszwalb(), **photos}
        return {first: self.proposals, **{name: made for name, made in others.items() if name != first}}

    def segmenter(self, asked: Asked) -> PhotoSegmenter:
        """Make a segmenter; those of one CLIP model share it. `UserError` where settings do not fit."""
        made = self.generators()
        given: dict[str, Any] = {"alpha": asked.alpha, "beta": asked.beta, "pretrained": self.pretrained}
        given |= {"rerank": asked.rerank, "method": asked.method}
        generator = made[asked.proposals or next(iter(made))]
        return PhotoSegmenter(self.clip, generator, device=self.device, **given)

    def methods(self) -> list[str]:
        """Return the names of the methods that this CLIP model can be asked with, the paper's first."""
        fitting = [Asked.method]
        for name, kind in sorted(available_scorers().items()):
            try:
                if name not in fitting and not kind.reads_file:
                    self.segmenter(Asked(method=name)).load()
                    fitting.append(name)
            except UserError:  # such as one that needs a ViT
                continue
        return fitting


@dataclass
class Answer:
    """What the page shows: sentences, and if a mask was found, pictures and what was understood."""

    sentences: list[str]
    failed: bool = False
    picture: Image.Image | None = None
    ranking: list[tuple[Image.Image, str]] = field(default_factory=list)
    understood: dict[str, str] = field(default_factory=dict)


class Desk:
    """Answers one question after the other, and keeps the features of the last pictures."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._opened: OrderedDict[tuple[str, str | None], tuple[OpenImage, list[str]]] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    def answer(self, file: str | None, text: str, asked: Asked) -> Answer:
        """Answer what ``text`` refers to in a picture; what is wrong is a sentence of the answer."""
        try:
            with self._one_at_a_time:
                return self._found(file, text or "", asked)
        except UserError as error:
            return Answer([str(error)], failed=True)
        except Exception as error:  # the page goes on, whatever one picture does
            log.exception("The demo could not answer.")
            reason = f"This did not work ({type(error).__name__}); the terminal of the demo says more."
            return Answer([reason], failed=True)

    def _found(self, file: str | None, text: str, asked: Asked) -> Answer:
        if file is None:
            raise UserError("Choose a picture first: upload one, or take an example.")
        if len(text) > MAX_CHARACTERS:
            raise UserError(f"The sentence has {len(text):,} characters; up to {MAX_CHARACTERS} are read.")
        if not text.strip():
            raise UserError("Say what to look for, for example: the red star on the left.")
        start, segmenter = time.perf_counter(), self.models.segmenter(asked)
        key, scorer = (file, asked.proposals), segmenter.load()
        new = key not in self._opened
        if new:
            pixels, remarks = prepared(file, self.models.clip)
            self._opened[key] = segmenter.open(pixels), remarks
        self._opened.move_to_end(key)
        while len(self._opened) > _KEPT:
            self._opened.popitem(last=False)
        opened, remarks = self._opened[key]
        found = opened.by(scorer)(text)
        spent = f"{1000 * (time.perf_counter() - start):,.0f} ms"
        how = "masks and features made anew" if new else "from kept features"
        best = f"{len(found.scores):,} masks, the best has the score {found.score:.4f}; {how}, {spent}."
        return shown(found, opened.image, [*remarks, best])


def prepared(file: str, clip: str) -> tuple[Tensor, list[str]]:
    """Read a picture, reduced to `MAX_SIDE`; return its pixels, and what has to be said about it.

    `UserError` if it cannot be read; it does not say where the file lies.
    """
    pixels, remarks = read_picture(Path(file).read_bytes()), list[str]()
    if suits_drawings(clip) and not is_drawing(pixels):
        remarks.append(of_photograph(clip))
    height, width = pixels.shape[1:]
    if max(height, width) > MAX_SIDE:
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        picture.thumbnail((MAX_SIDE, MAX_SIDE))
        pixels = read_picture(picture)
        before, after = (f"{one:,} x {other:,}" for one, other in ((width, height), picture.size))
        remarks.append(f"The picture of {before} pixels was reduced to {after}.")
    return pixels, remarks


def shown(found: Segmentation, image: Tensor, sentences: list[str]) -> Answer:
    """Draw the best masks, those without a pixel left out, and write down what was understood."""
    ranked = [row for row in found.ranking[:SHOWN].tolist() if torch.isfinite(found.scores[row])]
    small = [overlay(image, found.proposals.masks[row], None) for row in ranked]
    for picture in small[1:]:
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    captions = [f"{place}: {found.scores[row]:.3f}" for place, row in enumerate(ranked, start=1)]
    understood = {"noun phrase": found.noun_phrase, **said(found.parsed.said())}
    return Answer(sentences, False, small[0], list(zip(small, captions, strict=True)), understood)


def said(parsed: dict[str, Any]) -> dict[str, str]:
    """Write what was parsed as words, by field.

    Example:
        >>> said({"anchors": ["a dog"], "relations": [{"kind": "near", "anchor": 0, "negated": True}]})
        {'anchors': 'a dog', 'relations': 'not near: a dog'}
    """
    anchors = parsed.get("anchors", [])
    words = {name: value if isinstance(value, list) else [value] for name, value in parsed.items()}
    words["relations"] = [
        f"{'not ' if one.get('negated') else ''}{one['kind']}: {anchors[one['anchor']]}"
        + (f" (said of {anchors[one['of']]})" if "of" in one else "")
        for one in parsed.get("relations", [])
    ]
    return {name: ", ".join(map(str, value)) for name, value in words.items() if value}


def as_html(answer: Answer) -> tuple[str, str]:
    """Write the sentences, and the table of what was understood; whatever was typed is text in them."""
    kind = "failed" if answer.failed else "told"
    notice = "".join(f'<p class="{kind}" dir="auto">{html.escape(text)}</p>' for text in answer.sentences)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td dir="auto">{html.escape(text)}</td></tr>'
        for name, text in answer.understood.items()
    )
    return f'<div role="status">{notice}</div>', f"<table>{rows}</table>" if rows else ""
