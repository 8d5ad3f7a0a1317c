"""Methods that ran elsewhere, whose scores or heat maps are read from files; docs/heat.md has the formats."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from gl_ris.clip.image import ImageContext
from gl_ris.clip.region_clip import RegionCLIP
from gl_ris.errors import UserError, in_short
from gl_ris.heat import as_pictures, mask_scores
from gl_ris.scorers.base import Scorer, Texts

# bytes of a heat map: one of 4096 x 4096 in float32
LARGEST = 64 << 20
_Key = tuple[str, str]


class FromFile(Scorer):
    """A method that finds what it gives an expression in a file, by the ids of image and expression.

    An expression is named by its sentence id, "REF_SENT" ids where that repeats in an image, or its text. One
    that is not there counts as failed, and so does an image with damage. ``file`` is the path; a `UserError`
    if it is missing, damaged or of the other kind, or no run has said which image it is about.
    """

    reads_file = True
    cosines = False
    # what is read: a file or a folder
    kind: str

    def __init__(self, clip: RegionCLIP, *settings: Any, file: str | Path, **named: Any) -> None:
        super().__init__(clip, *settings, **named)
        self.file = Path(file).expanduser()
        if not (self.file.is_dir() if self.kind == "folder" else self.file.is_file()):
            raise UserError(f"Method '{self.name}' reads a {self.kind}, and there is none at '{file}'.")

    def texts(self, expressions: Texts, noun_phrases: Texts | None = None) -> list[str]:
        """Nothing is encoded."""
        return []

    def asked(self, context: ImageContext, expressions: Texts) -> Iterator[tuple[str, list[str]]]:
        """Give for each expression the id of the image and the names that it goes by."""
        if (scene := context.scene) is None:
            raise UserError(
                f"Method '{self.name}' finds scores by the ids of images: run it over a data set."
            )
        ids = zip(scene.ref_ids, scene.sent_ids, scene.expressions, strict=True)
        known = [[f"{ref}_{sent}", f"{ref}_{text}", str(sent), text] for ref, sent, text in ids]
        # behind the scene's own expressions may stand phrases to re-rank by, which have no ids
        own = len(known) if list(expressions[: len(known)]) == scene.expressions else 0
        by_text = {names[-1]: names for names in known}
        for row, text in enumerate(expressions):
            yield str(scene.image_id), known[row] if row < own else by_text.get(text, [text])


class _Line(msgspec.Struct):
    image_id: int | str
    scores: list[float | None] | dict[int, float]
    sent_id: int | str | None = None
    ref_id: int | str | None = None
    expression: str | None = None

    def key(self) -> _Key:
        name = self.expression if self.sent_id is None else str(self.sent_id)
        if name is None:
            raise ValueError("it has neither sent_id nor expression")
        return str(self.image_id), name if self.ref_id is None else f"{self.ref_id}_{name}"

    def row(self, count: int) -> list[float]:
        given, in_order = self.scores, isinstance(self.scores, list)
        scores: dict[int, float | None] = dict(given if isinstance(given, dict) else enumerate(given))
        if not all(0 <= number < count for number in scores) or (in_order and len(scores) < count):
            raise ValueError(f"a line has scores for other proposals than the {count} there are")
        return [-torch.inf if (score := scores.get(number)) is None else score for number in range(count)]


class ScoreFile(FromFile):
    """Scores of the proposals, higher is better: a JSONL file with a line for each expression.

    A line has ``image_id``, ``sent_id`` (and ``ref_id``) or ``expression``, and ``scores``: a list in the
    order of the proposals, or an object from the number of a proposal, from 0, to its score.
    """

    name = "score_file"
    title = "Score file"
    kind = "file"
    missing = "no scores in the file"

    def __init__(self, clip: RegionCLIP, *settings: Any, file: str | Path, **named: Any) -> None:
        super().__init__(clip, *settings, file=file, **named)
        self.lines: dict[_Key, _Line] = {}
        decode = msgspec.json.Decoder(_Line).decode
        try:
            for text in self.file.read_bytes().splitlines():
                key = (line := decode(text)).key()
                if self.lines.setdefault(key, line) is not line:
                    raise ValueError("an expression has scores already")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{file}: line {len(self.lines) + 1:,} is damaged ({in_short(error)}); a line is an object "
                "with image_id, sent_id or expression, and scores."
            ) from error

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Look the scores up."""
        count, rows = len(context.masks), []
        for image, names in self.asked(context, expressions):
            line = next((self.lines[image, name] for name in names if (image, name) in self.lines), None)
            rows.append([torch.nan] * count if line is None else line.row(count))
        return torch.tensor(rows, dtype=torch.float64, device=context.masks.device)


