"""Proposals as COCO results, parquet files of the hub, and a folder of one's own."""

from __future__ import annotations

import csv
import functools
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from fuzz.annotations import INSTANCES, REFS, clean
from fuzz.mutate import changed, damaged, json_file, odd, parse
from fuzz.outlines import attempt, rle_mask, segmentation_mask
from fuzz.runner import Case, Wrong

SIZE = (9, 12)
CODE = "d045000m1"
ENTRIES: list[Any] = [
    {"image_id": 7 + k // 3, "category_id": 1, "score": 0.9 - k / 10, "segmentation": item["segmentation"]}
    for k, item in enumerate(INSTANCES["annotations"] * 2)
]
ENTRIES[1]["segmentation"] = {"size": [9, 12], "counts": CODE}


def coco_results(folder: Path) -> Case:
    """A list of masks with scores."""
    from gl_ris.proposals.coco_results import COCOResults

    path, image = folder / "results.json", torch.zeros(3, *SIZE, dtype=torch.uint8)

    def case(random: Random) -> str:
        content = json_file(random, ENTRIES)
        path.write_bytes(content)
        source = COCOResults(str(path))
        ids, outcomes = list(source.entries), []
        entries = _parsed(content)
        for image_id in ids[:6]:
            outcomes.append(_compare_masks(source, image_id, image, entries))
        return "failed" if "failed" in outcomes else "read"

    return case


def _parsed(content: bytes) -> Any:
    try:
        return parse(content)
    except Exception as error:
        raise Wrong(f"read what no oracle reads ({error!r:.200})") from error


def _compare_masks(source: Any, image_id: Any, image: torch.Tensor, entries: list[Any]) -> str:
    try:
        found = source.for_image(image_id, image)
    except ValueError:
        return "failed"
    own = [entry for entry in entries if entry["image_id"] == image_id]
    own = [(entry.get("score", entry.get("predicted_iou")), entry["segmentation"]) for entry in own]
    own.sort(key=lambda item: -item[0])
    masks = [(score, _given_mask(outline)) for score, outline in own]
    if any(mask is None for _, mask in masks):
        raise Wrong(f"a mask of what is damaged: {own!r:.300}")
    wanted = [(np.float32(score), mask) for score, mask in masks if mask is not None and mask.any()]
    if len(found) != len(wanted) or found.scores.tolist() != [float(score) for score, _ in wanted]:
        raise Wrong(f"scores {found.scores.tolist()} in place of {[float(score) for score, _ in wanted]}")
    if any(
        not np.array_equal(mine.numpy(), mask) for mine, (_, mask) in zip(found.masks, wanted, strict=True)
    ):
        raise Wrong(f"another mask: {own!r:.300}")
    return "read"


def _given_mask(outline: Any) -> np.ndarray | None:
    rows = (
        isinstance(outline, list)
        and len(outline) == SIZE[0]
        and all(isinstance(row, list) for row in outline)
    )
    if rows and all(type(value) is bool for row in outline for value in row):
        return np.array(outline) if {len(row) for row in outline} == {SIZE[1]} else None
    # COCO results need no size of their own
    return rle_mask(outline, SIZE) if isinstance(outline, dict) else segmentation_mask(outline, *SIZE)


def parquet(folder: Path) -> Case:
    """Files of the two forms: damaged bytes, and values that are damaged while the file is sound."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from datamodules import RefCOCOBenchmark, RefCOCOM
    from datamodules.hf import files, rows

    path = folder / "x.parquet"
    forms = {"benchmark": RefCOCOBenchmark, "refcoco-m": RefCOCOM}
    tables = {name: pa.Table.from_pylist(_hub_rows(name)) for name in forms}
    written: dict[tuple[str, str], bytes] = {}
    for name, table in tables.items():
        for packing in ("none", "snappy", "zstd"):
            pq.write_table(table, folder / "whole.parquet", compression=packing, row_group_size=2)
            written[name, packing] = (folder / "whole.parquet").read_bytes()

    def content(random: Random, name: str) -> bytes:
        if random.random() < 0.5:
            found = damaged(random, written[name, random.choice(("none", "none", "snappy", "zstd"))], most=2)
            return found if random.random() < 0.3 else found[:-4] + b"PAR1"
        try:
            values = changed(random, _hub_rows(name), as_json=False, most=2)
            table = pa.Table.from_pylist(values, schema=random.choice((None, tables[name].schema)))
            pq.write_table(table, path, row_group_size=2)
        except Exception:  # what pyarrow does not write is no case
            return damaged(random, written[name, "none"], most=1)
        return path.read_bytes()

    def case(random: Random) -> str:
        name = random.choice(list(forms))
        columns, reader = forms[name].columns, forms[name].read_row
        path.write_bytes(content(random, name))
        files.check_form(path, (*columns, "image"))
        read = [(place, reader(row, f"'{path}'", "val")) for place, row in files.read_rows(path, columns)]
        records = rows.merge((record for _, record in read), f"'{path}'")
        wanted = pq.read_table(path, columns=list(columns), use_threads=False).to_pylist()
        if len(read) != len(wanted):
            raise Wrong(f"{len(read)} of {len(wanted)} rows")
        for (_, record), row in zip(read, wanted, strict=True):
            _compare_row(name, record, row)
        images = files.ParquetImages({record.image_id: place for place, record in read})
        outcomes = {attempt(functools.partial(images, record)) for record in records}
        for record in records:
            for referent in record.referents:
                outcomes.add(attempt(functools.partial(referent.mask, *SIZE, "union")))
        return "failed" if "failed" in outcomes else "read"

    return case


def _hub_rows(name: str) -> list[dict[str, Any]]:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", SIZE[::-1], (200, 30, 30)).save(buffer, "PNG")
    picture = {"bytes": buffer.getvalue(), "path": "7.png"}
    refs = [dict(ref, split="val") for ref in REFS]
    boxes = [{**item, "segmentation": [[1.0, 1.0, 5.5, 1.0, 5.5, 6.0]]} for item in INSTANCES["annotations"]]
    images = INSTANCES["images"]
    if name == "benchmark":
        pairs = [{"ref_info": ref, "ann_info": item} for ref, item in zip(refs, boxes, strict=True)]
        return [
            {"ref_list": pairs[2 * k : 2 * k + 2], "image_info": images[k], "image": picture} for k in (0, 1)
        ]
    sample = {
        "sentences": ["left dog", "caf\u00e9"],
        "mask": {"counts": CODE, "size": list(SIZE)},
        "category": "dog",
    }
    return [
        {
            "image_id": 7 + k,
            "file_name": f"{k}.jpg",
            "image": picture,
            "samples": [{**sample, "id": 10 * k + j} for j in (0, 1)],
        }
        for k in (0, 1, 2)
    ]


def _compare_row(name: str, record: Any, row: dict[str, Any]) -> None:
    if name == "refcoco-m":
        said = [(s["id"], tuple(map(clean, s["sentences"]))) for s in row["samples"]]
    else:
        refs = [item["ref_info"] for item in row["ref_list"]]
        said = [(ref["ref_id"], tuple(clean(s["sent"]) for s in ref["sentences"])) for ref in refs]
    found = [(referent.ref_id, referent.sentences) for referent in record.referents]
    if found != said:
        raise Wrong(f"{found!r:.200} in place of {said!r:.200}")


def own_folder(folder: Path) -> Case:
    """``data=folder``: a CSV or JSONL file beside images and masks."""
    from PIL import Image

    from datamodules.own_folder import Folder

    root = folder / "mine"
    root.mkdir()
    colours = {"a.png": (200, 30, 30), "b.jpg": (30, 30, 200)}
    for name, colour in colours.items():
        Image.new("RGB", SIZE[::-1], colour).save(root / name)
    Image.fromarray(np.arange(108).reshape(SIZE).astype(np.uint8) % 2 * 255).save(root / "mask.png")
    masks = ["mask.png", {"size": list(SIZE), "counts": CODE}, [[1, 1, 5, 1, 5, 6]], ""]
    rows = [
        {
            "file": list(colours)[k % 2],
            "expression": f"left dog {k}",
            "mask": masks[k % 4],
            "id": k + 1,
            "split": "val",
        }
        for k in range(6)
    ]

    def written(random: Random, suffix: str) -> bytes:
        values = changed(random, rows, as_json=suffix == ".jsonl") if random.random() < 0.6 else rows
        values = values if isinstance(values, list) else [values]
        if suffix == ".jsonl":
            from fuzz.mutate import dump

            content = b"\n".join(map(dump, values)) + b"\n"
        else:
            text = io.StringIO()
            writer = csv.writer(text, delimiter=random.choice(",;\t"))
            writer.writerow(random.choice((list(rows[0]), [*rows[0], odd(random, False)])))
            for row in values:
                cells = row.values() if isinstance(row, dict) else [row]
                writer.writerow([cell if isinstance(cell, str) else json.dumps(cell) for cell in cells])
            content = text.getvalue().encode("utf-8", "surrogatepass")
        return damaged(random, content, most=2) if values is rows else content

    def case(random: Random) -> str:
        path = root / f"rows{random.choice(('.csv', '.jsonl'))}"
        content = written(random, path.suffix)
        path.write_bytes(content)
        try:
            data = Folder(root, allow_missing_images=random.random() < 0.3)
            records, reader = data.records, data.image_reader()
        finally:
            path.unlink()
        _compare_own(records, content, path.suffix)
        outcomes = set()
        for record in records:
            outcomes.add(attempt(functools.partial(reader, record)))
            for referent in (r for r in record.referents if r.segmentations and record.height < 99):
                outcomes.add(attempt(functools.partial(referent.mask, record.height, record.width, "union")))
        return "failed" if "failed" in outcomes else "read"

    return case


def _compare_own(records: list[Any], content: bytes, suffix: str) -> None:
    text = content.decode("utf-8-sig")
    if suffix == ".jsonl":
        rows = [json.loads(line, strict=False) for line in text.split("\n") if line.strip()]
        said = sorted(row["expression"].strip() for row in rows)
    else:
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        lines = [
            cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(cells)
        ]
        at = [name.strip() for name in lines[0]].index("expression")
        said = sorted(cells[at].strip() for cells in lines[1:])
    found = sorted(text for record in records for referent in record.referents for text in referent.sentences)
    if len(found) != len(said) or any(one != clean(other) for one, other in zip(found, said, strict=True)):
        raise Wrong(f"{found!r:.300} in place of {said!r:.300}")
