"""The pictures of a report: each image once, as a JPEG, and all masks on it as outlines."""

from __future__ import annotations

import base64
import io
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.cli.config_file import read_config
from experiments.cli.overrides import current_paths
from experiments.reporting.export import data_of
from experiments.reporting.report_items import Column
from gl_ris.errors import UserError, in_short
from gl_ris.files import to_json
from gl_ris.heat import as_pictures
from gl_ris.masks import decode_rle
from gl_ris.progress import bar
from gl_ris.proposals.source import give_to
from gl_ris.proposals.store import ImageKey
from gl_ris.zero_shot import ZeroShotRIS

BUDGET = 25_000_000  # bytes of pictures, unless their number is given
_SIDE, _QUALITY = 480, 80  # of a JPEG: longest side in pixels
_GRID = 2  # units of outlines in a pixel of the JPEG
_SLACK = 0.8  # pixels by which an outline may be off where the image is shown at that size


class Pictures:
    """Finds the images of a report, and draws masks on them.

    After `embed`, ``left_out`` counts by reason what is not in the pictures.
    """

    def __init__(self, columns: Sequence[Column], paths: Sequence[Path], heat: bool) -> None:
        self.columns, self.left_out = columns, Counter[str]()
        self._data = [data_of(path) for path in paths]
        self._index = [{image: n for n, image in enumerate(data.image_ids())} for data in self._data]
        images = {record.image_id for record in columns[0].records}
        for path, index in zip(paths, self._index, strict=True):
            if foreign := images - index.keys():
                raise UserError(
                    f"The data of '{path}' have no image {min(foreign, key=str)} any more; bring its files "
                    "back, or leave images out by pictures=0."
                )
        ranked = {own.run for own in columns if any(record.ranked for record in own.records)}
        self._models = {run: model for run in ranked if (model := self._model(paths[run])) is not None}
        self._sources = {run: model.open_source(self._data[run]) for run, model in self._models.items()}
        for data in self._data:
            give_to(data, None)  # nothing is generated for a page
        self._heat = heat

    def _model(self, path: Path) -> ZeroShotRIS | None:
        """Make the module of a run, which knows its proposals and loads nothing; None if it cannot be."""
        from jsonargparse import ArgumentError, ArgumentParser

        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(ZeroShotRIS, "model")
        try:
            settings = current_paths(read_config(path / "config.yaml")).get("model")
            return parser.instantiate_classes(parser.parse_object({"model": settings})).model
        except (ArgumentError, ValueError, TypeError) as error:
            self.left_out[f"runs whose proposals cannot be opened ({in_short(error)})"] += 1
            return None

    def embed(self, document: dict[str, Any], limit: int | None) -> Iterator[tuple[int, str, str]]:
        """Yield number, JPEG and outlines of images; tell the document which masks are whose.

        At most ``limit`` images, or as many as `BUDGET` holds, drawn with seed 0.
        """
        rows = defaultdict[int, list[int]](list)
        for row, item in enumerate(document["items"]):
            rows[item["image"]].append(row)
        drawn, size = random.Random(0).sample(sorted(rows), len(rows)), 0
        for count, number in enumerate(bar("drawing", "image", drawn)):
            if size > BUDGET if limit is None else count >= limit:
                bound = f"{BUDGET / 1e6:.0f} MB" if limit is None else f"pictures={limit}"
                self.left_out[f"images beyond {bound}"] = len(drawn) - count
                return
            scene = self._scene(document["images"][number][0])
            if scene.error is not None:
                self.left_out["images that cannot be read"] += 1
                continue
            picture = _jpeg(scene.image)
            outlines = Outlines(scene.image.shape[1:], picture.size)
            try:
                self._draw(scene, [(row, document["items"][row]) for row in rows[number]], outlines)
            except (KeyError, ValueError) as error:  # another expression, another size
                raise UserError(
                    f"Image {scene.image_id} of the data is no longer what the runs were on; bring its files "
                    "back, or leave images out by pictures=0."
                ) from error
            document["images"][number][1:] = outlines.size
            code, drawings = _data_url(picture), to_json({"paths": outlines.paths, "heat": outlines.heat})
            size += len(code) + len(drawings)
            yield number, code, drawings.decode()

    def _draw(self, scene: Any, items: Sequence[tuple[int, dict[str, Any]]], outlines: Outlines) -> None:
        place = {key: row for row, key in enumerate(zip(scene.ref_ids, scene.sent_ids, strict=True))}
        own = {run: self._proposals(run, scene) for run in self._models}
        heat = self._maps(scene) if self._heat else {}
        for row, item in items:
            referent = int(scene.referents[place[item["ref"], item["sent"]]])
            if (target := scene.targets[referent]).any():
                item["target"] = outlines.add(("target", referent), target)
            for column, result in zip(self.columns, item["results"], strict=True):
                record, masks = column.records[row], own.get(column.run)
                if record.segmentation is not None:
                    code = record.segmentation
                    result["mask"] = outlines.add(code["counts"], decode_rle(code, scene.image.shape[1:]))
                maps = heat.get((column.run, column.method))
                if maps is not None and (one := maps[place[item["ref"], item["sent"]]]).isfinite().all():
                    result["heat"] = len(outlines.heat)
                    outlines.heat.append(_data_url(_heated(one)))
                if masks is not None:
                    for entry in result.get("ranked", ()):
                        entry.append(outlines.add((column.run, entry[0]), masks[entry[0]]))

    def _proposals(self, run: int, scene: Any) -> Tensor | None:
        """Return the masks that a run chose from, as the data or the store still have them; else None."""
        source = self._sources[run]
        if source is None:
            proposals = (self._scene(scene.image_id, run) if run else scene).proposals
        else:
            key = ImageKey.of(scene.image_id, scene.image)
            proposals = None if source.store is None else source.store.get(key)
        masks = None if proposals is None else self._models[run].post(proposals).masks
        seen = next(column.seen.get(scene.image_id) for column in self.columns if column.run == run)
        if masks is None or (seen is not None and len(seen.facts.areas) != len(masks)):
            self.left_out["images whose proposals are no longer stored"] += 1
            return None
        return masks

    def _scene(self, image_id: int | str, run: int = 0) -> Any:
        return self._data[run].scenes[self._index[run][image_id]]

    def _maps(self, scene: Any) -> dict[tuple[int, str], Tensor]:
        """Compute the maps ``(E, h, w)`` of the methods that have some, by run and method."""
        found = {}
        for run, model in self._models.items():
            model.configure_model()
            for variant, scorer in zip(model.variants, cast("list[Any]", model.scorers), strict=True):
                if hasattr(scorer, "maps"):
                    with torch.no_grad():
                        context = scorer.clip.context(scene.image, torch.zeros_like(scene.targets[:0]))
                        context.scene = scene
                        maps = scorer.maps(context, scene.expressions).float()
                    found[run, variant.title] = as_pictures(maps, maps.shape[1:])
        return found


