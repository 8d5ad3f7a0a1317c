"""Figures over seeds, the result document, CSV and printed report of a few-shot comparison."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.reporting.fewshot_report import (
    FewShotCells,
    Shot,
    curve_rows,
    document,
    over_seeds,
    read_available,
    report,
    write_all,
)
from experiments.reporting.frame import frame_of, render
from finished_cells import trained_results, zero_shot_results
from gl_ris.errors import EvaluationError, UserError

OIOU = {
    ("lavt-tiny", 4): [20.0, 26.0, 23.0],
    ("lavt-tiny", 16): [44.0],
    ("lavt-tiny", "all"): [66.0],
    ("cris-tiny", 4): [10.0, 12.0],
    ("cris-tiny", 16): [],
    ("cris-tiny", "all"): [30.0],
}
PLANNED = {4: [0, 1, 2], 16: [0], "all": [0]}


def found(**changes: Any) -> FewShotCells:
    shots = [Shot(name, k, seed) for name, k in OIOU for seed in PLANNED[k]]
    results: dict[str, Any] = {
        shot.name: trained_results(shot.baseline.split("-")[0].upper(), shot.k, shot.seed, figures[shot.seed])
        for shot in shots
        if shot.seed < len(figures := OIOU[shot.baseline, shot.k])
    }
    return FewShotCells(shots, {**results, "zero-shot": zero_shot_results(), **changes}, [30, 10])


def test_the_document_is_one_of_a_run_with_a_method_per_model_and_k() -> None:
    made = document(found(), {"k": [4, 16, "all"]})
    assert list(made["methods"]) == [
        *("Global-Local", "LAVT k=4", "LAVT k=16", "LAVT k=all"),
        *("CRIS k=4", "CRIS k=all"),
    ]
    assert made["methods"]["LAVT k=4"] == {"oIoU": 23.0, "mIoU": 21.0, "Pr@0.5": 10.0}
    assert made["methods"]["CRIS k=4"]["oIoU"] == 11.0
    assert (made["upper_bound"], made["proposals"]) == ({"oIoU": 90.0, "mIoU": 80.0}, "felzenszwalb")
    assert (made["schema"], made["experiment"], made["n_expressions_evaluated"]) == (2, "fewshot", 100)
    # 1 zero-shot run and 8 cells, each of 1.5 seconds
    assert made["seconds"]["total"] == 13.5
    assert made["config"] == {"k": [4, 16, "all"]}


def test_rows_hold_every_seed() -> None:
    more = document(found(), {})["few_shot"]
    assert (more["cells"], more["finished"], more["classes"]) == (11, 9, 2)
    first = more["rows"][0]
    values = OIOU["lavt-tiny", 4]
    assert first["oIoU"] == {
        "values": values,
        "mean": pytest.approx(np.mean(values)),
        "std": pytest.approx(np.std(values, ddof=1)),
        "min": 20.0,
        "max": 26.0,
    }
    assert (first["model"], first["baseline"], first["k"]) == ("LAVT", "lavt-tiny", 4)
    assert (first["seeds"], first["seeds_planned"]) == ([0, 1, 2], 3)
    # 4 of each of the two classes that have refs, of 40 in all
    assert (first["n_refs"], first["share"], first["refs_per_class"]) == (8, 0.2, 4.0)
    assert first["training_seconds"] == [10.0] * 3
    second = more["rows"][1]
    assert second["shortfall"] == {"2": 6, "3": 16}
    assert second["oIoU"]["std"] is None
    assert [row["refs_per_class"] for row in more["rows"] if row["k"] == "all"] == [20.0, 20.0]


def test_crossings_are_told_per_model() -> None:
    lavt, cris = document(found(), {})["few_shot"]["crossings"]
    assert (lavt["below"], lavt["above"]) == ("16", "all")
    # all refs are 20 of each class on average, so 6 / 22 of the way from log 16 to log 20
    assert lavt["place"] == pytest.approx(16 * (20 / 16) ** (6 / 22))
    assert cris["sentence"] == (
        "CRIS stays below Global-Local (50.00) at every k up to all. Not measured: k=16."
    )


def test_before_the_zero_shot_run_is_there_is_no_line() -> None:
    made = document(
        FewShotCells(found().shots, {"cris-tiny_k4_seed0": found().results["cris-tiny_k4_seed0"]}), {}
    )
    assert made["upper_bound"] == {"oIoU": None, "mIoU": None}
    assert (made["few_shot"]["zero_shot"], made["few_shot"]["crossings"]) == ({}, [])
    assert made["few_shot"]["rows"][0]["refs_per_class"] is None


def test_two_baselines_of_one_name_are_told_apart() -> None:
    shots = [Shot("lavt", 4, 0), Shot("lavt-tiny", 4, 0)]
    results = {shot.name: trained_results("LAVT", 4, 0, 10.0) for shot in shots}
    made = document(FewShotCells(shots, results, [30, 10]), {})
    assert list(made["methods"]) == ["LAVT (lavt) k=4", "LAVT (lavt-tiny) k=4"]


def test_cells_of_other_images_do_not_compare() -> None:
    other = trained_results("LAVT", 4, 0, 10.0, n_images=9)
    with pytest.raises(
        EvaluationError, match="'zero-shot' and 'lavt-tiny_k4_seed0' do not compare: n_images"
    ):
        document(found(**{"lavt-tiny_k4_seed0": other}), {})


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [([], None, None), ([None], None, None), ([3.0], 3.0, None), ([None, 3.0], 3.0, None)],
)
def test_few_seeds(values: list[float | None], mean: float | None, std: float | None) -> None:
    assert (over_seeds(values)["mean"], over_seeds(values)["std"]) == (mean, std)


def test_csv_has_a_line_per_point() -> None:
    text = render(frame_of(curve_rows(document(found(), {})["few_shot"])), "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["model"], line["k"], line["n_refs"], line["seeds"]) for line in lines] == [
        ("Global-Local", "0", "0", ""),
        *(("LAVT", "4", "8", "3"), ("LAVT", "16", "26", "1"), ("LAVT", "all", "40", "1")),
        *(("CRIS", "4", "8", "2"), ("CRIS", "all", "40", "1")),
    ]
    assert (lines[1]["oIoU_mean"], lines[1]["oIoU_std"], lines[1]["oIoU_max"]) == ("23.0", "3.0", "26.0")
    assert (lines[2]["oIoU_std"], lines[0]["oIoU_mean"]) == ("", "50.0")


def test_the_report() -> None:
    assert (
        report(document(found(), {}))
        == """# Few-shot comparison on refshapesg val (RefShapes, synthetic scenes)

