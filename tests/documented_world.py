"""A working folder in which documented command lines find the files that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from experiments.cli.command import CONFIGS
from gl_ris.expression_ids import expression_keys
from real_data import HEIGHT, WIDTH, write_real_data

WEIGHTS = (
    *("data/weights/FreeSOLO_R101_30k_pl.pth", "data/weights/cutler_cascade_final.pth"),
    *("checkpoints/lavt_gref_umd.pth", "checkpoints/lavt_refcoco.pth", "checkpoints/cris_r50_refcoco.pth"),
    *("weights.pt", "lavt_refcocog_umd.pth", "runs/supervised/<time>/weights.pt"),
)


def make_world(root: Path) -> None:
    """Write into a folder everything that lines name, and a small RefShapes into a cache of its own."""
    from datamodules import refshapes
    from tiny_sams import FAMILIES, save_sam

    write_real_data(root / "data")
    # heat maps and scores of another program
    (root / "maps").mkdir()
    (root / "scores.jsonl").touch()
    (root / "photos").mkdir()
    for name in ("photo.jpg", "drawing.png", "photos/1.jpg"):
        (root / name).touch()
    for name in WEIGHTS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    outline = {"segmentation": [[4, 4, 20, 4, 20, 24]], "score": 0.5}
    (root / "masks.json").write_text(json.dumps([{"image_id": n, **outline} for n in range(130)]))
    (root / "runs" / "zero_shot" / "<time>").mkdir(parents=True)
    (root / "runs" / "zero_shot" / "<time>" / "config.yaml").write_text("model: {alpha: 0.3}\n")
    table = yaml.safe_load((CONFIGS / "tables" / "1.yaml").read_text())
    encoders = {"rn": "refshapes-rn", "vit": "refshapes-vit"}
    (root / "my_table.yaml").write_text(yaml.safe_dump({"rows": table["rows"][:2], "encoders": encoders}))
    docs = CONFIGS.parent / "docs"
    for page, module in (("new_scorer.md", "my_methods"), ("proposals.md", "my_masks")):
        code = (docs / page).read_text().split("```python\n")[-1].split("```")[0]
        (root / f"{module}.py").write_text(code)
    blocks = (docs / "rerank.md").read_text().split("```python\n")[1:]
    for module, code in zip(("my_rules", "my_reranker"), blocks, strict=True):
        (root / f"{module}.py").write_text(code.split("```")[0])
    for family in FAMILIES:
        save_sam(root / "sams" / family, family)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GL_RIS_CACHE", str(root / "cache"))
        small(patch)
        for data in (refshapes.RefShapes(), refshapes.RefShapes(split="train"), refshapes.RefShapesPhrases()):
            data.prepare_data()
        write_predictions(root)


def write_predictions(root: Path) -> None:
    """Write masks of other programs, and lists of expressions, for the data that lines name them with."""
    from datamodules import RefCOCO, RefCOCOM, RefShapes

    line = {"method": "Global-Local", "segmentation": None}
    data: dict[str, Any] = {split: RefCOCO(root / "data", split=split) for split in ("val", "testA")}
    data["own"] = RefShapes()
    if (root / "data" / "moondream").is_dir():
        data["m"] = RefCOCOM(root / "data")
    rows = {
        name: [
            {**line, "image_id": image, "ref_id": ref, "sent_id": sent}
            for image, ref, sent in expression_keys(one.records)
        ]
        for name, one in data.items()
    }
    for name, own in {"testA": "results", "val": "refcoco_val", "m": "refcoco_m"}.items():
        (root / f"{own}.json").write_text(json.dumps(rows.get(name, [])))
    lines = "".join(json.dumps(row) + "\n" for row in rows["own"])
    (root / "runs" / "zero_shot" / "<time>" / "predictions.jsonl").write_text(lines)
    (root / "faulty.txt").write_text(str(rows["val"][0]["sent_id"]))
    (root / "kept.json").write_text(json.dumps([row["sent_id"] for row in rows["own"][:2]]))
    (root / "masks").mkdir()
    Image.new("L", (WIDTH, HEIGHT), 255).save(root / "masks" / f"{rows['testA'][0]['sent_id']}.png")


def small(patch: pytest.MonkeyPatch) -> None:
    from datamodules import refshapes

    patch.setattr(refshapes, "SIZES", {"train": 12, "val": 5, "testA": 5, "testB": 5})
    patch.setattr(refshapes, "PHRASE_SIZES", {"val": 10, "test": 5})
