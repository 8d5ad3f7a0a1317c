"""The table of recipe effects: from hand-made records, and from end to end on a toy data set."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.records import ImageRecord, Referent, Segmentation
from experiments import recipe_effects, zero_shot
from experiments.reporting.effects_report import EffectsTable, Row, markdown, write_effects
from experiments.run.effects import ALL, BASE, RecipeEffects
from gl_ris.masks import encode_rle
from gl_ris.predictions import Prediction

Run = Callable[..., tuple[int, str, str]]
HEIGHT, WIDTH = 8, 10


def mask(x0: int, x1: int) -> torch.Tensor:
    found = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    found[:, x0:x1] = True
    return found


def record(
    method: str, sent_id: int, choice: int | None, areas: tuple[int, int], **changes: Any
) -> Prediction:
    values: dict[str, Any] = {
        "image_id": 1,
        "ref_id": sent_id,
        "sent_id": sent_id,
        "expression": "x",
        "noun_phrase": None,
        "method": method,
        "choice": choice,
        "score": None,
        "iou": 0.0,
        "intersection": areas[0],
        "union": areas[1],
        "segmentation": None if choice is None else encode_rle(mask(choice, choice + 2)),
        "index": 0,
    }
    return Prediction(**{**values, **changes})


def records_of(model: RecipeEffects) -> list[Prediction]:
    """Three expressions; `antialias` changes the first choice; the last one's image has no proposals."""
    found = []
    for variant in model.variants:
        first = (2, (16, 24)) if variant.title in ("antialias", ALL) else (0, (8, 32))
        found += [
            record(variant.title, 0, *first),
            record(variant.title, 1, 4, (16, 16)),
            record(variant.title, 2, None, (0, 20), index=1, failure="no proposals"),
        ]
    return found


class Plain:
    """Data whose targets can be read in one way only."""


def rows_of(base: str = "clean", data: Any = None, tower: str = "vit", **settings: Any) -> dict[str, Row]:
    model = RecipeEffects(recipe=base, **settings)
    model.clips.append(torch.nn.Identity())
    model.clips[0].tower = SimpleNamespace(kind=tower)  # type: ignore[assignment]
    return {row.name: row for row in EffectsTable(model, data or Plain(), records_of(model)).rows()}


def test_figures_and_shares_are_those_of_the_records() -> None:
    rows = rows_of(precisions="bf16")
    base, flipped = rows[BASE], rows["antialias"]
    assert base.figures["oIoU"] == pytest.approx(100 * 24 / 68)
    assert base.figures["mIoU"] == pytest.approx(100 * (8 / 32 + 1) / 3)
    assert flipped.figures["oIoU"] == pytest.approx(100 * 32 / 60)
    assert (base.changed, flipped.changed, rows["boxes"].changed) == (None, pytest.approx(100 / 3), 0.0)
    assert (flipped.point, flipped.value, flipped.expressions, flipped.missed) == (2, False, 3, 1)
    assert (rows["precision"].value, rows["precision"].changed) == ("bf16", 0.0)
    assert next(iter(rows)) == BASE
    points = [row.point for row in rows.values() if row.point]
    paper, later = [1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 7, 8, 9, 10, 11, 11, 12], [16, *[17] * 5]
    assert points == paper + later


def test_images_without_proposals_are_tallied_both_ways() -> None:
    skipped, whole = rows_of("clean"), rows_of("published")
    without, with_them = 100 * 24 / 48, 100 * 24 / 68
    name = "skip_images_without_proposals"
    assert (skipped[BASE].figures["oIoU"], skipped[BASE].expressions) == (pytest.approx(with_them), 3)
    assert (skipped[name].figures["oIoU"], skipped[name].expressions) == (pytest.approx(without), 2)
    assert (whole[BASE].figures["oIoU"], whole[BASE].missed) == (pytest.approx(without), 0)
    assert (whole[name].figures["oIoU"], whole[name].missed) == (pytest.approx(with_them), 1)
    # all at once leaves out what the other recipe leaves out
    assert (skipped[ALL].expressions, whole[ALL].expressions) == (2, 3)


