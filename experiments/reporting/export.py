"""What a run has predicted, in the forms of other tools: COCO files, pictures of masks, a row of a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiments.cli.config_file import read_config
from experiments.cli.overrides import current_paths
from experiments.reporting.finished import read_methods, require_finished
from experiments.reporting.frame import frame_of, note_on_intervals, number, render, write_text
from gl_ris.errors import UserError, in_short, unknown_name
from gl_ris.expression_ids import ExpressionIds, Key
from gl_ris.files import atomic_file, to_json
from gl_ris.masks import decode_rle, encode_rle, tight_boxes
from gl_ris.predictions import SKIPPED, Prediction
from gl_ris.results import ALSO_CALLED, Results

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.base import RISDataModule

Codes = list[tuple[Prediction, dict[str, Any] | None]]  # of a method: its records and their masks

_SAFE = re.compile(r"\w[\w.+-]{0,200}", re.ASCII)  # what is a name of a file everywhere, and never a path
_EVERY = "Every miss is counted."
_HEADS = ("oIoU (cIoU)", "mIoU (gIoU)")


def export(run: Path, form: str, method: str | None, out: Path) -> list[str]:
    """Write what a finished run has predicted into a folder, and say what was written.

    ``form`` is one of `FORMS`; ``method`` may be None where the run has one. `UserError` if the run is not
    finished, has no such method, or cannot be written in that form.
    """
    if form not in FORMS:
        raise unknown_name("format", form, FORMS)
    require_finished(run)
    return FORMS[form](run, method, out)


def data_of(run: Path) -> RISDataModule:
    """Open the data that a run was on, as its config.yaml has them; a `UserError` if they cannot be."""
    from jsonargparse import ArgumentError, ArgumentParser

    import datamodules.known  # noqa: F401  so that short names are known
    from datamodules.base import RISDataModule

    settings = current_paths(read_config(run / "config.yaml"))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(RISDataModule, "data")
    try:
        data = parser.instantiate_classes(parser.parse_object({"data": settings.get("data")})).data
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(f"The data of '{run}' cannot be opened ({in_short(error)}).") from error
    data.require_files()
    data.prepare_data()
    return data


def _predicted(run: Path, method: str | None) -> Codes:
    """Return the records of a method with their masks; where it abstained, one without a pixel says so."""
    methods = read_methods(run)
    if method is None and len(methods) > 1:
        raise UserError(f"'{run}' has several methods ({', '.join(methods)}); choose one by method=.")
    if method is not None and method not in methods:
        raise unknown_name(f"method of '{run}'", method, methods)
    blank = {
        one.image_id: encode_rle(torch.zeros(one.image.size, dtype=torch.bool))
        for own in methods.values()
        for one in own.values()
        if one.image is not None
    }
    chosen = methods[method or next(iter(methods))].values()
    return [(one, one.segmentation or (one.abstained and blank.get(one.image_id)) or None) for one in chosen]


def _counted(codes: Codes) -> str:
    there = sum(code is not None for _, code in codes)
    blank = sum(record.abstained and code is not None for record, code in codes)
    said = f" (without a pixel where it abstained: {blank:,})" if blank else ""
    return f"{there:,} masks for {len(codes):,} expressions{said}"


def _coco(run: Path, method: str | None, out: Path) -> list[str]:
    """Write results and their ground truth; each expression is a category, so that it is its own label."""
    codes, data = _predicted(run, method), data_of(run)
    numbers = {label: n for n, label in enumerate(dict.fromkeys(one.expression for one, _ in codes), start=1)}
    targets = dict(_targets(data))
    if {record.key for record, _ in codes} != targets.keys():
        raise UserError(f"The data of '{run}' are no longer those that it was on; bring its files back.")
    found = [_entry(record, numbers, code) for record, code in codes if code is not None]
    annotations = [
        {"id": number, **_entry(record, numbers, encode_rle(mask)), "iscrowd": 0}
        for number, (record, _) in enumerate(codes, start=1)
        if (mask := targets[record.key]) is not None
    ]
    images = [
        {"id": one.image_id, "file_name": one.file_name, "height": one.height, "width": one.width}
        for one in data.records
    ]
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    for name, content in (("coco_results.json", found), ("coco_instances.json", truth)):
        with atomic_file(out / name) as file:
            file.write(to_json(content))
    return [
        f"{out / 'coco_results.json'}: {_counted(codes)}",
        f"{out / 'coco_instances.json'}: {len(annotations):,} targets on {len(images):,} images",
    ]


def _targets(data: RISDataModule) -> Iterator[tuple[Key, Tensor | None]]:
    """Yield the target of every expression; None where it is damaged or not known."""
    from datamodules.objects import Outlines

    for record in data.records:
        found = zip(record.referents, *Outlines(record, data.rule).targets(), strict=True)
        for referent, mask, fault in found:
            known = mask if referent.targeted and fault is None else None
            yield from (((record.image_id, referent.ref_id, sent), known) for sent in referent.sent_ids)


def _entry(record: Prediction, numbers: dict[str, int], code: dict[str, Any]) -> dict[str, Any]:
    mask = decode_rle(code)
    x0, y0, x1, y1 = tight_boxes(mask[None])[0].tolist()
    return {
        "image_id": record.image_id,
        "category_id": numbers[record.expression],
        "segmentation": code,
        "area": int(mask.sum()),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "score": 1.0 if record.score is None else record.score,
        "ref_id": record.ref_id,
        "sent_id": record.sent_id,
    }


def _masks(run: Path, method: str | None, out: Path) -> list[str]:
    """Write a picture of each mask, 255 on 0, by the name of its expression; none where there is no mask."""
    from PIL import Image

    codes, folder = _predicted(run, method), out / "masks"
    names = ExpressionIds(record.key for record, _ in codes).names
    if odd := [name for name in names.values() if not _SAFE.fullmatch(name)]:
        raise UserError(f"The id {odd[0]!r:.100} of an expression is no name of a file; use format=coco.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"'{folder}' is not empty; remove it, or name another folder by out=FOLDER.")
    folder.mkdir(parents=True, exist_ok=True)
    for record, code in codes:
        if code is not None:
            pixels = decode_rle(code).numpy().astype("uint8") * 255
            Image.fromarray(pixels).save(folder / f"{names[record.key]}.png")
    return [f"{folder}: {_counted(codes)}"]


def _leaderboard(run: Path, method: str | None, out: Path) -> list[str]:
    """Write a row of Markdown for each method: every miss counted, and what the figures are of."""
    found = Results.read(run / "results.json")
    figures, sure = found.every_miss or found.methods, found.every_miss_intervals or found.intervals or {}
    if method is not None and method not in figures:
        raise unknown_name(f"method of '{run}'", method, figures)
    chosen = {name: row for name, row in figures.items() if method in (None, name)}
    keys = list(dict.fromkeys(["oIoU", "mIoU", *(key for row in chosen.values() for key in row)]))
    # GRES has figures of its own by the names that other papers give to these
    own = "gIoU" in keys
    counted = found.n_expressions_evaluated + found.n_expressions_skipped
    counted += found.n_expressions_no_target if own else 0
    where = " ".join(filter(None, (found.dataset, found.split, found.partition and f"({found.partition})")))
    rows = [
        [
            *(name, where, found.proposals),
            *(number(row.get(key), interval=sure.get(name, {}).get(key)) for key in keys),
            str(counted),
        ]
        for name, row in chosen.items()
    ]
    columns = ["Method", "Data", "Proposals", *(keys[:2] if own else _HEADS), *keys[2:], "Expressions"]
    also = f"{found.n_expressions_no_target:,} have no target and are in gIoU, cIoU and N_acc alone."
    # a document of schema 1 has only what its run counted
    skipped = 0 if found.every_miss else sum(n for why, n in found.failures.items() if why == SKIPPED)
    missed = f"{skipped:,} expressions are left out for want of proposals." if skipped else _EVERY
    notes = [missed, also if own else ALSO_CALLED, *note_on_intervals(found.document())]
    text = render(frame_of(rows, columns), "markdown", text=(0, 1, 2))
    write_text(out / "leaderboard.md", f"{text}\n\n{' '.join(notes)}\n")
    return [text, str(out / "leaderboard.md")]


FORMS: dict[str, Callable[[Path, str | None, Path], list[str]]] = {
    "coco": _coco,
    "masks": _masks,
    "leaderboard": _leaderboard,
}
