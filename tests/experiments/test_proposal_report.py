"""``python -m experiments.proposals report`` on a toy data set in the real file format."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from experiments import proposals, zero_shot
from gl_ris.command_line import exit_code
from gl_ris.proposals import Felzenszwalb, Proposals

Run = Callable[..., tuple[int, str, str]]
SETTINGS = ("proposals.scale=20", "proposals.min_area=30")
FINE = ("proposals=felzenszwalb", *SETTINGS)


class Picky(Felzenszwalb):
    """Fails on the square image of the toy set."""

    name, league = "picky", "COCO-supervised"

    def __call__(self, image: Tensor) -> Proposals:
        if image.shape[1] == image.shape[2]:
            raise RuntimeError("not a square")
        return super().__call__(image)


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], toy: list[str]) -> Run:
    """Run a command on the toy set; gives exit code, output and error output."""
    mains = {"proposals": proposals.main, "report": proposals.main, "zero_shot": zero_shot.main}

    def start(name: str, *arguments: str) -> tuple[int, str, str]:
        fits = [text for text in toy if not text.startswith(("model.", "methods", "proposals"))]
        clip = [text for text in toy if name == "zero_shot" and text.startswith("model.clip")]
        words = ["proposals", "report"] if name == "report" else [name]
        monkeypatch.setattr(sys, "argv", [*words, *fits, *clip, *arguments])
        return exit_code(mains[name]), *capsys.readouterr()

    return start


def read(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_text())
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_report_agrees_with_the_runs(run_here: Run, tmp_path: Path) -> None:
    picky = [f"proposals={__name__}.Picky", *SETTINGS]
    coarse = ["proposals=felzenszwalb", "proposals.scale=50", "limit=2"]
    assert run_here("proposals", *FINE, f"run_dir={tmp_path / 'a'}")[0] == 0
    assert run_here("proposals", *picky, f"run_dir={tmp_path / 'b'}")[0] == 0
    assert run_here("proposals", *coarse, f"run_dir={tmp_path / 'c'}")[0] == 0
    code, output, error = run_here("report", f"run_dir={tmp_path / 'report'}")
    assert code == 0, error
    assert run_here("zero_shot", *FINE, "methods=random", f"run_dir={tmp_path / 'run'}")[0] == 0
    bound = read(tmp_path / "run" / "results.json")["upper_bound"]
    assert run_here("zero_shot", *picky, "methods=random", f"run_dir={tmp_path / 'run2'}")[0] == 0
    lower = read(tmp_path / "run2" / "results.json")["upper_bound"]

    document = read(tmp_path / "report" / "report.json")
    rows = {row["generator"]: row for row in document["rows"]}
    filled, limited = (
        next(row for name, row in rows.items() if name.startswith("felz") and f"scale={scale}" in name)
        for scale in (20, 50)
    )
    assert {name: filled[name] for name in ("oIoU", "mIoU")} == pytest.approx(bound)
    assert {name: rows["picky"][name] for name in ("oIoU", "mIoU")} == pytest.approx(lower)
    assert (rows["picky"]["failed"], rows["picky"]["none"], rows["picky"]["missing"]) == (1, 1, 0)
    assert (limited["images"], limited["missing"]) == (2, 3)
    assert rows["ground truth"]["R@0.75"] == 100
    assert filled["per image"] == read(tmp_path / "a" / "proposals.json")["proposals_per_image"]
    leagues = [row["league"] for row in document["rows"]]
    assert leagues == ["unsupervised", "unsupervised", "COCO-supervised", "ground truth"]
    assert (document["n_images"], document["n_objects"]) == (5, 15)

    text = (tmp_path / "report" / "report.md").read_text()
    assert text in output
    assert "lines do not compare" in text
    assert [row["generator"] for row in read(tmp_path / "report" / "report.csv")] == list(rows)
    curve = [row for row in read(tmp_path / "report" / "curve.csv") if row["store"] == filled["store"]]
    assert float(curve[-1]["R@0.5"]) == pytest.approx(filled["R@0.5"])
    assert min(Image.open(tmp_path / "report" / "curve.png").size) > 400


def test_post_processing_applies_to_what_is_read_and_leaves_the_store_alone(
    run_here: Run, tmp_path: Path
) -> None:
    assert run_here("proposals", *FINE, f"run_dir={tmp_path / 'a'}")[0] == 0
    counts = {}
    for name, post in (("all", []), ("one", ["post.top=1"]), ("again", [])):
        assert run_here("report", *post, f"run_dir={tmp_path / name}")[0] == 0
        found = read(tmp_path / name / "report.json")
        counts[name] = found["rows"][0]["per image"]
    assert counts["one"] == 1 < counts["all"] == counts["again"]
    assert read(tmp_path / "one" / "report.json")["post"] == "top=1"
    assert "after top=1" in (tmp_path / "one" / "report.md").read_text()
    for arguments, heading in ((["post.top=1"], "felzenszwalb (top=1)"), ([], "felzenszwalb")):
        run = tmp_path / heading
        assert run_here("zero_shot", *FINE, *arguments, "methods=random", f"run_dir={run}")[0] == 0
        document = read(run / "results.json")
        assert document["proposals"] == heading
        assert document["proposal_store"]["read"] == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "No proposals are stored for toy val"),
        (["data.proposals=felzenszwalb"], "store it first by python -m experiments.proposals"),
        (["post.top=0"], "post.top is 0, it must be at least 1"),
    ],
    ids=["nothing-stored", "other-proposals", "post"],
)
def test_what_cannot_be_reported_is_said(arguments: list[str], said: str, run_here: Run) -> None:
    code, _, error = run_here("report", *arguments)
    assert code == 2
    assert said in error


def test_a_store_that_is_filled_and_the_report_on_it_are_logged(run_here: Run, tmp_path: Path) -> None:
    """By real wandb, offline: what it keeps for the upload holds the table and the curve."""
    for name, more in (("proposals", FINE), ("report", ())):
        folder = tmp_path / name
        code, output, error = run_here(name, *more, "wandb=offline", f"run_dir={folder}")
        assert code == 0, error
        assert f"wandb sync {folder}" in output
        (offline,) = (folder / "wandb").glob("offline-run-*")
        (table,) = offline.glob("files/media/table/results_*.json")
        kept = read(table)
        if name == "report":
            expected = read(folder / "report.json")["rows"][0]
            assert kept["columns"][:2] == ["league", "generator"]
            assert kept["data"][0] == [expected[column] for column in kept["columns"]]
            (picture,) = offline.glob("files/media/images/curve_*.png")
            assert picture.read_bytes() == (folder / "curve.png").read_bytes()
        else:
            assert ["images", "generated", 5] in kept["data"]


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_report_the_same_under_the_words_of_the_help(
    run_here: Run, command: Callable[..., Any], toy: list[str], tmp_path: Path
) -> None:
    assert run_here("proposals", *FINE, f"run_dir={tmp_path / 'a'}")[0] == 0
    assert run_here("report", f"run_dir={tmp_path / 'one'}")[0] == 0
    fits = [text for text in toy if not text.startswith(("model.", "methods", "proposals"))]
    answer = command("proposals", "report", *fits, "--trainer.devices=2", f"run_dir={tmp_path / 'two'}")
    assert answer.returncode == 0, answer.stderr
    for name in ("report.csv", "curve.csv", "report.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
