"""Masks that other programs predicted, and lists of expressions."""

from __future__ import annotations

import csv
import io
import shutil
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz.mutate import TEXTS, changed, damaged, dump, json_file, parse
from fuzz.runner import Case, Wrong
from fuzz.tables import CODE, SIZE, _given_mask

MASKS: list[Any] = [
    {"size": list(SIZE), "counts": CODE},
    {"size": list(SIZE), "counts": [20, 5, 4, 5, 74]},
    [[1.0, 1.0, 5.5, 1.0, 5.5, 6.0]],
    None,
]
LINES: list[Any] = [
    {"image_id": 7 + k // 3, "ref_id": k // 2, "sent_id": k, "segmentation": MASKS[k % 4], "score": 0.5}
    for k in range(6)
]
KEYS = [(7 + k // 3, k // 2, k) for k in range(6)]


def predicted(folder: Path) -> Case:
    """A mask for each of six expressions, at most."""
    from gl_ris.expression_ids import ExpressionIds
    from gl_ris.mask_files import by_expression, check_sizes, read_found

    ids, path = ExpressionIds(KEYS), folder / "masks"

    def lines(random: Random) -> bytes:
        rows = changed(random, LINES) if random.random() < 0.6 else LINES
        content = b"\n".join(map(dump, rows if isinstance(rows, list) else [rows])) + b"\n"
        return content if rows is not LINES else damaged(random, content)

    def case(random: Random) -> str:
        if random.random() < 0.3:
            return _pictures(random, path, ids)
        kind = random.choice(("jsonl", "coco"))
        content = lines(random) if kind == "jsonl" else json_file(random, LINES)
        path.write_bytes(content)
        try:
            known = by_expression(read_found(path, kind), ids)
            check_sizes((one, SIZE) for one in known.values())
            masks = {key: one.mask and one.read(SIZE) for key, one in known.items()}
        finally:
            path.unlink()
        rows = (
            parse(content) if kind == "coco" else [parse(row) for row in content.split(b"\n") if row.strip()]
        )
        _compare(masks, rows)
        return "read"

    return case


def _compare(masks: dict[Any, Any], rows: list[Any]) -> None:
    if len(rows) != len(masks):
        raise Wrong(f"{len(masks)} masks of {len(rows)} lines")
    for row in rows:
        said = {name: str(row[name]) for name in ("sent_id", "ref_id") if row.get(name) is not None}
        said["image_id"] = str(
            int(row["image_id"]) if isinstance(row["image_id"], float) else row["image_id"]
        )
        named = [dict(zip(("image_id", "ref_id", "sent_id"), map(str, key), strict=True)) for key in KEYS]
        (place,) = (n for n, own in enumerate(named) if said.items() <= own.items())
        mask, wanted = masks[KEYS[place]], row["segmentation"] and _given_mask(row["segmentation"])
        if row["segmentation"] is None:
            if mask is not None:
                raise Wrong(f"a mask of null: {row!r:.200}")
        elif row["segmentation"] == []:
            if mask.any():
                raise Wrong("pixels of no polygon")
        elif wanted is None or not np.array_equal(mask.numpy(), wanted):
            raise Wrong(f"another mask: {row!r:.200}")


def _pictures(random: Random, path: Path, ids: Any) -> str:
    from PIL import Image

    from gl_ris.mask_files import by_expression, check_sizes, read_found

    path.mkdir()
    try:
        for k in range(random.randint(1, 3)):
            pixels = np.array([[random.random() < 0.4 for _ in range(SIZE[1])] for _ in range(SIZE[0])])
            name = random.choice(
                (str(k), f"{k // 2}_{k}", *(t for t in TEXTS if t.isalnum() and len(t) < 99))
            )
            file = path / f"{name}.png"
            Image.fromarray(pixels).convert(random.choice(("1", "L", "P", "RGB", "RGBA"))).save(file)
            if random.random() < 0.5:
                file.write_bytes(damaged(random, file.read_bytes(), most=2))
        known = by_expression(read_found(path), ids)
        check_sizes((one, SIZE) for one in known.values())
        for one in known.values():
            found = one.read(SIZE).numpy()
            with warnings.catch_warnings(), Image.open(str(one.mask)) as image:
                warnings.simplefilter("ignore")
                wanted = np.asarray(image if image.mode == "P" else image.convert("RGB"))
            if image.mode in ("1", "L", "P", "RGB"):
                same = wanted != 0 if wanted.ndim == 2 else (wanted != 0).any(axis=2)
                if not np.array_equal(found, same):
                    raise Wrong(f"other pixels than Pillow's ({image.mode})")
    finally:
        shutil.rmtree(path)
    return "read"


def lists(folder: Path) -> Case:
    """Lists of expressions: JSON, CSV, a text with one a line; against json, csv and plain splitting."""
    from datamodules.filtering import listed
    from gl_ris.expression_ids import ExpressionIds

    ids = ExpressionIds(KEYS)
    rows: list[Any] = [0, "1", {"sent_id": 2}, {"sent_id": "3", "ref_id": 1, "split": "val"}, "2_5"]
    table = b"sent_id,ref_id,split\n0,,\n3,1,val\n5,2,test\n"
    names = {"list.json": b"", "list.csv": table, "list.txt": b"0\n 1_2\n\n5\n"}

    def case(random: Random) -> str:
        name = random.choice(list(names))
        whole = names[name]
        content = damaged(random, whole, most=2) if whole else json_file(random, rows)
        (folder / name).write_bytes(content)
        found = listed(folder / name, ids, "val")
        said = {_named(row) for row in _rows_of(name, content) if _is_of(row, "val")}
        if {str(key[2]) for key in found} != said:
            raise Wrong(f"{found!r:.200} in place of {said!r:.200}")
        return "read"

    return case


def _rows_of(name: str, content: bytes) -> list[Any]:
    if name.endswith("json"):
        return list(parse(content))
    text = content.decode("utf-8-sig")
    if name.endswith("csv"):
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _is_of(row: Any, split: str) -> bool:
    return not isinstance(row, dict) or row.get("split") in (None, "", split)


def _named(row: Any) -> str:
    """The last number is the id of the sentence, which no two have."""
    return str(row["sent_id"] if isinstance(row, dict) else row).rpartition("_")[2]
