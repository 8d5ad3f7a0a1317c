"""``python -m experiments.evaluate_predictions`` and ``experiments.export``: out of a run and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from experiments import evaluate_predictions, export, zero_shot
from finished_cells import zero_shot_results
from gl_ris.command_line import exit_code
from gl_ris.errors import UserError
from gl_ris.masks import decode_rle
from gl_ris.predictions import read_predictions
from gl_ris.results import Results

Run = Callable[..., tuple[int, str, str]]
Refusal = Callable[..., str]
QUIET = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def data(toy_root: Path) -> list[str]:
    return ["data=datamodules.RefCOCO", f"data.root={toy_root}", "data.dataset=toy"]


@pytest.fixture(scope="module")
def run(data: list[str], clip_dirs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two methods, of whose expressions some are misses for want of a proposal, skipped."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    proposals = ["proposals=felzenszwalb", f"model.clip={clip_dirs['vit']}", "recipe=published"]
    proposals += ["data.overlap=sum_equals_one", "methods=[global_local,largest]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["zero_shot", *data, *proposals, *QUIET, f"run_dir={folder}"])
        assert exit_code(zero_shot.main) == 0
    return folder


@pytest.fixture
def judged(run_command: Run, data: list[str], tmp_path: Path) -> Callable[..., Results]:
    """Measure predictions and give the result document."""

    def judge(*words: str) -> Results:
        code, output, error = run_command(
            evaluate_predictions, *data, *QUIET, f"run_dir={tmp_path}/judged", "overwrite=true", *words
        )
        assert code == 0, error
        found = Results.read(tmp_path / "judged" / "results.json")
        assert output.count("oIoU is also called cIoU, and mIoU gIoU, in other papers.") == 1
        assert (tmp_path / "judged" / "overlays" / "contact_sheet.png").is_file()
        return found

    return judge


@pytest.fixture
def refused(refusal: Refusal, data: list[str]) -> Refusal:
    return partial(refusal, evaluate_predictions, *data, *QUIET)


def test_a_runs_own_predictions_have_exactly_its_figures(
    run: Path, judged: Callable[..., Results], tmp_path: Path
) -> None:
    source = Results.read(run / "results.json")
    found = judged(f"predictions={run}/predictions.jsonl")
    assert found.methods == found.every_miss == source.every_miss
    assert source.methods != source.every_miss, "the run leaves something out"
    assert (found.experiment, found.counting, found.proposals) == (
        "evaluate_predictions",
        "every_miss",
        "none",
    )
    assert (
        found.n_expressions_evaluated == 45 == source.n_expressions_evaluated + source.n_expressions_skipped
    )
    assert found.failures == source.failures
    pairs = zip(*(read_predictions(f / "predictions.jsonl") for f in (run, tmp_path / "judged")), strict=True)
    for ours, theirs in pairs:
        for name in ("image_id", "ref_id", "sent_id", "method", "iou", "intersection", "union"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert ours.segmentation == theirs.segmentation


@pytest.mark.parametrize("form", ["coco", "masks"])
def test_what_is_exported_has_exactly_the_figures(
    form: str, run: Path, judged: Callable[..., Results], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export.main([str(run), f"format={form}", "method=Largest", f"out={tmp_path}/out"])
    said = capfd.readouterr().out
    path = tmp_path / "out" / ("coco_results.json" if form == "coco" else "masks")
    found = judged(f"predictions={path}", "name=Theirs")
    source = Results.read(run / "results.json")
    assert isinstance(source.every_miss, dict)
    assert found.methods == {"Theirs": source.every_miss["Largest"]}
    lost = sum(source.failures.values())
    assert found.failures == {"no line in the predictions": lost}
    assert f"{45 - lost} masks for 45 expressions" in said


def test_several_files_stand_side_by_side(run: Path, judged: Callable[..., Results], tmp_path: Path) -> None:
    export.main([str(run), "format=masks", "method=Largest", f"out={tmp_path}/out"])
    files = f"predictions=[{tmp_path}/out/masks,{run}/predictions.jsonl]"
    found = judged(files)
    assert list(found.methods) == ["masks", "Global-Local", "Largest"]
    assert found.methods["masks"] == found.methods["Largest"]
    assert isinstance(found.inputs, dict)
    assert set(found.inputs["predictions"]) == {"masks", "predictions.jsonl"}


def test_limit_and_lists_leave_lines_aside_and_say_so(
    run: Path, judged: Callable[..., Results], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "faulty.txt").write_text("1000\n1001\n")
    found = judged(f"predictions={run}/predictions.jsonl", "limit=4", f"data.without={tmp_path}/faulty.txt")
    assert (found.n_images, found.n_expressions_evaluated) == (4, 34)
    assert "11 masks are of expressions that data.limit or a list leaves out" in caplog.text
    (told,) = found.filters
    assert (told.option, told.file, told.n_expressions_left_out) == ("data.without", "faulty.txt", 2)
    assert "List         data.without=faulty.txt (SHA-256 " in (tmp_path / "judged" / "table.txt").read_text()
    own = [
        record
        for record in read_predictions(run / "predictions.jsonl")
        if record.index < 4 and record.sent_id not in (1000, 1001) and record.method == "Largest"
    ]
    ious = [record.iou or 0 for record in own]
    assert found.methods["Largest"]["mIoU"] == pytest.approx(100 * sum(ious) / 34, abs=1e-6)


def test_what_does_not_fit_is_refused_before_any_work(run: Path, refused: Refusal, tmp_path: Path) -> None:
    lines = (run / "predictions.jsonl").read_text().splitlines(keepends=True)

    def write(*rows: str) -> str:
        (tmp_path / "x.jsonl").write_text("".join(rows))
        return f"predictions={tmp_path}/x.jsonl"

    assert "for an expression that has one already (1): '" in refused(write(*lines, lines[0]))
    row = {**json.loads(lines[0]), "sent_id": 7}
    assert "x.jsonl', line 1 (sent_id 7, ref_id 10, image_id 1 is no expression" in refused(
        write(json.dumps(row))
    )
    row = {**json.loads(lines[0]), "segmentation": {"size": [3, 3], "counts": [9]}}
    assert "the mask is of 3 x 3 pixels (height x width), its image is of 45 x 70" in refused(
        write(json.dumps(row))
    )
    assert "name a file or a folder by predictions=FILE" in refused()
    own = f"predictions={run}/predictions.jsonl"
    assert "has several methods (Global-Local, Largest); choose one by method=" in refused(own, "name=A")
    assert "Unknown method of" in refused(own, "method=Globl-Local")
    assert "name has 2 names for 1 files; give one for each" in refused(own, "name=[A,B]")
    both = f"predictions=[{run}/predictions.jsonl,{run}/predictions.jsonl]"
    assert "Two of the predictions are called 'Global-Local'" in refused(both)


def test_pycocotools_loads_the_export_and_counts_the_same(run: Path, tmp_path: Path) -> None:
    export.main([str(run), "format=coco", "method=Global-Local", f"out={tmp_path}"])
    truth = COCO(str(tmp_path / "coco_instances.json"))
    found = truth.loadRes(str(tmp_path / "coco_results.json"))
    records = [one for one in read_predictions(run / "predictions.jsonl") if one.method == "Global-Local"]
    by_ids = {(one["ref_id"], one["sent_id"]): one for one in found.dataset["annotations"]}
    for record in records:
        own = by_ids.get((record.ref_id, record.sent_id))
        assert (own is None) == (record.segmentation is None)
        if own is not None and record.segmentation is not None:
            np.testing.assert_array_equal(found.annToMask(own), decode_rle(record.segmentation).numpy())
    # of one guess for each expression, the recall at IoU 0.5 is the precision at 0.5 of this field
    wrong = COCOeval(truth, found, "segm")
    wrong.params.maxDets, wrong.params.iouThrs = [100], np.array([0.5])
    wrong.evaluate()
    matches = [image["dtMatches"][0] for image in wrong.evalImgs if image and image["aRng"] == [0, 1e10]]
    hits = sum(int((match > 0).sum()) for match in matches)
    assert hits == sum((record.iou or 0) >= 0.5 for record in records) > 0


def test_the_row_of_a_leaderboard_counts_every_miss(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export.main([str(run), "format=leaderboard"])
    source = Results.read(run / "results.json")
    every, sure = source.every_miss, source.every_miss_intervals
    assert isinstance(every, dict)
    assert isinstance(sure, dict)
    text, printed = (run / "export" / "leaderboard.md").read_text(), capfd.readouterr().out
    for method, row in every.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {method} "))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        low, high = sure[method]["oIoU"]
        assert cells[1:4] == ["toy val (unc)", "felzenszwalb", f"{row['oIoU']:.2f} ±{(high - low) / 2:.1f}"]
        assert cells[4].startswith(f"{row['mIoU']:.2f} ±")
        assert cells[-1] == "45"
        assert line in printed
    assert "oIoU (cIoU)" in text


def test_masks_are_white_on_black_and_never_mixed(run: Path, tmp_path: Path) -> None:
    words = [str(run), "format=masks", "method=Largest", f"out={tmp_path}"]
    export.main(words)
    one = next(iter(sorted((tmp_path / "masks").iterdir())))
    records = (r for r in read_predictions(run / "predictions.jsonl") if r.method == "Largest")
    code = next(record.segmentation for record in records if str(record.sent_id) == one.stem)
    assert code is not None
    np.testing.assert_array_equal(np.asarray(Image.open(one)), decode_rle(code).numpy() * np.uint8(255))
    with pytest.raises(UserError, match="masks' is not empty"):
        export.main(words)


def change(folder: Path, **values: Any) -> Path:
    """Write a run of one prediction, with some of its values changed."""
    folder.mkdir()
    (folder / "results.json").touch()
    record = {"image_id": 1, "ref_id": 1, "sent_id": 1, "expression": "a", "noun_phrase": None, "method": "A"}
    record |= {"choice": None, "score": None, "iou": 0.0, "intersection": 0, "union": 4}
    record |= {"segmentation": {"size": [2, 2], "counts": [4]}, **values}
    (folder / "predictions.jsonl").write_text(json.dumps(record) + "\n")
    return folder


@pytest.mark.parametrize(
    ("words", "values", "said"),
    [
        (["format=csv"], {}, r"Unknown format 'csv'\. .*Available: coco, leaderboard, masks"),
        (["format=masks", "method=B"], {}, "Unknown method of .* 'B'"),
        (["format=masks"], {"sent_id": "../../x"}, r"id '\.\./\.\./x' of an expression is no name of a file"),
        (["format=masks"], {"sent_id": ".x"}, r"id '\.x' .* use format=coco"),
        (["format=coco"], {}, "configuration file .*config.yaml' cannot be read"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    words: list[str], values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        export.main([str(change(tmp_path / "run", **values)), *words, f"out={tmp_path}/out"])
    assert not (tmp_path / "out").exists()


def test_where_a_method_abstained_the_export_says_so(tmp_path: Path) -> None:
    image = {"size": [2, 2], "areas": [], "objects": [], "overlaps": []}
    run = change(tmp_path / "run", segmentation=None, abstained=True, image=image)
    export.main([str(run), "format=masks", f"out={tmp_path}"])
    assert not np.asarray(Image.open(tmp_path / "masks" / "1.png")).any()


@pytest.mark.parametrize(
    ("changes", "heads", "expressions", "said"),
    [
        ({}, ["oIoU (cIoU)", "mIoU (gIoU)", "Expressions"], "60", "Every miss is counted. oIoU is also"),
        (
            {"n_expressions_no_target": 7},
            ["oIoU", "mIoU", "gIoU", "Expressions"],
            "67",
            "Every miss is counted. 7 have no target and are in gIoU, cIoU and N_acc alone.",
        ),
        (
            {"schema": 1, "failures": {"skipped, no proposals": 3}},
            ["oIoU (cIoU)", "mIoU (gIoU)", "Expressions"],
            "60",
            "3 expressions are left out for want of proposals. oIoU is also",
        ),
    ],
)
def test_a_leaderboard_names_what_its_figures_are_of(
    changes: dict[str, Any], heads: list[str], expressions: str, said: str, tmp_path: Path
) -> None:
    figures = {"oIoU": 10.0, "mIoU": 11.0, **({"gIoU": 12.0} if "gIoU" in heads else {})}
    document = {**zero_shot_results(), "methods": {"A": figures}, "n_expressions_evaluated": 60, **changes}
    document = {key: value for key, value in document.items() if not key.startswith("every_miss")}
    (tmp_path / "results.json").write_text(json.dumps(document))
    export.main([str(tmp_path), "format=leaderboard"])
    head, _, row, _, note = (tmp_path / "export" / "leaderboard.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, row)]
    assert cells[0][3:] == heads
    assert cells[1][-1] == expressions
    assert note.startswith(said)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not the folder of a finished run: it has no results\.json"):
        export.main([str(tmp_path)])


def test_data_that_have_changed_are_noticed(run: Path, tmp_path: Path) -> None:
    folder = change(tmp_path / "run")
    (folder / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(UserError, match="are no longer those that it was on"):
        export.main([str(folder), "format=coco"])
