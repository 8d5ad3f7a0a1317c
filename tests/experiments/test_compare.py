"""``python -m experiments.compare`` on runs written by hand, against a plain loop over resamples."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pycocotools import mask as coco

from experiments import compare
from finished_cells import zero_shot_results
from gl_ris.command_line import exit_code
from gl_ris.errors import UserError
from gl_ris.files import write_json
from gl_ris.predictions import Prediction

SIDE = 12
# of each expression image and id, and by method how many of the 12 columns of its mask there are
EXPRESSIONS = [(image, 10 * image + i) for image in (4, 7, 5, 9) for i in range(3)]
FIRST = {"A": [6, 6, 3, 0, 2, 5, 6, 1, 1, 4, 4, 4], "B": [1, 6, 3, 2, 2, 2, 6, 6, 1, 0, 4, 9]}
SECOND = {"A": [6, 1, 3, 6, 2, 5, 6, 6, 1, 4, 4, 12], "C": [1] * 12}
TARGET = 6


def drawn(columns: int) -> np.ndarray[Any, Any]:
    return np.arange(SIDE)[None, :].repeat(SIDE, 0) < columns


def record(method: str, image: int, sent: int, columns: int, **changes: Any) -> Prediction:
    mask, target = drawn(columns), drawn(TARGET)
    shared, union = int((mask & target).sum()), int((mask | target).sum())
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    made = Prediction(
        image_id=image,
        ref_id=1,
        sent_id=sent,
        expression=f"number {sent}",
        noun_phrase=None,
        method=method,
        choice=columns or None,
        score=None,
        iou=shared / union,
        intersection=shared,
        union=union,
        segmentation={"size": [SIDE, SIDE], "counts": rle["counts"].decode()} if columns else None,
    )
    return msgspec.structs.replace(made, **changes)


def write_run(folder: Path, methods: dict[str, list[int]], keep: int = 12, **changes: Any) -> Path:
    folder.mkdir()
    where = {name: changes.pop(name) for name in ("split", "dataset") if name in changes}
    write_json(folder / "results.json", zero_shot_results(**where))
    lines = [
        record(method, *EXPRESSIONS[i], columns[i], **changes).line()
        for i in range(keep)
        for method, columns in methods.items()
    ]
    (folder / "predictions.jsonl").write_bytes(b"".join(lines))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return write_run(tmp_path / "one", FIRST), write_run(tmp_path / "two", SECOND)


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def oiou(columns: list[int]) -> float:
    return 100 * sum(min(c, TARGET) for c in columns) / sum(max(c, TARGET) for c in columns)


def test_runs_are_compared_by_the_method_that_they_share(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    compare.main([*map(str, runs), f"run_dir={out}"])
    printed = capsys.readouterr().out
    document = json.loads((out / "compare.json").read_text())
    assert (document["n_expressions"], document["dataset"], document["resampling"]) == (
        *(12, "refshapesg"),
        {"draws": 5000, "seed": 0},
    )
    (row,) = document["rows"]
    assert (row["first"], row["second"], row["n_images"]) == ("one: A", "two: A", 4)
    first, second = FIRST["A"], SECOND["A"]
    assert row["oIoU_first"] == pytest.approx(oiou(first))
    assert row["oIoU_difference"] == pytest.approx(oiou(second) - oiou(first))
    # images 4 and 5 are the first two in ascending order, 7 is the third
    places = {4: [0, 1, 2], 5: [6, 7, 8], 7: [3, 4, 5], 9: [9, 10, 11]}
    values = []
    for draw in np.random.default_rng(0).integers(0, 4, (5000, 4)):
        some = [i for place in draw for i in places[(4, 5, 7, 9)[place]]]
        values.append(oiou([second[i] for i in some]) - oiou([first[i] for i in some]))
    low, high = np.percentile(values, [2.5, 97.5])
    assert (row["oIoU_difference_low"], row["oIoU_difference_high"]) == pytest.approx((low, high))
    # 6 to 1, none to 6, 1 to 6, 4 to 12: two better, and two worse
    assert (row["n_changed"], row["n_better"], row["n_worse"]) == (4, 2, 2)
    assert row["changed_percent"] == pytest.approx(100 * 4 / 12)
    changed = rows(out, "changed.csv")
    assert [int(one["sent_id"]) for one in changed] == [41, 92 + 0, 51, 70]
    assert [float(one["mask_iou"]) for one in changed] == pytest.approx([1 / 6, 4 / 12, 1 / 6, 0])
    assert [float(one["difference"]) for one in changed] == pytest.approx(
        [1 / 6 - 1, 6 / 12 - 4 / 6, 1 - 1 / 6, 1]
    )
    assert f"{row['oIoU_difference']:+.2f} ±{(high - low) / 2:.1f}" in printed
    assert "±: half of the 95% interval over 5,000 resamples" in printed
    assert (out / "compare.md").read_text().strip() in printed
    assert rows(out, "compare.csv")[0]["n_changed"] == "4"


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["one"], [("A", "B")]),
        (["one", "two", "third"], [("A", "A"), ("B", "B")]),
        (["other", "two"], [("D", "A"), ("D", "C")]),
    ],
)
def test_what_is_compared_with_what(
    names: list[str], pairs: list[tuple[str, str]], runs: tuple[Path, Path], tmp_path: Path
) -> None:
    write_run(tmp_path / "other", {"D": [3] * 12})
    write_run(tmp_path / "third", {"B": [3] * 12})
    compare.main([*(str(tmp_path / name) for name in names), f"run_dir={tmp_path / 'out'}"])
    found = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    assert [(row["first"].split()[-1], row["second"].split()[-1]) for row in found] == pairs
    assert len({(row["first"], row["second"]) for row in found}) == len(found)


def test_of_parts_what_is_common_is_compared_and_counted(runs: tuple[Path, Path], tmp_path: Path) -> None:
    part = write_run(tmp_path / "part", {"A": SECOND["A"]}, keep=7)
    line = [str(runs[0]), str(part), f"run_dir={tmp_path / 'out'}"]
    with pytest.raises(UserError, match=r"differ in 5 expressions.* 51 \(image 5, ref 1\); common=true"):
        compare.main(line)
    compare.main([*line, "common=true"])
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert document["n_expressions"] == 7
    assert list(document["n_left_out"].values()) == [5, 0]
    assert "5 expressions of '" in (tmp_path / "out" / "compare.md").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "testA"}, "do not compare: split is val and testA"),
        ({"dataset": "toy"}, "dataset is refshapesg and toy"),
        ({"expression": "another"}, r"have 'number 40' and 'another' as expression 40 \(image 4"),
        ({"ref_id": 5}, "differ in 24 expressions"),
        ({"sent_id": 1}, r"Expression 1 \(image 4, ref 1\) is there twice"),
        ({"segmentation": {"size": [2, 2], "counts": "04"}}, "have sizes"),
    ],
)
def test_runs_that_do_not_compare_are_refused(
    changes: dict[str, Any], said: str, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", {"A": SECOND["A"]}, **changes)
    with pytest.raises(UserError, match=said):
        compare.main([str(runs[0]), str(other), f"run_dir={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_other_mistakes_are_told(runs: tuple[Path, Path], tmp_path: Path) -> None:
    single = write_run(tmp_path / "single", {"A": FIRST["A"]})
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").touch()
    for line, said in (
        ([str(tmp_path / "nothing")], "nothing' is not the folder of a finished run: it has no"),
        ([str(tmp_path / "begun")], "There is no finished run in .* resume=true"),
        ([str(single)], "has one method only"),
        ([str(single), str(single)], "Name each run once"),
        ([str(runs[0]), f"run_dir={runs[0]}", "overwrite=true"], "is one of the runs"),
        ([str(runs[0]), "comon=true"], "Did you mean '--common'"),
    ):
        with pytest.raises(UserError, match=said):
            compare.main(line)
    (runs[1] / "progress").mkdir()
    with pytest.raises(UserError, match=r"no finished run in .*two"):
        compare.main([*map(str, runs)])
    assert exit_code(lambda: compare.main([str(single)])) == 2


@pytest.mark.parametrize(
    "nothing",
    [
        dict.fromkeys(("iou", "intersection", "union")),
        {"target": (), "iou": 0.0, "intersection": 0, "union": 36},
    ],
)
def test_what_has_no_target_is_in_no_figure(
    nothing: dict[str, Any], runs: tuple[Path, Path], tmp_path: Path
) -> None:
    with (runs[0] / "predictions.jsonl").open("ab") as file:
        file.write(record("A", 4, 1, 3, **nothing).line() + record("B", 4, 1, 5, **nothing).line())
    compare.main([str(runs[0]), f"run_dir={tmp_path / 'out'}"])
    (row,) = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    assert row["n_expressions"] == 12
    last = rows(tmp_path / "out", "changed.csv")[-1]
    assert (last["sent_id"], last["difference"], float(last["mask_iou"])) == ("1", "", pytest.approx(3 / 5))
    assert row["n_changed"] == 1 + sum(a != b for a, b in zip(FIRST["A"], FIRST["B"], strict=True))
    known = "target" in nothing
    assert row["n_expressions_no_target"] == known
    where = "known to have no target: in gIoU and in changes" if known else "without a target: in changes"
    assert f"1 more {where} alone" in (tmp_path / "out" / "compare.md").read_text()


def test_where_nothing_is_meant_it_is_right_to_choose_nothing(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"target": (), "iou": 0.0, "intersection": 0, "union": 36}
    right = {**wrong, "iou": 1.0, "union": 0, "segmentation": None, "abstained": True}
    for name, what in (("one", wrong), ("two", right)):
        folder = write_run(tmp_path / name, {"A": FIRST["A"]})
        with (folder / "predictions.jsonl").open("ab") as file:
            file.write(record("A", 4, 1, 3, **what).line() + record("A", 7, 2, 3, **wrong).line())
    compare.main([str(tmp_path / "one"), str(tmp_path / "two"), f"run_dir={tmp_path / 'out'}"])
    (row,) = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    ious = [min(c, TARGET) / max(c, TARGET) for c in FIRST["A"]]
    figures = [100 * (sum(ious) + more) / 14 for more in (0, 1)]
    assert [row["gIoU_first"], row["gIoU_second"]] == pytest.approx(figures)
    # the image of three expressions and of the one about nothing, in no draw, in one, in several
    low, high = row["gIoU_difference_low"], row["gIoU_difference_high"]
    values = []
    for draw in np.random.default_rng(0).integers(0, 4, (5000, 4)):
        counts = np.bincount(draw, minlength=4) @ np.array([[1, 4], [0, 3], [0, 4], [0, 3]])
        values.append(100 * counts[0] / counts[1])
    assert (low, high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert "| gIoU difference |" in " ".join((tmp_path / "out" / "compare.md").read_text().split())


def test_a_mask_without_a_pixel_is_the_same_as_none(tmp_path: Path) -> None:
    rle = coco.encode(np.asfortranarray(drawn(0).astype(np.uint8)))
    blank = {"size": [SIDE, SIDE], "counts": rle["counts"].decode()}
    # by hand: none and blank are alike, and both are another mask than a drawn one
    for name, columns, code in (("one", 0, None), ("two", 0, blank), ("three", 6, None)):
        made: dict[str, Any] = {} if columns else {"segmentation": code}
        write_run(tmp_path / name, {"A": [columns]}, keep=1, **made)
    for names, expected in ((("one", "two"), []), (("two", "three"), [0.0]), (("three", "one"), [0.0])):
        out = tmp_path / "-".join(names)
        compare.main([*(str(tmp_path / name) for name in names), f"run_dir={out}"])
        assert [float(row["mask_iou"]) for row in rows(out, "changed.csv")] == expected


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, experiments.compare, experiments.reporting.comparison; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