def test_a_field_that_labels_has_no_figures_but_both_definitions() -> None:
    row = rows_of()["unseen"]
    assert (row.point, row.value, row.figures, row.changed) == (10, "names", {}, None)
    assert row.note.endswith("called unseen")
    model = RecipeEffects(recipe="published")
    model.clips.append(torch.nn.Identity())
    model.clips[0].tower = SimpleNamespace(kind="vit")  # type: ignore[assignment]
    parts = {
        name: SimpleNamespace(n_evaluated=count, methods={BASE: {"oIoU": oiou}})
        for name, count, oiou in (
            ("unseen_names", 1200, 20.5),
            ("unseen_synonyms", 700, 19.25),
            ("crowded", 5, 1.0),
            ("unseen_never", 0, math.nan),
        )
    }
    model.evaluation = SimpleNamespace(subsets=parts)  # type: ignore[assignment]
    row = {row.name: row for row in EffectsTable(model, Plain(), records_of(model)).rows()}["unseen"]
    assert row.value == "synonyms"
    assert row.note.endswith("base recipe: Unseen 20.50 of 1,200, Unseen (synonyms) 19.25 of 700")


@pytest.mark.parametrize(("tower", "others"), [("vit", "resnet_"), ("resnet", "vit_")])
def test_fields_of_the_other_tower_do_not_apply(tower: str, others: str) -> None:
    rows = rows_of(tower=tower)
    unused = {name for name, row in rows.items() if row.note.startswith("does not apply: for a")}
    assert unused == {name for name in rows if name.startswith(others)}
    assert all(not rows[name].figures and rows[name].changed is None for name in unused)


def test_fields_of_other_methods_do_not_apply() -> None:
    rows = rows_of(method="region_token")
    assert rows["score_map_mask"] == Row(
        12, "score_map_mask", "pixels", note="does not apply: for method score_map only"
    )
    assert rows["region_token_members"].figures
    assert not rows_of()["region_token_members"].figures


class Overlapping:
    """Data whose first ref is made of two polygons that overlap in columns 1 to 2."""

    def __init__(self, overlap: str = "union") -> None:
        square = [
            np.array([x0, 0, x1, 0, x1, HEIGHT, x0, HEIGHT], dtype=float) for x0, x1 in ((0, 2), (1, 4))
        ]
        refs = (
            Referent(0, (Segmentation(polygons=tuple(square)),), ("x",), (0,)),
            Referent(1, (Segmentation(polygons=(square[1] + [3, 0] * 4,)),), ("x",), (1,)),
        )
        lost = Referent(2, (Segmentation(fault="damaged"),), ("x",), (2,))
        self.records = [
            ImageRecord(1, "1.png", HEIGHT, WIDTH, refs),
            ImageRecord(2, "2.png", HEIGHT, WIDTH, (lost,)),
        ]


def test_targets_are_read_by_the_other_rule_where_the_data_can() -> None:
    row = rows_of(data=Overlapping())["target_overlap"]
    # choices 0-2 and 4-6, and a miss on an annotation at fault, which stays as it was recorded
    targets = [mask(0, 1) | mask(2, 4), mask(4, 7)]
    chosen = [mask(0, 2), mask(4, 6)]
    areas = [(int((a & b).sum()), int((a | b).sum())) for a, b in zip(targets, chosen, strict=True)] + [
        (0, 20)
    ]
    assert row.figures["oIoU"] == pytest.approx(100 * sum(i for i, _ in areas) / sum(u for _, u in areas))
    assert row.changed == 0
    assert rows_of()["target_overlap"].note == "does not apply: these data have no option overlap"


