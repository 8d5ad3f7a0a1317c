"""The result document and its table."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gl_ris.files import atomic_file, plain, write_json
from gl_ris.metrics import RISMetrics
from gl_ris.results import METHODS_VERSION, Results, format_table, write_table_csv

KEYS = [
    "schema",
    "experiment",
    "dataset",
    "split",
    "partition",
    "proposals",
    "proposal_store",
    "n_images",
    "n_expressions_expected",
    "n_expressions_evaluated",
    "n_expressions_skipped",
    "failures",
    "methods",
    "upper_bound",
    "ties",
    "seconds",
    "config",
    "methods_version",
    "versions",
    "git_commit",
    "created",
]
STAGES = ["data", "proposals", "image", "text", "score", "metrics", "total"]


def _figures(*correct: int) -> dict[str, float]:
    metrics = RISMetrics()
    metrics.update_areas(torch.tensor(correct), torch.full((len(correct),), 100))
    return metrics.compute()


def _results(**changes: Any) -> Results:
    content: dict[str, Any] = {
        "experiment": "zero_shot",
        "dataset": "refshapes",
        "split": "val",
        "partition": "own",
        "proposals": "felzenszwalb",
        "n_images": 1250,
        "n_expressions_expected": 4000,
        "n_expressions_evaluated": 4000,
        "methods": {"Global-Local": _figures(95, 55, 75, 11), "Random": _figures(0, 0, 50, 1)},
        "upper_bound": _figures(100, 90, 80, 71),
        "seconds": {stage: 1.25 * i for i, stage in enumerate(STAGES)},
        "config": {"model": {"alpha": 0.85}},
        "failures": {"no proposals": 3, "image: cut off": 1},
    }
    return Results.new(**(content | changes))


def _document(**changes: Any) -> dict[str, Any]:
    return _results(**changes).document()


def test_the_document_has_the_contract_keys() -> None:
    document = _document()
    assert list(document) == KEYS
    assert document["schema"] == 2
    assert document["methods_version"] == METHODS_VERSION
    assert list(document["methods"]["Random"]) == ["oIoU", "mIoU", *(f"Pr@0.{i}" for i in range(5, 10))]
    assert document["methods"]["Random"]["oIoU"] == 12.75
    assert document["upper_bound"] == {"oIoU": 85.25, "mIoU": pytest.approx(85.25)}
    assert list(document["seconds"]) == STAGES
    assert document["failures"] == {"no proposals": 3, "image: cut off": 1}
    assert datetime.fromisoformat(document["created"]).utcoffset() is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"seconds": {"total": 1.0}}, "seconds must have exactly.*data, proposals", id="stages"),
        pytest.param({"seconds": dict.fromkeys([*STAGES, "tea"], 1.0)}, "tea", id="unknown-stage"),
        pytest.param(
            {"upper_bound": {"oIoU": 1.0}},
            r"missing required field `mIoU` - at `\$.upper_bound`",
            id="upper-bound",
        ),
    ],
)
def test_an_incomplete_document_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _document(**changes)


def _subset(**changes: Any) -> dict[str, Any]:
    figures = _figures(50, 70)
    return {
        "label": "Unseen",
        "n_images": 40,
        "n_expressions_expected": 90,
        "n_expressions_evaluated": 90,
        "failures": {"no proposals": 2},
        "methods": {"Global-Local": figures, "Random": figures},
        "upper_bound": figures,
        **changes,
    }


NONE = dict.fromkeys(("oIoU", "mIoU"), float("nan"))
EMPTY = _subset(
    label="Unseen (names)",
    n_images=0,
    n_expressions_expected=0,
    n_expressions_evaluated=0,
    failures={},
    methods={"Global-Local": NONE, "Random": NONE},
    upper_bound=NONE,
)


def test_subsets_are_part_of_the_document_where_there_are_any() -> None:
    results = _results(subsets={"unseen_synonyms": _subset(), "unseen_names": EMPTY})
    document = results.document()
    assert set(document) == {*KEYS, "subsets"}
    part = document["subsets"]["unseen_synonyms"]
    assert part["upper_bound"] == {"oIoU": 60, "mIoU": pytest.approx(60)}
    assert part["methods"]["Random"]["Pr@0.7"] == 50
    assert document["subsets"]["unseen_names"]["upper_bound"] == {"oIoU": None, "mIoU": None}
    lines = format_table(results).splitlines()
    start = lines.index("Unseen: 90 of 90 expressions on 40 images, 2 failed")
    assert lines[start + 1].split()[:3] == ["Method", "oIoU", "mIoU"]
    assert lines[start + 3].split()[:3] == ["Global-Local", "60.00", "60.00"]
    assert lines[start + 6].split()[:4] == ["Upper", "bound", "60.00", "60.00"]
    after = lines.index("Unseen (names): no expression of the split is in it")
    assert lines[after + 1] == ""
    assert lines[after + 2].startswith("oIoU is also called cIoU")
    assert lines[2].startswith("All: 4,000 of 4,000 expressions on 1,250 images, 4 failed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"n_images": 1251}, "n_images=1251, of 1250 in all", id="images"),
        pytest.param(
            {"n_expressions_evaluated": -1},
            r"`int` >= 0 - at `\$.subsets\[...\].n_expressions_evaluated`",
            id="negative",
        ),
        pytest.param(
            {"methods": {"Random": NONE}}, "must have the methods Global-Local, Random", id="methods"
        ),
        pytest.param({"methods": {"Random": {}}}, "figures of 'Random' lack oIoU", id="figures"),
        pytest.param(
            {"upper_bound": {}},
            r"required field `oIoU` - at `\$.subsets\[...\].upper_bound`",
            id="upper-bound",
        ),
    ],
)
def test_a_subset_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _document(subsets={"unseen": _subset(**changes)})


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nan_is_null_in_strict_json(tmp_path: Path) -> None:
    results = _results(methods={"Random": RISMetrics().compute()}, config={"x": float("inf")})
    results.write(tmp_path / "results.json")
    read = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert set(read["methods"]["Random"].values()) == {None}
    assert read["config"] == {"x": None}
    assert Results.read(tmp_path / "results.json") == results
    assert format_table(results).splitlines()[4].split() == ["Random", *"-------"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(np.float32("nan"), None, id="numpy-nan"),
        pytest.param(np.int64(3), 3, id="numpy-int"),
        pytest.param(torch.tensor([1.5, float("inf")]), [1.5, None], id="tensor"),
        pytest.param({"b", "a"}, ["a", "b"], id="set"),
        pytest.param(torch.float16, "torch.float16", id="dtype"),
        pytest.param((True, None, {2: Path("x")}), [True, None, {"2": "x"}], id="nested"),
    ],
)
def test_plain_values(value: object, expected: object) -> None:
    assert plain(value) == expected
    assert json.dumps(plain(value)) == json.dumps(expected)


def _write_half(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError("power cut")


def test_an_error_while_writing_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    write_json(path, {"run": 1})
    with pytest.raises(RuntimeError, match="power cut"):
        _write_half(path)
    assert json.loads(path.read_text()) == {"run": 1}
    assert [item.name for item in path.parent.iterdir()] == ["results.json"]


def test_the_table_reads_like_the_paper() -> None:
    lines = format_table(_results()).splitlines()
    assert lines == [
        "refshapes val (own), proposals: felzenszwalb",
        "",
        "Method         oIoU   mIoU  Pr@0.5  Pr@0.6  Pr@0.7  Pr@0.8  Pr@0.9",
        "------------------------------------------------------------------",
        "Global-Local  59.00  59.00   75.00   50.00   50.00   25.00   25.00",
        "Random        12.75  12.75   25.00    0.00    0.00    0.00    0.00",
        "------------------------------------------------------------------",
        "Upper bound   85.25  85.25       -       -       -       -       -",
        "",
        "oIoU is also called cIoU, and mIoU gIoU, in other papers.",
        "",
        "Images       1,250",
        "Expressions  4,000 evaluated of 4,000 expected",
        "Failures     no proposals: 3; image: cut off: 1 (counted as misses)",
        "Seconds      data 0.0, proposals 1.2, image 2.5, text 3.8, score 5.0, metrics 6.2, total 7.5",
    ]


def test_the_table_says_in_a_line_what_expressions_say(tmp_path: Path) -> None:
    parsed = {
        "expressions": 4000,
        "none": 1500,
        "places": 2000,
        "relations": 7,
        "relation left": 5,
        "relation near": 3,
    }
    results = _results(parsed=parsed)
    line = "Parsed       places 2,000, relations 7 (left 5, near 3), nothing of that 1,500"
    assert format_table(results).splitlines()[-2] == line
    results.write(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["parsed"] == parsed
    assert Results.read(tmp_path / "results.json") == results
    assert "parsed" not in _results().document()


def test_a_run_on_expressions_that_mean_nothing_has_a_table() -> None:
    nothing = dict.fromkeys(("oIoU", "mIoU"))
    counts = dict.fromkeys(("n_expressions_expected", "n_expressions_evaluated"), 0)
    more = {"methods": {"A": {**nothing, "gIoU": 40.0, "N_acc": 40.0}}, "upper_bound": nothing}
    lines = format_table(_results(**counts, **more, n_expressions_no_target=5)).splitlines()
    assert [line.split() for line in lines[2:5:2]] == [
        ["Method", "oIoU", "mIoU", "gIoU", "N_acc"],
        ["A", "-", "-", "40.00", "40.00"],
    ]


def test_the_table_says_what_is_missing() -> None:
    table = format_table(_results(n_expressions_evaluated=3990, failures={}, partition=None))
    assert "3,990 evaluated of 4,000 expected (10 MISSING)" in table
    assert "Failures     none\n" in table
    assert table.startswith("refshapes val, proposals")


def test_the_csv_holds_the_same_figures_at_full_precision(tmp_path: Path) -> None:
    results = _results()
    write_table_csv(tmp_path / "table.csv", results)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["Global-Local", "Random", "Upper bound"]
    for method, figures in results.methods.items():
        assert {name: float(rows[method][name]) for name in figures} == figures
    assert float(rows["Upper bound"]["mIoU"]) == results.upper_bound.mIoU
    assert rows["Upper bound"]["Pr@0.5"] == ""
    assert rows["Random"]["dataset"] == "refshapes"
    assert rows["Random"]["n_expressions_evaluated"] == "4000"


LEFT_OUT = {
    "n_expressions_evaluated": 3990,
    "n_expressions_skipped": 10,
    "counting": "published",
    "failures": {"skipped, no proposals": 10, "image: cut off": 1},
    "every_miss": {"Global-Local": _figures(95, 55, 75, 0), "Random": _figures(0, 0, 50, 0)},
    "every_miss_upper_bound": _figures(100, 90, 80, 0),
}


def test_both_countings_stand_in_document_table_and_csv_where_they_differ(tmp_path: Path) -> None:
    results = _results(**LEFT_OUT)
    document = results.document()
    assert document["counting"] == "published"
    assert document["methods"]["Global-Local"]["oIoU"] == 59
    assert document["every_miss"]["Global-Local"]["oIoU"] == 56.25
    assert document["every_miss_upper_bound"] == {"oIoU": 67.5, "mIoU": pytest.approx(67.5)}
    lines = format_table(results).splitlines()
    first = lines.index(
        "All, images without proposals left out as published: 3,990 of 4,000 expressions on 1,250 images, "
        "1 failed"
    )
    assert lines[first + 3].split()[:2] == ["Global-Local", "59.00"]
    second = lines.index("All, every miss counted: 4,000 of 4,000 expressions on 1,250 images, 11 failed")
    assert lines[second + 3].split()[:2] == ["Global-Local", "56.25"]
    assert lines[second + 6].split()[:3] == ["Upper", "bound", "67.50"]
    assert "Expressions  3,990 evaluated of 4,000 expected (10 skipped)" in lines
    write_table_csv(tmp_path / "table.csv", results)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["counting"], r["n_expressions_evaluated"], r["method"], float(r["oIoU"])) for r in rows] == [
        ("images without proposals left out as published", "3990", "Global-Local", 59),
        ("images without proposals left out as published", "3990", "Random", 12.75),
        ("images without proposals left out as published", "3990", "Upper bound", 85.25),
        ("every miss counted", "4000", "Global-Local", 56.25),
        ("every miss counted", "4000", "Random", 12.5),
        ("every miss counted", "4000", "Upper bound", 67.5),
    ]


def test_every_miss_has_the_methods_of_the_run() -> None:
    with pytest.raises(ValueError, match="every_miss must have the methods Global-Local, Random"):
        _results(every_miss={"Random": _figures(1)})


def test_the_table_says_how_many_choices_are_ties() -> None:
    table = format_table(_results(ties={"Global-Local": 0, "Random": 1200}))
    assert "\nTies         Random: 1,200 (the first of proposals with one score was chosen)\n" in table


def test_no_commit_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert _document()["git_commit"] is None


def test_intervals_stand_behind_figures_and_in_columns_of_their_own(tmp_path: Path) -> None:
    ends = {name: [60.5 - i, 64.5 - i] for i, name in enumerate(_figures(1))}
    other = {**ends, "oIoU": [10.0, 20.0]}
    results = _results(
        intervals={"Global-Local": ends, "Upper bound": {"oIoU": [80, 90], "mIoU": [70, 70]}},
        every_miss_intervals={"Global-Local": other},
        resampling={"draws": 5000, "seed": 0},
        every_miss=_results().methods,
        every_miss_upper_bound=_figures(100, 90, 80, 71),
        n_expressions_evaluated=3990,
        n_expressions_skipped=10,
    )
    lines = format_table(results).splitlines()
    first, missed = (line.split() for line in lines if line.startswith("Global-Local"))
    assert first[1:5] == ["59.00", "±2.0", "59.00", "±2.0"]
    assert missed[1:3] == ["59.00", "±5.0"]
    assert next(line for line in lines if line.startswith("Upper")).split()[2:] == [
        *("85.25", "±5.0", "85.25", "±0.0", *"-----"),
    ]
    assert next(line for line in lines if line.startswith("Random")).split()[1:3] == ["12.75", "12.75"]
    assert lines.count("±            half of the 95% interval over 5,000 resamples of the images") == 1
    write_table_csv(tmp_path / "table.csv", results)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [rows[0][f"{name}_low"] for name in ends] == [str(low) for low, _ in ends.values()]
    found = [row["oIoU_high"] for row in rows if row["method"] == "Global-Local"]
    assert found == [str(ends["oIoU"][1]), "20.0"]
    assert {row["oIoU_low"] for row in rows if row["method"] == "Random"} == {""}
