"""From results to Markdown, LaTeX, CSV and JSON, against texts written by hand."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest

from experiments.reporting.frame import FIGURES
from experiments.reporting.paper import PaperTable, paper_table
from experiments.reporting.table_report import (
    Entry,
    Row,
    Table,
    document,
    latex,
    markdown,
    runs_of,
    write_all,
)
from gl_ris.errors import UserError

# as published
COUNTS = {("refcoco", "unc", "testA"): (750, 5657), ("refcocog", "umd", "test"): (2600, 9602)}


def results(dataset: str, partition: str, split: str, limit: int | None = None, **changes: Any) -> Row:
    methods = {
        "Cropping (rn)": {"oIoU": 20.5, "mIoU": 30.25, "Pr@0.5": 1.0},
        "Random": {"oIoU": 10.0, "mIoU": None},
        **changes.pop("methods", {}),
    }
    content = {
        "dataset": dataset,
        "partition": partition,
        "split": split,
        "proposals": "felzenszwalb",
        "n_images": 1500,
        "n_expressions_expected": 10834,
        "n_expressions_evaluated": 10834,
        "failures": {},
        "methods": methods,
        "upper_bound": {"oIoU": 42.0, "mIoU": 48.0},
        "seconds": {"total": 12.34},
        "config": {"data": {"init_args": {"limit": limit}}},
        "git_commit": None,
        "created": "2026-01-01T00:00:00+00:00",
        **changes,
    }
    if (dataset, partition, split) in COUNTS:
        content |= dict(
            zip(("n_images", "n_expressions_expected"), COUNTS[dataset, partition, split], strict=True)
        )
    (run,) = runs_of({**content, **changes}, f"{dataset}-{partition}-{split}")
    return run


ENTRIES = [
    Entry("Random", "", "", "Random", {}, None),
    Entry("Cropping", "my_rn|x", "", "Cropping (rn)", {}, "crop"),
    Entry("Upper bound", "", "", "Upper bound", None, "bound"),
    Entry("LAVT", "", "", None, None, "lavt"),
]
PAPER = PaperTable(
    number="9",
    source="A paper, Table 9",
    note="other masks",
    proposals="felzenszwalb",
    columns=[("refcoco", "unc", "val"), ("refcoco", "unc", "testA")],
    rows={
        "crop": {"encoder": "RN50", "oIoU": [22.36, 20.49], "mIoU": [24.31, None]},
        "bound": {"oIoU": [42.08, 42.52]},
        "lavt": {"encoder": "Swin-B", "oIoU": [72.73, 75.82]},
    },
)


def make(runs: list[Row], figures: tuple[str, ...] = ("oIoU",), paper: PaperTable | None = PAPER) -> Table:
    return Table("A & B", "Method", figures, ENTRIES, runs, paper)


BOTH = [results("refshapes", "shapes", "val", failures={"no proposals": 3, "skipped, no proposals": 2})]
BOTH.append(results("refcoco", "unc", "val"))


def test_markdown_sets_the_papers_lines_apart() -> None:
    assert (
        markdown(make(BOTH))
        == r"""# A & B

oIoU

| Method              | Encoder   |   refshapes val |   refcoco val |
|:--------------------|:----------|----------------:|--------------:|
| Random              | -         |           10.00 |         10.00 |
| Cropping            | my_rn\|x  |           20.50 |         20.50 |
| Cropping (paper)    | RN50      |               - |         22.36 |
| Upper bound         | -         |           42.00 |         42.00 |
| Upper bound (paper) | -         |               - |         42.08 |
| LAVT (paper)        | Swin-B    |               - |         72.73 |

| Data set      | Proposals    |   Images |      Expressions |   Failed |   Skipped |   Seconds |
|:--------------|:-------------|---------:|-----------------:|---------:|----------:|----------:|
| refshapes val | felzenszwalb |    1,500 | 10,834 of 10,834 |        3 |         2 |      12.3 |
| refcoco val   | felzenszwalb |    1,500 | 10,834 of 10,834 |        0 |         0 |      12.3 |

