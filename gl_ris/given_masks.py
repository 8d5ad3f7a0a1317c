"""Masks that any program predicted, measured as ours are."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from gl_ris.drawing import NONE, DrawingEvaluator, Drawn
from gl_ris.errors import UserError, unknown_name
from gl_ris.evaluator import SceneLike
from gl_ris.expression_ids import ExpressionIds, Key, expression_keys
from gl_ris.inputs import Input, by_name
from gl_ris.mask_files import Found, by_expression, check_sizes, read_found
from gl_ris.recipe import Recipe

MISSING = "no line in the predictions"

log = logging.getLogger(__name__)


class GivenMasks(DrawingEvaluator):
    """Measures masks that lie in files: a mask for each expression, none where a file says null.

    An expression without a line is a miss and counted as a failure; lines about none, and a second one about
    an expression, are refused, and so are masks of another size than the image.

    Args:
        predictions: A file or a folder, or a list of them, side by side: JSONL with image_id, sent_id (and
            ref_id where sent_id repeats) and segmentation (a COCO run-length code, polygons, or null for
            none), which the predictions.jsonl of a run is, too; a JSON list of COCO results with these ids;
            or a folder of pictures SENT_ID.png (REF_ID_SENT_ID.png where sent_id repeats), in which all that
            is not black is the mask.
        format: jsonl, coco or png; null recognises it.
        method: Of a file with several methods, as the predictions.jsonl of a run, the one to measure; null
            measures all.
        name: What the method is called in tables, or a list of names, one for each of predictions; null takes
            the method that the file names, or the name of the file.
        recipe: Of its fields only those about data have a meaning here: target_overlap and unseen.
    """

    def __init__(
        self,
        predictions: str | list[str] | None = None,
        format: str | None = None,
        method: str | None = None,
        name: str | list[str] | None = None,
        recipe: Recipe | str = "clean",
    ) -> None:
        super().__init__()
        given = [predictions] if isinstance(predictions, str) else predictions
        if not given:
            raise UserError("There are no predictions; name a file or a folder by predictions=FILE.")
        self.paths = [Path(path).expanduser() for path in given]
        self.names: list[str] | None = [name] if isinstance(name, str) else name
        if self.names is not None and len(self.names) != len(self.paths):
            raise UserError(
                f"name has {len(self.names)} names for {len(self.paths)} files; give one for each."
            )
        self.format, self.method, self.recipe = format, method, Recipe.resolve(recipe)
        self._lines: dict[str, dict[Key, Found]] | None = None

    @functools.cached_property
    def found(self) -> dict[str, list[Found]]:
        """The masks of each method by its title, as the files name what they are about."""
        titled: dict[str, list[Found]] = {}
        names: Sequence[str | None] = self.names or [None] * len(self.paths)
        for path, name in zip(self.paths, names, strict=True):
            for method, own in self._groups(path, name).items():
                if titled.setdefault(title := name or method or path.stem, own) is not own:
                    raise UserError(f"Two of the predictions are called '{title}'; give names by name=[A,B].")
        return titled

    def _groups(self, path: Path, name: str | None) -> dict[str | None, list[Found]]:
        groups: dict[str | None, list[Found]] = {}
        for one in read_found(path, self.format):
            groups.setdefault(one.method, []).append(one)
        if self.method is not None:
            if self.method not in groups:
                raise unknown_name(f"method of '{path}'", self.method, filter(None, groups))
            return {self.method: groups[self.method]}
        if name is not None and len(groups) > 1:
            fix = "choose one by method=, or leave name out"
            raise UserError(f"'{path}' has several methods ({', '.join(map(str, groups))}); {fix}.")
        return groups

    @property
    def methods(self) -> list[str]:
        """The titles."""
        return list(self.found)

    def input_files(self, data: Any) -> dict[str, Mapping[str, Input]]:
        """Return the files; a folder by one hash."""
        return {"predictions": by_name(self.paths)}

    def check(self, data: Any, trainer: Trainer) -> None:
        """Find out what every mask is about, and check their sizes; a `UserError` says what is wrong."""
        super().check(data, trainer)
        sizes = {record.image_id: (record.height, record.width) for record in data.whole}
        asked = set(expression_keys(data.records))
        for title, own in self._lines_of(data).items():
            check_sizes((one, sizes[key[0]]) for key, one in own.items())
            if beside := len(own.keys() - asked):
                rank_zero_only(log.warning)(
                    "%s: %d masks are of expressions that data.limit or a list leaves out.", title, beside
                )

    def _lines_of(self, data: Any) -> dict[str, dict[Key, Found]]:
        if self._lines is None:
            ids = ExpressionIds(expression_keys(data.whole))
            self._lines = {title: by_expression(own, ids) for title, own in self.found.items()}
        return self._lines

    def draw(self, scene: SceneLike) -> dict[str, Drawn]:
        """Decode the masks of a scene's expressions."""
        keys = [(scene.image_id, *ids) for ids in zip(scene.ref_ids, scene.sent_ids, strict=True)]
        return {
            title: self._drawn(scene, [own.get(key) for key in keys])
            for title, own in self._lines_of(self.data()).items()
        }

    def _drawn(self, scene: SceneLike, lines: Sequence[Found | None]) -> Drawn:
        height, width = scene.image.shape[1:]
        masks, failures = Drawn.nothing(scene, None)
        for row, line in enumerate(lines):
            if line is None or line.mask is None:
                failures[row] = MISSING if line is None else line.failure or NONE
            else:
                masks[row] = line.read((height, width)).to(masks.device)
        return Drawn(masks, failures)
