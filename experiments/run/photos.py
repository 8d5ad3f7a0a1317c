"""Photos of one's own: from images and expressions to masks, cut-outs, overlays and documents in a folder."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from experiments.cli.command import Command, closing_words
from experiments.run.evaluate import write_config
from experiments.run.folder import ANSWERS, RunFolder, room_needed
from gl_ris.command_line import show
from gl_ris.errors import EvaluationError, UserError, in_short
from gl_ris.files import plain, to_json, write_json
from gl_ris.masks import encode_rle
from gl_ris.pictures import read_picture
from gl_ris.progress import bar
from gl_ris.rerank import NONE
from gl_ris.results import git_commit, versions
from gl_ris.segmentation import OpenImage, Segmentation, Segmenter
from gl_ris.visualize import overlay

_SHOWN = 5  # of a ranking
_FEW = 6  # answers whose ranking is shown; of more, a line each
_LONG = ("ranking", "config", "versions", "git_commit")  # what a document has, and its line has not


@dataclass
class Photos:
    """Images, and expressions that are asked about each of them."""

    command: Command
    segmenter: Segmenter
    images: Sequence[Path]
    expressions: Sequence[str]
    settings: dict[str, Any]

    @property
    def count(self) -> int:
        """How many answers there will be."""
        return len(self.images) * len(self.expressions)

    def answer(self, place: RunFolder, line: str) -> None:
        """Write all answers into a run folder; `EvaluationError` in the end if there are not all of them.

        ``line`` are the words of the command. With one image and one expression what is wrong is raised; else
        it is counted and told, and the others go on.
        """
        folder = place.create()
        try:
            with room_needed(folder):
                write_config(folder / "config.yaml", self.settings, f"{self.command.program} {line}")
                failed = sum(self._write(document, folder, at) for at, document in self._answers())
        except BaseException:
            place.discard_if_empty()
            raise
        place.close()
        other = "full" if self.segmenter.models()["rerank"] == NONE else NONE
        show("")
        closing_words(self.command.name, folder, line=line, rerank=other)
        if failed:
            raise EvaluationError(f"{failed:,} of {self.count:,} answers failed; the reasons are above.")

    def _answers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the folder's name and the document of each answer, with what its pictures are drawn of."""
        if len(self.images) == 1:
            read_picture(self.images[0])  # what is wrong with it is said before anything is fetched
        self.segmenter.load()
        names = iter(range(1, self.count + 1))
        for image in bar("segmenting", "image", self.images, delay=0):
            asked = [(f"{next(names):0{len(str(self.count))}d}", text) for text in self.expressions]
            try:
                found = self._ask(image)
            except Exception as error:
                if self.count == 1:
                    raise
                reason = str(error) if isinstance(error, UserError) else in_short(error, typed=True)
                found = [{"image": str(image), "expression": text, "failure": reason} for _, text in asked]
            for (number, text), document in zip(asked, found, strict=True):
                yield "_".join((number, safe(image.stem), safe(text))), document

    def _ask(self, image: Path) -> list[dict[str, Any]]:
        start = time.perf_counter()
        opened = self.segmenter.open(image)
        ready = time.perf_counter()
        found = opened.all(self.expressions)
        each = (time.perf_counter() - ready) / len(found)
        seconds = {"image": round(ready - start, 4), "expression": round(each, 4)}
        return [
            {
                "image": str(image),
                "expression": text,
                **describe(one, opened),
                "models": self.segmenter.models(),
                "seconds": seconds,
                "pictures": (opened.image, one),
            }
            for text, one in zip(self.expressions, found, strict=True)
        ]

    def _write(self, document: dict[str, Any], folder: Path, name: str) -> bool:
        """Write an answer and show it; say if it is a failure."""
        failed = "failure" in document
        at = folder if self.count == 1 else folder / ANSWERS / name
        if not failed:
            image, found = document.pop("pictures")
            draw(at, image, found, document["expression"])
            more = {"config": self.settings, "versions": versions(), "git_commit": git_commit()}
            write_json(at / "segmentation.json", {"schema": 1, **document, **more})
        if self.count > 1:
            line = {key: value for key, value in document.items() if key not in _LONG}
            with (folder / "segmentations.jsonl").open("ab") as file:
                file.write(to_json({"folder": None if failed else f"{ANSWERS}/{name}", **line}) + b"\n")
        show("\n".join(told(document, self.count <= _FEW)))
        return failed


def safe(text: str) -> str:
    """Make a part of a file's name of a text.

    Example:
        >>> safe("the cat's / ../ bed")
        'the-cat-s-bed'
    """
    return re.sub(r"[^\w]+", "-", text, flags=re.ASCII)[:40].strip("-")


def describe(found: Segmentation, opened: OpenImage) -> dict[str, Any]:
    """Say what was found, and how all masks were ranked, as JSON has it."""
    areas, boxes = opened.areas.tolist(), found.proposals.boxes.tolist()
    ranking = [
        {"proposal": row, "score": float(found.scores[row]), "box": boxes[row], "area": areas[row]}
        for row in found.ranking.tolist()
    ]
    return {
        "noun_phrase": found.noun_phrase,
        "parsed": found.parsed.said(),
        "size": list(found.mask.shape),
        **{name: ranking[0][name] for name in ("box", "area", "score")},
        "segmentation": encode_rle(found.mask),
        "ranking": plain(ranking),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def draw(folder: Path, image: Tensor, found: Segmentation, expression: str) -> None:
    """Write the mask (0 and 255), what it covers with all else transparent, and the mask over the image."""
    folder.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(found.mask.numpy().astype("uint8") * 255)
    mask.save(folder / "mask.png")
    cutout = Image.fromarray(image.permute(1, 2, 0).numpy())
    cutout.putalpha(mask)
    left, top, right, bottom = map(int, found.box.tolist())
    cutout.crop((left, top, right, bottom)).save(folder / "cutout.png")
    overlay(image, found.mask, None, expression).save(folder / "overlay.png")


def told(document: dict[str, Any], ranked: bool) -> Iterator[str]:
    """Say an answer in lines: the failure, the choice alone, or the best of the ranking."""
    what = f"{document['image']}: {document['expression']}"
    if "failure" in document:
        yield f"{what}: FAILED: {document['failure']}"
        return
    best, (height, width) = document["ranking"], document["size"]
    if not ranked:
        yield f"{what}: {_row(best[0], height * width)}"
        return
    yield f"\n{what}"
    yield f"noun phrase '{document['noun_phrase']}', {len(best):,} masks, {width} x {height} pixels"
    yield f"rank     score  {'box (left top right bottom)':<28} area"
    for rank, row in enumerate(best[:_SHOWN], start=1):
        yield f"{rank:>4}  {_row(row, height * width)}"


def _row(row: dict[str, Any], pixels: int) -> str:
    score = "-" if row["score"] is None else f"{row['score']:.4f}"
    box = " ".join(f"{side:.0f}" for side in row["box"])
    return f"{score:>8}  {box:<28} {100 * row['area'] / pixels:.1f}%"
