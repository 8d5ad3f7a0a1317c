"""Subsets from end to end: a toy data set in PhraseCut's format, evaluated, tabled, and by two processes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import recipe_effects, zero_shot
from gl_ris.command_line import exit_code

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def toy_phrases(phrases_root: Path, clip_dirs: dict[str, str]) -> list[str]:
    return [
        "data=phrasecut",
        f"data.root={phrases_root}",
        "proposals=ground_truth",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        f"model.clip={clip_dirs['vit']}",
        "model.pretrained=null",
    ]


METHODS = "methods=[cropping,random]"


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; gives exit code, output and error output."""

    def start(module: Any, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        code = exit_code(module.main)
        return code, *capfd.readouterr()

    return start


def figures_of(lines: list[dict[str, Any]]) -> tuple[float, float]:
    ious = [line["intersection"] / line["union"] if line["union"] else 0 for line in lines]
    union = sum(line["union"] for line in lines)
    return 100 * sum(line["intersection"] for line in lines) / union, 100 * sum(ious) / len(ious)


def test_both_definitions_in_one_run(run_here: Run, toy_phrases: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, output, error = run_here(zero_shot, *toy_phrases, METHODS, f"run_dir={run}")
    assert code == 0, error
    document = json.loads((run / "results.json").read_text())
    assert document["config"]["model"]["alpha"] == 0.85
    subsets = document["subsets"]
    # published: the plain label belongs to the names, which come first
    assert {name: part["label"] for name, part in subsets.items()} == {
        "unseen_names": "Unseen",
        "unseen_synonyms": "Unseen (synonyms)",
    }
    counts = ("n_images", "n_expressions_expected", "n_expressions_evaluated")
    assert [subsets["unseen_names"][key] for key in counts] == [3, 5, 5]
    assert [subsets["unseen_synonyms"][key] for key in counts] == [2, 2, 2]
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    by_phrase = {line["expression"]: line["subsets"] for line in lines}
    assert by_phrase["dog 0"] == []
    assert by_phrase["man 1"] == by_phrase["table 1"] == by_phrase["Dog 0"] == ["unseen_names"]
    assert by_phrase["sky 0"] == by_phrase["grass 1"] == ["unseen_names", "unseen_synonyms"]
    for name, part in (*subsets.items(), (None, document)):
        for method, figures in part["methods"].items():
            own = [x for x in lines if x["method"] == method and (name is None or name in x["subsets"])]
            assert (figures["oIoU"], figures["mIoU"]) == pytest.approx(figures_of(own)), (name, method)
    assert "\nAll: 9 of 9 expressions on 4 images\n" in output
    assert "\nUnseen: 5 of 5 expressions on 3 images\n" in output
    assert "\nUnseen (synonyms): 2 of 2 expressions on 2 images\n" in output
    with (run / "table.csv").open(newline="") as file:
        rows = [
            (row["subset"], row["method"], row["n_expressions_evaluated"]) for row in csv.DictReader(file)
        ]
    assert rows[2:5] == [("All", "Upper bound", "9"), ("Unseen", "Cropping", "5"), ("Unseen", "Random", "5")]


def test_the_recipe_names_the_headline_and_changes_no_figure(
    run_here: Run, toy_phrases: list[str], tmp_path: Path
) -> None:
    documents = []
    for value in ("names", "synonyms"):
        run = tmp_path / value
        code, *_ = run_here(
            zero_shot, *toy_phrases, "methods=cropping", f"recipe.unseen={value}", f"run_dir={run}"
        )
        assert code == 0
        documents.append(json.loads((run / "results.json").read_text()))
    first, second = (document["subsets"] for document in documents)
    assert [part["label"] for part in second.values()] == ["Unseen", "Unseen (names)"]
    assert list(second) == ["unseen_synonyms", "unseen_names"]
    assert {name: part["methods"] for name, part in first.items()} == {
        name: part["methods"] for name, part in second.items()
    }
    assert documents[0]["methods"] == documents[1]["methods"]
    assert documents[1]["config"]["model"]["recipe"]["unseen"] == "synonyms"


def test_a_subset_without_an_expression_is_told(
    run_here: Run, toy_phrases: list[str], tmp_path: Path
) -> None:
    """The first image alone, under its limit, has no phrase that is unseen by synonyms."""
    run = tmp_path / "run"
    code, output, error = run_here(
        zero_shot, *toy_phrases, "methods=cropping", "limit=1", "recipe=clean", f"run_dir={run}"
    )
    assert code == 0, error
    assert "\nUnseen: no expression of the split is in it\n" in output
    assert "\nUnseen (names): 1 of 2" not in output
    assert "\nUnseen (names): 1 of 1 expressions on 1 images\n" in output
    part = json.loads((run / "results.json").read_text())["subsets"]["unseen_synonyms"]
    assert (part["n_expressions_expected"], part["n_images"]) == (0, 0)
    assert set(part["methods"]["Cropping"].values()) == {None}


def test_a_table_has_a_column_for_each_subset(
    tables_here: Run, toy_phrases: list[str], phrases_root: Path, tmp_path: Path, clip_dirs: dict[str, str]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("rows:\n- {method: cropping, encoder: vit}\n- {method: upper_bound}\n")
    run = tmp_path / "run"
    settings = ["data=phrasecut", "splits=[test]", f"encoders.vit={clip_dirs['vit']}"]
    rest = [item for item in toy_phrases[1:] if not item.startswith("model.")]
    code, output, error = tables_here(f"table={own}", *settings, *rest, f"run_dir={run}")
    assert code == 0, error
    head = ["phrasecut test All", "phrasecut test Unseen", "phrasecut test Unseen (synonyms)"]
    assert [cell.strip() for cell in output.partition("| Method")[2].splitlines()[0].split("|")][2:5] == head
    document = json.loads((run / "table.json").read_text())
    (result,) = run.glob("phrasecut-official-test/results.json")
    measured = json.loads(result.read_text())["subsets"]["unseen_synonyms"]["methods"]
    (row,) = (r for r in document["ours"] if r["subset"] == "Unseen (synonyms)" and r["method"] == "Cropping")
    assert row["oIoU"] == measured["Cropping (vit)"]["oIoU"]
    assert [one["n_expressions_evaluated"] for one in document["runs"]] == [9, 5, 2]
    assert document["seconds"] == document["runs"][0]["seconds"]
    with (run / "table.csv").open(newline="") as file:
        assert {line["subset"] for line in csv.DictReader(file)} == {"All", "Unseen", "Unseen (synonyms)"}
    assert r"phrasecut test Unseen (synonyms)" in (run / "table.tex").read_text()


def test_recipe_effects_take_the_tenth_point_along(
    run_here: Run, toy_phrases: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, _, error = run_here(recipe_effects, *toy_phrases, "limit=3", f"run_dir={run}")
    assert code == 0, error
    rows = {row["name"]: row for row in json.loads((run / "recipe_effects.json").read_text())["rows"]}
    assert (rows["unseen"]["point"], rows["unseen"]["value"]) == (10, "synonyms")
    assert "of 5, Unseen (synonyms)" in rows["unseen"]["note"]
    assert rows["unseen"]["figures"] == {}


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_count_the_subsets_of_one(
    run_here: Run,
    command: Callable[..., subprocess.CompletedProcess[str]],
    toy_phrases: list[str],
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_here(zero_shot, *toy_phrases, METHODS, f"run_dir={one}")[0] == 0
    answer = command("zero_shot", *toy_phrases, METHODS, "--trainer.devices=2", f"run_dir={two}")
    assert answer.returncode == 0, answer.stderr
    first, second = (json.loads((run / "results.json").read_text()) for run in (one, two))
    assert first["subsets"] == second["subsets"]
    assert first["methods"] == second["methods"]
    assert (one / "predictions.jsonl").read_bytes() == (two / "predictions.jsonl").read_bytes()