class HeatFiles(FromFile):
    """Heat maps in a folder, higher where the expression is meant, scored by ``heat_rule`` of the recipe.

    Those of an image are arrays in ``IMAGE.npz``, or files ``IMAGE/NAME.npy``: real ``(rows, columns)`` of
    any size and scale, that cover the image. They are brought to its size and scaled to [0, 1].
    """

    name = "heat_files"
    title = "Heat files"
    kind = "folder"
    missing = "no heat map in the folder"

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Score the masks by one map after the other; those of one without a map are not numbers."""
        pictures = self._pictures(context, expressions)
        return torch.cat([mask_scores(one, context.masks, self.recipe.heat_rule) for one in pictures])

    def maps(self, context: ImageContext, expressions: Texts) -> Tensor:
        """Maps of expressions, ``(E, H, W)`` in [0, 1]; NaN where there is none."""
        return torch.cat([*self._pictures(context, expressions)])

    def _pictures(self, context: ImageContext, expressions: Texts) -> Iterator[Tensor]:
        (height, width), device = context.image.shape[1:], context.masks.device
        for asked in self.asked(context, expressions):
            if (found := self._read(*asked)) is None:
                yield torch.full((1, height, width), torch.nan, device=device)
            else:
                yield as_pictures(torch.from_numpy(found)[None].to(device), (height, width))

    def _read(self, image: str, names: Sequence[str]) -> np.ndarray | None:
        if os.path.isfile(path := self._inside(f"{image}.npz")):
            with zipfile.ZipFile(path) as archive:
                sizes = {info.filename: info.file_size for info in archive.infolist()}
                for name in (f"{name}.npy" for name in names if f"{name}.npy" in sizes):
                    return _array(sizes[name], lambda name=name: archive.read(name))
        for path in (self._inside(f"{image}/{name}.npy") for name in names):
            # False, too, for a text that is too long for a name
            if os.path.isfile(path):
                return _array(path.stat().st_size, path.read_bytes)
        return None

    def _inside(self, name: str) -> Path:
        # the name alone is judged, not where a link in the folder leads
        path = Path(os.path.abspath(self.file / name))
        if not path.is_relative_to(os.path.abspath(self.file)):
            raise ValueError("a heat map would lie outside of the folder")
        return path


def _array(size: int, read: Any) -> np.ndarray:
    if size > LARGEST:
        raise ValueError(f"a heat map is larger than {LARGEST >> 20} MB")
    try:
        found = np.lib.format.read_array(io.BytesIO(read()), allow_pickle=False)
    except Exception as error:  # whatever zipfile, zlib, ast or numpy raise, some with an address in memory
        raise ValueError("a heat map cannot be read: it must be an array of numbers") from error
    if found.ndim != 2 or not found.size or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise ValueError(
            f"a heat map is no (rows, columns) of finite numbers, but {found.dtype} {found.shape}"
        )
    # whatever their scale and offset, which float32 may not have room for
    exact = found.astype(np.longdouble)
    span = np.ptp(exact)
    return ((exact - exact.min()) / (span or 1)).astype(np.float32)