* Lines marked (paper) are published numbers: A paper, Table 9, other masks. All others were measured here.
* refshapes val: no proposals: 3 expressions.
* refshapes val: skipped, no proposals: 2 expressions.
"""
    )


def test_latex_is_escaped_and_sets_the_papers_lines_in_italics() -> None:
    assert (
        latex(make(BOTH[1:], ("oIoU", "mIoU")))
        == r"""\begin{table}
  \centering
  \caption{A \& B}
  \begin{tabular}{llr}
    \toprule
    Method & Encoder & refcoco val \\
    \midrule
    \multicolumn{3}{l}{oIoU} \\
    Random & - & 10.00 \\
    Cropping & my\_rn|x & 20.50 \\
    \emph{Cropping (paper)} & \emph{RN50} & \emph{22.36} \\
    Upper bound & - & 42.00 \\
    \emph{Upper bound (paper)} & \emph{-} & \emph{42.08} \\
    \emph{LAVT (paper)} & \emph{Swin-B} & \emph{72.73} \\
    \midrule
    \multicolumn{3}{l}{mIoU} \\
    Random & - & - \\
    Cropping & my\_rn|x & 30.25 \\
    \emph{Cropping (paper)} & \emph{RN50} & \emph{24.31} \\
    Upper bound & - & 48.00 \\
    \bottomrule
  \end{tabular}

  \par\footnotesize refcoco val: proposals felzenszwalb, images 1,500, expressions 10,834 of 10,834, failed 0, skipped 0, seconds 12.3.
  \par\footnotesize Lines marked (paper) are published numbers: A paper, Table 9, other masks. All others were measured here.
