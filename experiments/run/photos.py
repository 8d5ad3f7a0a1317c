"""Photos of one's own: from images and expressions to masks, cut-outs, overlays and documents in a folder."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from tabulate import tabulate
from torch import Tensor

from experiments.cli.command import Command, closing_words
from experiments.run.evaluate import write_config
from experiments.run.folder import ANSWERS, RunFolder, room_needed
from gl_ris.command_line import show
from gl_ris.errors import EvaluationError, UserError, in_short
from gl_ris.files import to_json, write_json
from gl_ris.masks import encode_rle
from gl_ris.pictures import read_picture
from gl_ris.progress import bar
from gl_ris.rerank import NONE
from gl_ris.results import git_commit, versions
from gl_ris.segmentation import OpenImage, Segmentation, Segmenter
from gl_ris.signals import kept_if_ended
from gl_ris.visualize import overlay

_SHOWN, _FEW = 5, 6  # of a ranking; answers whose ranking is shown: of more, the best one alone
_Answer = tuple[dict[str, Any], tuple[Tensor, Segmentation] | None]  # document; what its pictures are made of


@dataclass
class Photos:
    """Images, and expressions that are asked about each of them."""

    segmenter: Segmenter
    images: Sequence[Path]
    expressions: Sequence[str]
    settings: dict[str, Any]

    @property
    def count(self) -> int:
        """How many answers there will be."""
        return len(self.images) * len(self.expressions)

    def answer(self, command: Command, place: RunFolder, line: str) -> None:
        """Write all answers into a run folder; `EvaluationError` in the end if there are not all of them.

        ``line`` are the words of the command. With one image and one expression what is wrong is raised; else
        it is counted and told, and the others go on.
        """
        folder = place.create()
        try:
            with room_needed(folder), kept_if_ended(lambda: f"what was answered is kept in {folder}"):
                write_config(folder / "config.yaml", self.settings, f"{command.program} {line}")
                failed = sum(self._write(folder, n, *answer) for n, answer in enumerate(self._answers(), 1))
        except BaseException:
            place.discard_if_empty()
            raise
        place.close()
        show("")
        other = "full" if self.segmenter.models()["rerank"] == NONE else NONE
        closing_words(command.name, folder, line=line, rerank=other)
        if failed:
            raise EvaluationError(f"{failed:,} of {self.count:,} answers failed; the reasons are above.")

    def _answers(self) -> Iterator[_Answer]:
        if len(self.images) == 1:
            read_picture(self.images[0])  # what is wrong with it is said before anything is fetched
        self.segmenter.prepare(self.expressions)
        for image in bar("segmenting", "image", self.images, delay=0):
            try:
                found = list(self._ask(image))
            except Exception as error:
                if self.count == 1:
                    raise
                reason = str(error) if isinstance(error, UserError) else in_short(error, typed=True)
                what = {"image": str(image), "failure": reason}
                found = [({**what, "expression": text}, None) for text in self.expressions]
            yield from found

    def _ask(self, image: Path) -> Iterator[_Answer]:
        start = time.perf_counter()
        opened = self.segmenter.open(image)
        ready = time.perf_counter()
        found = opened.all(self.expressions)
        each = (time.perf_counter() - ready) / len(found)
        more = {"seconds": {"image": ready - start, "expression": each}, "models": self.segmenter.models()}
        for text, one in zip(self.expressions, found, strict=True):
            document = {"image": str(image), "expression": text, **describe(one, opened), **more}
            yield document, (opened.image, one)

    def _write(self, folder: Path, number: int, document: dict[str, Any], drawn: Any) -> bool:
        """Write an answer and show it; say if it is a failure."""
        name, at = None, folder
        if drawn and self.count > 1:
            parts = map(safe, (Path(document["image"]).stem, document["expression"]))
            name = "_".join((f"{ANSWERS}/{number:0{len(str(self.count))}d}", *parts))
            at = folder / name
        if drawn:
            draw(at, document["expression"], *drawn)
            more = {"config": self.settings, "versions": versions(), "git_commit": git_commit()}
            write_json(at / "segmentation.json", {"schema": 1, **document, **more})
        if self.count > 1:
            line = {"folder": name, **document}
            line.pop("ranking", None)
            with (folder / "segmentations.jsonl").open("ab") as file:
                file.write(to_json(line) + b"\n")
        show(told(document, _SHOWN if self.count <= _FEW else 1))
        return not drawn


def safe(text: str) -> str:
    """Make a part of a file's name of a text.

    Example:
        >>> safe("the cat's / ../ bed")
        'the-cat-s-bed'
    """
    return re.sub(r"[^\w]+", "-", text, flags=re.ASCII)[:40].strip("-")


def describe(found: Segmentation, opened: OpenImage) -> dict[str, Any]:
    """Say what was found, and how all masks were ranked, the best first."""
    columns = {"score": found.scores, "box": found.proposals.boxes.int(), "area": opened.areas}
    ranking = [
        {"proposal": place, **{name: column[place].tolist() for name, column in columns.items()}}
        for place in found.ranking.tolist()
    ]
    return {
        "noun_phrase": found.noun_phrase,
        "parsed": found.parsed.said(),
        "size": list(found.mask.shape),
        **{name: ranking[0][name] for name in ("box", "area", "score")},
        "segmentation": encode_rle(found.mask),
        "ranking": ranking,
    }


def draw(folder: Path, expression: str, image: Tensor, found: Segmentation) -> None:
    """Write the mask (0 and 255), what it covers with all else transparent, and the mask over the image."""
    folder.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(found.mask.numpy().astype("uint8") * 255)
    mask.save(folder / "mask.png")
    cutout = Image.fromarray(image.permute(1, 2, 0).numpy())
    cutout.putalpha(mask)
    left, top, right, bottom = map(int, found.box.tolist())
    cutout.crop((left, top, right, bottom)).save(folder / "cutout.png")
    overlay(image, found.mask, None, expression).save(folder / "overlay.png")


def told(document: dict[str, Any], shown: int) -> str:
    """Say what is in a document: so many of the ranking, or the failure."""
    head = f"\n{document['image']}: {document['expression']}"
    if "failure" in document:
        return f"{head}\nFAILED: {document['failure']}"
    ranking, (height, width) = document["ranking"], document["size"]
    rows = [
        (rank, row["score"], " ".join(map(str, row["box"])), f"{row['area'] / (height * width):.1%}")
        for rank, row in enumerate(ranking[:shown], start=1)
    ]
    table = tabulate(rows, ("rank", "score", "left top right bottom", "area"), "plain", floatfmt=".4f")
    phrase = f"noun phrase '{document['noun_phrase']}'"
    return f"{head}\n{phrase}, {len(ranking):,} masks, {width} x {height} pixels\n{table}"