| Model        |   k |   Refs |   Share % |   Seeds |   oIoU |   over seeds |   mIoU |   over seeds |
|:-------------|----:|-------:|----------:|--------:|-------:|-------------:|-------:|-------------:|
| Global-Local |   - |      - |         - |       - |  50.00 |            - |  40.00 |            - |
| LAVT         |   4 |      8 |     20.00 |       3 |  23.00 |         3.00 |  21.00 |         1.00 |
| LAVT         |  16 |     26 |     65.00 |       1 |  44.00 |            - |  20.00 |            - |
| LAVT         | all |     40 |    100.00 |       1 |  66.00 |            - |  20.00 |            - |
| CRIS         |   4 |      8 |     20.00 |  2 of 3 |  11.00 |         1.41 |  20.50 |         0.71 |
| CRIS         | all |     40 |    100.00 |       1 |  30.00 |            - |  20.00 |            - |

* LAVT crosses Global-Local (50.00) between k=16 and k=all, at about k=17 (linear in log k between means).
* CRIS stays below Global-Local (50.00) at every k up to all. Not measured: k=16.
* Over seeds: sample standard deviation, each with refs and a training of its own.
* 9 of 11 cells are finished.
* k=4: 1 classes have fewer refs (4 lacking).
* k=16: 2 classes have fewer refs (22 lacking)."""
    )


@pytest.mark.parametrize(
    "kept", [None, ["zero-shot"], ["cris-tiny_kall_seed0"]], ids=["all", "line", "all-refs"]
)
def test_everything_is_written_from_what_there_is(kept: list[str] | None, tmp_path: Path) -> None:
    from PIL import Image

    whole = found()
    part = {name: whole.results[name] for name in kept or whole.results}
    write_all(tmp_path, FewShotCells(whole.shots, part, whole.available), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "curve.csv",
        "figure4_right.png",
        "results.json",
    ]
    with Image.open(tmp_path / "figure4_right.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) > 600
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_a_damaged_manifest_is_told(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"per_class": {"1": [30, 4], "2": [0, 0]}}')
    assert read_available(tmp_path) == [30]
    for content in ("", "[]", '{"per_class": [1]}', '{"per_class": {"1": ["x", 1]}}'):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=r"manifest\.json' is no manifest of refs.*Delete"):
            read_available(tmp_path)


def test_figures_have_intervals_where_all_seeds_have() -> None:
    cells, ends = found(), {"oIoU": (0.0, 2.0), "mIoU": (1.0, 4.0), "Pr@0.5": (0.0, 10.0)}
    more = {"resampling": {"draws": 5000, "seed": 0}}
    sure: dict[str, Any] = {
        name: {**one, **more, "intervals": {method: ends for method in one["methods"]}}
        for name, one in cells.results.items()
        if name != "cris-tiny_k4_seed1"
    }
    wider = {**ends, "oIoU": (1.0, 9.0)}
    sure["lavt-tiny_k4_seed2"]["intervals"] = {"LAVT k=4": wider}
    made = document(found(**sure), {})
    assert "CRIS k=4" not in made["intervals"]
    # the mean of 2, 2 and 8
    assert made["intervals"]["LAVT k=4"]["oIoU"] == [1 / 3, 13 / 3]
    rows = [[cell.strip() for cell in line.split("|")] for line in report(made).split("\n") if "|" in line]
    cells_of = {row[1] + row[2]: row[6:10] for row in rows}
    assert cells_of["Global-Local-"] == ["50.00 ±1.0", "-", "40.00 ±1.5", "-"]
    assert cells_of["LAVT4"] == ["23.00 ±2.0", "3.00", "21.00 ±1.5", "1.00"]
    assert cells_of["CRIS4"] == ["11.00", "1.41", "20.50", "0.71"]
    assert "* ±: half of the 95% interval over 5,000 resamples of the images.\n" in report(made)
    assert "; ± is then the mean of their intervals." in report(made)