def test_the_files_hold_the_same_rows(tmp_path: Path) -> None:
    rows = list(rows_of().values())
    about = {"dataset": "toy", "split": "val", "proposals": "ground_truth", "methods": {}, "upper_bound": {}}
    table = write_effects(tmp_path, rows, about)
    assert table in (tmp_path / "recipe_effects.md").read_text()
    *lines, blank, note = table.splitlines()
    assert (blank, note) == (
        "",
        "±: half of the 95% interval over 5,000 resamples of the images; changes are paired.",
    )
    assert len(lines) == len(rows) + 2
    assert len({len(line) for line in lines}) == 1
    (flipped,) = (line for line in lines if "antialias" in line)
    assert [cell.strip() for cell in flipped.split("|")][1:-1] == [
        # of one image
        *("2", "antialias", "false", "53.33 ±0.0", "+18.04 ±0.0", "55.56 ±0.0", "+13.89 ±0.0"),
        *("33.33", "1 of 3", ""),
    ]
    assert "[0.485, 0.456, 0.406]" in markdown(rows)
    document = json.loads((tmp_path / "recipe_effects.json").read_text())
    assert "methods" not in document
    assert [row["name"] for row in document["rows"]] == [row.name for row in rows]
    with (tmp_path / "recipe_effects.csv").open(newline="") as file:
        read = {row["name"]: row for row in csv.DictReader(file)}
    assert float(read["antialias"]["oIoU"]) == pytest.approx(100 * 32 / 60)
    assert read["antialias"]["oIoU_low"] == read["antialias"]["oIoU_high"] == read["antialias"]["oIoU"]
    assert float(read["antialias"]["oIoU_change_high"]) == pytest.approx(100 * (32 / 60 - 6 / 17))
    assert read["target_overlap"]["oIoU"] == read["target_overlap"]["oIoU_low"] == ""


@pytest.fixture
def run_here(run_command: Run) -> Run:
    """Run this command in this process; gives exit code, output and error output."""
    return partial(run_command, recipe_effects)


@pytest.fixture
def toy(toy: list[str]) -> list[str]:
    return [*(argument for argument in toy if not argument.startswith("methods=")), "limit=3", "alpha=0.85"]


def test_each_row_has_the_figures_of_a_run_of_its_own(
    run_here: Run, run_command: Run, toy: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, output, _ = run_here(*toy, "precisions=bf16", f"run_dir={run}")
    assert code == 0
    assert (run / "recipe_effects.md").read_text().partition("\n\n")[2].strip() in output
    rows = {row["name"]: row for row in json.loads((run / "recipe_effects.json").read_text())["rows"]}
    for arguments, name in (
        (["recipe.grid_mask=sampled"], "grid_mask"),
        (["recipe.text=tokens"], "text"),
        (["recipe.vit_unit_visual=false"], "vit_unit_visual"),
        (["recipe=published", "data.overlap=sum_equals_one"], ALL),
        (["precision=bf16"], "precision"),
    ):
        alone = tmp_path / name
        assert run_command(zero_shot, *toy, *arguments, f"run_dir={alone}")[0] == 0
        document = json.loads((alone / "results.json").read_text())
        assert rows[name]["figures"] == document["methods"]["Global-Local"], name
        assert rows[name]["expressions"] == document["n_expressions_evaluated"] == 27
    assert rows["target_overlap"]["figures"] == rows[BASE]["figures"]
    assert len({row["figures"]["mIoU"] for row in rows.values() if row["figures"]}) > 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recipe=clan"], "Did you mean 'clean'"),
        (["recipe=published"], "set data.overlap=sum_equals_one"),
        (["precisions=[fp8]"], "Unknown precision 'fp8'"),
        (["methods=random"], "Unknown option"),
        (["trainer.devices=9"], "3 images cannot be spread over 9 processes"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    arguments: list[str], said: str, refusal: Callable[..., str], toy: list[str]
) -> None:
    assert said in refusal(recipe_effects, *toy, *arguments)