\end{table}
"""  # noqa: E501
    )


def test_csv_has_one_row_per_score_and_counts_beside_ours_alone(tmp_path: Path) -> None:
    write_all(tmp_path, make(BOTH[1:]), {})
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [(row["source"], row["method"], row["encoder"], row["oIoU"], row["mIoU"]) for row in rows] == [
        ("ours", "Random", "", "10.0", ""),
        ("ours", "Cropping", "my_rn|x", "20.5", "30.25"),
        ("paper", "Cropping", "RN50", "22.36", "24.31"),
        ("ours", "Upper bound", "", "42.0", "48.0"),
        ("paper", "Upper bound", "", "42.08", ""),
        ("paper", "LAVT", "Swin-B", "72.73", ""),
    ]
    assert [row["n_expressions_evaluated"] for row in rows] == ["10834", "10834", "", "10834", "", ""]
    assert {(row["dataset"], row["partition"], row["split"]) for row in rows} == {("refcoco", "unc", "val")}


def test_json_keeps_ours_and_the_papers_apart() -> None:
    found = document(make(BOTH), {"title": "A"})
    assert [run["folder"] for run in found["runs"]] == ["refshapes-shapes-val", "refcoco-unc-val"]
    assert (found["runs"][0]["n_failed"], found["runs"][0]["n_skipped"]) == (3, 2)
    assert found["runs"][0]["failures"] == {"no proposals": 3, "skipped, no proposals": 2}
    assert found["seconds"] == 24.68
    assert len(found["ours"]) == 6
    assert found["paper"][0] == {
        "method": "Cropping",
        "encoder": "RN50",
        "context": "",
        "dataset": "refcoco",
        "partition": "unc",
        "split": "val",
        "oIoU": 22.36,
        "mIoU": 24.31,
    }
    assert found["config"] == {"title": "A"}


def settings(weights: str | None) -> dict[str, Any]:
    proposals = {"class_path": "gl_ris.proposals.FreeSOLO", "init_args": {"weights": weights}}
    return {"data": {"init_args": {"limit": None}}, "model": {"proposals": proposals}}


@pytest.mark.parametrize(
    ("column", "there"),
    [
        (results("refcoco", "unc", "val"), True),
        (results("refcoco", "unc", "testA"), True),
        (results("refcoco", "unc", "val", n_images=4), False),
        (results("refcoco", "unc", "val", n_expressions_expected=10833), False),
        (results("refcoco", "unc", "val", proposals="slic"), False),
        (results("refcoco", "unc", "val", proposals="felzenszwalb (nms=0.5)"), False),
        (results("refcoco", "unc", "val", config=settings(None)), False),
        (results("refcoco", "unc", "val", config=settings("FreeSOLO.pth")), True),
        (results("refcoco", "unc", "val", limit=20), False),
        (results("refcoco", "unc", "testB"), False),
        (results("refcoco", "google", "val"), False),
        (results("refcoco+", "unc", "val"), False),
        (results("refshapes", "shapes", "val"), False),
    ],
    ids=[
        *("val", "testA", "few-images", "few-expressions", "other-proposals", "post-processed"),
        *("random-weights", "weights", "limited"),
        "other-split",
        "other-partition",
        "other-set",
        "refshapes",
    ],
)
def test_the_paper_stands_only_beside_what_it_measured(column: Row, there: bool) -> None:
    assert any(row["source"] == "paper" for row in make([column]).rows) == there
    assert ("(paper)" in markdown(make([column]))) == there
    assert not any(row["source"] == "paper" for row in make([column], paper=None).rows)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"n_images": 4, "n_expressions_expected": 11}, "4 images of 1,500, 11 sentences of 10,834"),
        ({"proposals": "slic"}, "proposals are slic, the paper's felzenszwalb"),
        (
            {"config": settings(None)},
            "proposals are felzenszwalb of random weights, the paper's felzenszwalb",
        ),
    ],
    ids=["counts", "proposals", "weights"],
)
def test_a_note_says_why_the_paper_is_not_there(changes: dict[str, Any], why: str) -> None:
    text = markdown(make([results("refcoco", "unc", "val", **changes)]))
    assert f"* refcoco val: not beside the paper's figures: {why}.\n" in text
    other = markdown(make([results("refshapes", "shapes", "val", **changes)]))
    assert "not beside" not in other


def test_a_note_names_the_rows_that_had_other_proposals() -> None:
    rows = {**PAPER.rows, "crop": {**PAPER.rows["crop"], "proposals": "slic"}}
    paper = dataclasses.replace(PAPER, rows=rows)
    texts = [
        markdown(make([results("refcoco", "unc", "val", proposals=proposals)], paper=paper))
        for proposals in ("slic", "felzenszwalb", "sam")
    ]
    assert all(("Cropping (paper)" in text) == there for text, there in zip(texts, (1, 0, 0), strict=True))
    why = "* refcoco val: not beside the paper's figures of {}: proposals are {}, the paper's {}."
    assert why.format("Upper bound, LAVT", "slic", "felzenszwalb") in texts[0]
    assert why.format("Cropping", "felzenszwalb", "slic") in texts[1]
    assert [text.count("not beside") for text in texts] == [1, 1, 2]


def test_counts_that_were_never_confirmed_are_no_reason() -> None:
    assert results("refcocog", "umd", "test", n_expressions_expected=9603)["unlike_the_papers"] == ""
    assert results("refcocog", "umd", "test", n_images=2599)["unlike_the_papers"] == "2,599 images of 2,600"


def test_every_miss_stands_beside_what_was_skipped() -> None:
    every_miss = {"Cropping (rn)": {"oIoU": 20.0, "mIoU": 30.0}, "Random": {"oIoU": 9.5, "mIoU": 8.5}}
    run = results(
        *("refcoco", "unc", "val"),
        failures={"skipped, no proposals": 34, "image: cut off": 1},
        n_expressions_evaluated=10800,
        every_miss=every_miss,
        every_miss_upper_bound={"oIoU": 41.5, "mIoU": 47.5},
    )
    table = make([run])
    text = markdown(table)
    assert "| Cropping (every miss counted)    | my_rn\\|x  |         20.00 |" in text
    assert "| Upper bound (every miss counted) | -         |         41.50 |" in text
    assert "count what was skipped as missed" in text
    rows = {(row["source"], row["method"]): row for row in table.rows}
    counts = ("n_expressions_evaluated", "n_failed", "n_skipped")
    assert [rows["ours", "Random"][name] for name in counts] == [10800, 1, 34]
    assert [rows["ours, every miss counted", "Random"][name] for name in counts] == [10834, 35, 0]
    assert [row["oIoU"] for row in document(table, {})["every_miss"]] == [9.5, 20.0, 41.5]


def test_a_limited_run_says_so() -> None:
    column = results("refcoco", "unc", "val", limit=20, n_images=20)
    assert "* refcoco val: limited to 20 images." in markdown(make([column]))


def test_contexts_become_columns() -> None:
    methods = {f"{a}{b}": {"oIoU": float(f"{i}{j}")} for i, a in enumerate("GL") for j, b in enumerate("gl")}
    entries = [Entry(a, "vit", b, f"{a}{b}", {}, None) for a in "GL" for b in "gl"]
    columns = [results("refcocog", p, "val", methods=methods) for p in ("umd", "google")]
    frame, papers = Table("", "Method", ["oIoU"], entries, columns).block("oIoU")
    assert list(frame.columns) == [
        *("Method", "Encoder"),
        *("refcocog val (umd): g", "refcocog val (umd): l"),
        *("refcocog val (google): g", "refcocog val (google): l"),
    ]
    assert frame.to_numpy().tolist() == [
        ["G", "vit", "0.00", "1.00", "0.00", "1.00"],
        ["L", "vit", "10.00", "11.00", "10.00", "11.00"],
    ]
    assert papers == []


# Read off the PDF, three places in each table.
@pytest.mark.parametrize(
    ("number", "row", "place", "figures"),
    [
        ("1", "Grad-CAM RN50", "refcocog google val", {"oIoU": 12.86, "mIoU": 13.30}),
        ("1", "Global-Local ViT-B/32", "refcoco+ unc testA", {"oIoU": 24.90, "mIoU": 25.64}),
        ("1", "Upper bound", "refcoco unc testB", {"oIoU": 43.52, "mIoU": 50.43}),
        ("1", "TSEG", "refcoco unc val", {"mIoU": 25.95}),
        ("1", "TSEG", "refcoco unc testA", {}),
        ("2", "Region token", "refcoco+ unc val", {"oIoU": 38.13}),
        ("2", "Global-Local", "refcocog umd val", {"oIoU": 51.01}),
        ("3", "local x global", "refcocog umd val", {"oIoU": 28.69}),
        ("3", "global x local", "refcocog umd val", {"oIoU": 27.37}),
        ("3", "local x global", "refshapesg shapes val", {}),
        ("frontier", "HybridGL", "refcocog umd val", {"oIoU": 42.47, "mIoU": 51.25}),
        ("frontier", "TAS", "refcoco unc testB", {"oIoU": 28.24}),
        ("frontier", "Localization Heads 1.3B", "refcocog umd test", {"oIoU": 55.8}),
        ("frontier", "Tarot-SAM3", "refcoco unc val", {"mIoU": 75.5}),
    ],
)
def test_published_numbers(number: str, row: str, place: str, figures: dict[str, float]) -> None:
    assert paper_table(number).figures(row, tuple(place.split())) == figures


@pytest.mark.parametrize("number", ["1", "2", "3", "frontier"])
def test_every_published_row_has_a_value_per_column(number: str) -> None:
    table = paper_table(number)
    for row in table.rows.values():
        assert {len(values) for name, values in row.items() if name in FIGURES} == {len(table.columns)}


@pytest.mark.parametrize(
    ("row", "made", "why"),
    [
        ("HybridGL", "facebook/sam-vit-huge", ""),
        ("SAM 3 Agent", "/models/sam-vit-huge", ""),
        (
            "HybridGL",
            "facebook/sam-vit-base",
            "proposals are sam of sam-vit-base, the paper's sam of sam-vit-huge",
        ),
        ("Global-Local", "sam-vit-huge", "proposals are sam of sam-vit-huge, the paper's freesolo"),
        (None, "sam-vit-base", "proposals are sam of sam-vit-base, the paper's sam of sam-vit-huge"),
    ],
)
def test_a_row_stands_beside_its_own_proposals(row: str | None, made: str, why: str) -> None:
    config = {"data": {}, "model": {"proposals": {"init_args": {"model": made}}}}
    run = results("refcoco", "unc", "testA", proposals="sam", config=config)
    assert paper_table("frontier").unlike(run, row) == why
    run = results("refcoco", "unc", "testA", proposals="freesolo")
    assert (paper_table("frontier").unlike(run, row) == "") == (row == "Global-Local")


def test_published_rows_say_their_league() -> None:
    rows = {"crop": {"encoder": "RN50", "league": "boxes, trained", "oIoU": [22.36, 20.49]}}
    paper = PaperTable("9", "A paper", "none", "felzenszwalb", PAPER.columns, {**PAPER.rows, **rows})
    assert "\n* Cropping (paper): boxes, trained.\n" in markdown(make(BOTH, paper=paper))
    assert not any("league" in row for number in "123" for row in paper_table(number).rows.values())
    assert all(row["league"] for row in paper_table("frontier").rows.values())


def test_unknown_tables_and_rows_of_the_paper_are_refused() -> None:
    with pytest.raises(UserError, match="Unknown table of the paper '7'"):
        paper_table("7")
    with pytest.raises(UserError, match="Did you mean 'Cropping'"):
        paper_table("2", ["Cropping", "Croping"])


def test_figures_have_intervals_where_the_runs_have(tmp_path: Path) -> None:
    sure = {"Cropping (rn)": {"oIoU": [18.0, 24.5], "mIoU": [30.0, 31.0], "Pr@0.5": [0.0, 2.0]}}
    sure["Upper bound"] = {"oIoU": [40.0, 44.0], "mIoU": [47.0, 49.0]}
    more = {"intervals": sure, "resampling": {"draws": 5000, "seed": 0}}
    runs = [results("refcoco", "unc", "testA", **more), results("toy", "own", "val")]
    table = Table("", "Method", FIGURES, ENTRIES, runs, PAPER)
    written = write_all(tmp_path, table, {})
    lines = [[cell.strip() for cell in line.split("|")] for line in written.splitlines() if "|" in line]
    found = {line[1]: line[-3:-1] for line in reversed(lines) if len(line) in (6, 7)}
    assert found["Cropping"] == ["20.50 ±3.2", "20.50"]
    assert found["Upper bound"] == ["42.00 ±2.0", "42.00"]
    assert found["Upper bound (paper)"] == ["42.52", "-"]
    assert found["Random"] == ["10.00", "10.00"]
    assert written.count("±: half of the 95% interval over 5,000 resamples of the images.") == 1
    assert r"20.50 $\pm$3.2" in (tmp_path / "table.tex").read_text()
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = {(row["dataset"], row["method"], row["source"]): row for row in csv.DictReader(file)}
    ends = [f"{name}_{end}" for name in FIGURES for end in ("low", "high")]
    assert [rows["refcoco", "Cropping", "ours"][end] for end in ends] == ["18.0", "24.5", "30.0", "31.0"]
    assert [rows["toy", "Cropping", "ours"][end] for end in ends] == [""] * 4
    assert document(table, {})["ours"][2]["oIoU_high"] == 24.5