class Outlines:
    """Masks of an image as paths of SVG, each once, in halves of a pixel of its JPEG."""

    def __init__(self, shape: Sequence[int], size: tuple[int, int]) -> None:
        self.scale, self.size = size[0] / shape[1], [_GRID * side for side in size]
        self.paths: list[str] = []
        self.heat: list[str] = []  # pictures of heat maps
        self._known: dict[Any, int] = {}

    def add(self, key: Any, mask: Tensor) -> int:
        """Return the number of a mask, bool ``(H, W)``; ``key`` tells it from others."""
        if key not in self._known:
            self._known[key] = len(self.paths)
            self.paths.append(_path(mask.numpy(), self.scale))
        return self._known[key]


def _path(mask: np.ndarray, scale: float) -> str:
    from matplotlib.path import Path as Line
    from skimage.measure import find_contours

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return ""
    top, left = rows[0], columns[0]
    inside = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(np.float32)
    parts = []
    for contour in find_contours(inside, 0.5):
        line = Line(contour)
        line.simplify_threshold = _SLACK * max(mask.shape) / _SIDE
        # without the mark of its end; many times as fast as skimage's approximate_polygon
        points = np.asarray(line.cleaned(simplify=True).vertices, dtype=np.float64)[:-1]
        whole = np.rint((points[:, ::-1] + (left - 0.5, top - 0.5)) * scale * _GRID).astype(int)
        whole = whole[np.any(whole != np.roll(whole, 1, axis=0), axis=1)]
        if len(whole) < 3:
            continue
        steps = " ".join(f"{x} {y}" for x, y in np.diff(whole, axis=0).tolist())
        parts.append(f"M{whole[0, 0]} {whole[0, 1]}l{steps}z".replace(" -", "-"))
    return "".join(parts)


def _jpeg(image: Tensor) -> Image.Image:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return picture


def _heated(values: Tensor) -> Image.Image:
    from matplotlib import colormaps

    picture = Image.fromarray(colormaps["inferno"](values.numpy(), bytes=True)[..., :3])
    picture.thumbnail((_SIDE // 3, _SIDE // 3))
    return picture


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
