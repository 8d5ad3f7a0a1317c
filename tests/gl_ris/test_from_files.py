"""Scores and heat maps of other programs: what is found, what is missing, what is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gl_ris.clip import RegionCLIP
from gl_ris.errors import UserError
from gl_ris.hashes import sha256_of
from gl_ris.scorers.from_files import LARGEST, HeatFiles, ScoreFile
from toy_scenes import HEIGHT, WIDTH, Data, Scene, make_scene

Predict = Callable[..., Any]
TEXTS = ["the red star", "a circle"]


def write(path: Path, lines: Sequence[Any]) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def scenes() -> list[Scene]:
    """Images 1000 and 1001; expressions 0 and 1 of each, of refs 0, 1 and 10, 11; three proposals."""
    return [make_scene(0, TEXTS), make_scene(1, TEXTS)]


def chosen(predict: Predict, method: str, file: Path) -> tuple[list[int | None], list[str | None]]:
    _, records = predict(Data(scenes()), {"method": method, "title": "Mine", "file": str(file)})
    return [record.choice for record in records], [record.failure for record in records]


@pytest.mark.parametrize(
    ("line", "choice"),
    [
        ({"sent_id": 1, "scores": [0.1, 0.3, 0.2]}, 1),
        ({"sent_id": 1, "scores": [-5, None, -7]}, 0),
        ({"sent_id": 1, "scores": {"2": -1}}, 2),
        ({"sent_id": "1", "scores": {"2": -1, "0": 0.0, "1": -2.5}}, 0),
        ({"sent_id": 1, "ref_id": 1, "scores": [1, 2, 3]}, 2),
        ({"expression": "a circle", "scores": [1, 2, 1e-9]}, 1),
        ({"expression": "a circle", "ref_id": 1, "scores": [1, 2, 1e-9]}, 1),
        ({"image_id": "1000", "sent_id": 1, "scores": [3, 2, 1], "more": {"is": "ignored"}}, 0),
        ({"sent_id": 1, "scores": [1, 1 + 1e-12, 1]}, 0),  # scores are float32, as of every method
    ],
)
def test_a_line_gives_an_expression_its_scores(
    line: dict[str, Any], choice: int, tmp_path: Path, predict: Predict
) -> None:
    file = write(tmp_path / "scores.jsonl", [{"image_id": 1000, **line}])
    choices, failures = chosen(predict, "score_file", file)
    assert choices == [None, choice, None, None]
    assert failures == ["no scores in the file", None, *["no scores in the file"] * 2]


def test_the_ids_of_a_ref_come_before_those_of_a_sentence_and_these_before_the_text(
    tmp_path: Path, predict: Predict
) -> None:
    lines = [
        {"image_id": 1000, "sent_id": 1, "ref_id": 1, "scores": [1, 0, 0]},
        {"image_id": 1000, "sent_id": 1, "scores": [0, 1, 0]},
        {"image_id": 1000, "expression": "a circle", "scores": [0, 0, 1]},
    ]
    for left, choice in ((lines, 0), (lines[1:], 1), (lines[2:], 2)):
        assert chosen(predict, "score_file", write(tmp_path / "s.jsonl", left))[0][1] == choice


def test_scores_for_other_proposals_fail_their_image(tmp_path: Path, predict: Predict) -> None:
    for scores in ([1, 2], [1, 2, 3, 4], {"3": 1}, {"-1": 1}):
        lines = [{"image_id": 1000 + i, "sent_id": 0, "scores": [3, 1, 2] if i else scores} for i in (0, 1)]
        choices, failures = chosen(predict, "score_file", write(tmp_path / "s.jsonl", lines))
        assert choices == [None, None, 0, None]
        reason = "Mine: ValueError: a line has scores for other proposals than the 3 there are"
        assert failures[:2] == [reason] * 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1 is damaged"),
        (
            [{"image_id": 1, "sent_id": 1, "scores": [1]}, {"image_id": 1, "scores": [1]}],
            "line 2 is damaged .*neither",
        ),
        ([{"image_id": 1, "sent_id": 1, "scores": ["1"]}], "line 1 is damaged"),
        ([{"image_id": 1, "sent_id": 1, "scores": [1]}] * 2, "line 2 is damaged .*has scores already"),
        (['{"image_id": 1, "sent_id": 1, "scores": [NaN]}'], "line 1 is damaged"),
        (["[" * 100_000], "line 1 is damaged"),
    ],
)
def test_a_damaged_file_is_refused(
    lines: list[Any], message: str, tmp_path: Path, clips: dict[str, RegionCLIP]
) -> None:
    with pytest.raises(UserError, match=message):
        ScoreFile(clips["vit"], file=write(tmp_path / "s.jsonl", lines))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"method": "score_file"}, "'score_file' reads a file: give {method: score_file, file: PATH}"),
        ({"method": "cropping", "file": "s.jsonl"}, "'cropping' reads no file: leave file out"),
        (
            {"method": "heat_files", "file": "nowhere"},
            "'heat_files' reads a folder, and there is none at 'now",
        ),
        ({"method": "heat_files", "file": __file__}, "'heat_files' reads a folder, and there is none at"),
        ({"method": "score_file", "file": "/"}, "'score_file' reads a file, and there is none at '/'"),
        ({"method": "score_file", "file": 3}, "'file' of method 'score_file' must be a file or folder"),
    ],
)
def test_a_wrong_file_is_named(method: dict[str, Any], message: str, predict: Predict) -> None:
    with pytest.raises(UserError, match=message):
        predict(Data(scenes()), method)


def test_scores_belong_to_images_of_a_run(tmp_path: Path, clips: dict[str, RegionCLIP]) -> None:
    scorer = ScoreFile(clips["vit"], file=write(tmp_path / "s.jsonl", []))
    masks = torch.ones(1, 4, 4, dtype=torch.bool)
    with pytest.raises(UserError, match="by the ids of images: run it over a data set"):
        scorer(torch.zeros(3, 4, 4, dtype=torch.uint8), masks, ["a"])


def test_what_stands_behind_the_expressions_goes_by_its_text(
    tmp_path: Path, clips: dict[str, RegionCLIP]
) -> None:
    file = write(tmp_path / "s.jsonl", [{"image_id": 1000, "expression": "a dog", "scores": [1, 2, 3]}])
    (scene,), scorer = scenes()[:1], ScoreFile(clips["vit"], file=file)
    assert scene.proposals is not None
    context = clips["vit"].context(scene.image, scene.proposals.masks)
    context.scene = scene
    assert scorer.score(context, [*TEXTS, "a dog"], None)[2].tolist() == [1, 2, 3]
    assert scorer.score(context, ["a dog"], None).tolist() == [[1, 2, 3]]


def test_a_re_ranker_follows_and_asks_for_phrases(tmp_path: Path, predict: Predict) -> None:
    lines = [{"image_id": 1000, "sent_id": sent_id, "scores": [0, 5, 1]} for sent_id in (1, 2)]
    file = write(tmp_path / "s.jsonl", lines)
    method = {"method": "score_file", "title": "Mine", "file": str(file), "rerank": "full"}
    _, records = predict(Data([make_scene(0, [*TEXTS, "a circle left of a dog"])]), method)
    # of the last one, the dog has no line
    reason = "no scores in the file"
    assert [record.failure for record in records] == [reason, None, reason]
    assert records[1].choice == 1


def hot(row: int) -> np.ndarray:
    """A map of 40 x 60, twice the size of the image, that is hot in one target of image 1000."""
    found = np.zeros((2 * HEIGHT, 2 * WIDTH), np.float16)
    place = (slice(4, 16), slice(6, 18)) if row == 0 else (slice(20, 36), slice(24, 56))
    found[place] = 3
    return found


def test_maps_are_found_in_archives_and_as_single_files(tmp_path: Path, predict: Predict) -> None:
    np.savez(tmp_path / "1000.npz", **{"0": hot(1), "1_1": hot(0), "1": hot(1)})
    (tmp_path / "1001").mkdir()
    np.save(tmp_path / "1001" / "a circle.npy", (100 * hot(1)).astype(np.int64))
    choices, failures = chosen(predict, "heat_files", tmp_path)
    assert choices == [1, 0, None, 1]
    assert failures == [None, None, "no heat map in the folder", None]


@pytest.mark.parametrize(
    "change", [lambda heat: heat * 1e300, lambda heat: heat * 1e-300, lambda heat: heat + 1e9]
)
def test_the_scale_of_a_map_does_not_matter(
    change: Callable[[np.ndarray], np.ndarray], tmp_path: Path, predict: Predict
) -> None:
    found = {str(row): change(hot(row).astype(np.float64)) for row in (0, 1)}
    np.savez(tmp_path / "1000.npz", **found)
    assert chosen(predict, "heat_files", tmp_path) == (
        [0, 1, None, None],
        [None] * 2 + [HeatFiles.missing] * 2,
    )


def test_the_rule_of_the_recipe_makes_the_scores(tmp_path: Path, predict: Predict) -> None:
    np.savez(tmp_path / "1000.npz", **{"0": hot(0), "1": hot(0) + hot(1) / 3})
    rules = [
        {"method": "heat_files", "title": rule, "file": str(tmp_path), "recipe": {"heat_rule": rule}}
        for rule in ("in", "sum_sqrt_area")
    ]
    model, records = predict(Data(scenes()[:1]), rules)
    assert {(r.sent_id, r.method): r.choice for r in records} == {
        (0, "in"): 0, (1, "in"): 0, (0, "sum_sqrt_area"): 0, (1, "sum_sqrt_area"): 2
    }  # fmt: skip
    found = model.input_files(Data(scenes()))["scores"]
    assert {name: sha256_of(path) for name, path in found.items()} == dict.fromkeys(
        ("in", "sum_sqrt_area"), sha256_of(tmp_path)
    )


def save(folder: Path, found: np.ndarray) -> None:
    np.savez(folder / "1000.npz", **{"0": found})


def sized(folder: Path, size: int) -> None:
    """An archive whose member says a size that its bytes do not have."""
    np.savez_compressed(folder / "1000.npz", **{"0": np.zeros((4097, 4097), np.float32)})
    with zipfile.ZipFile(folder / "1000.npz") as archive:
        assert archive.infolist()[0].file_size > size


def header(folder: Path, shape: str) -> None:
    """A file with a shape that its bytes do not have, or that is no shape."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    (folder / "1000").mkdir()
    (folder / "1000" / "0.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda to: save(to, np.array([{}], object)), "must be an array of numbers"),
        (lambda to: save(to, np.zeros(5)), "no (rows, columns) of finite numbers"),
        (lambda to: save(to, np.full((2, 2), np.inf)), "of finite numbers, but float64"),
        (lambda to: save(to, np.zeros((2, 2), complex)), "of finite numbers, but complex"),
        (lambda to: sized(to, LARGEST), "larger than 64 MB"),
        (lambda to: (to / "1000.npz").write_bytes(b"PK nothing"), "BadZipFile"),
        (
            lambda to: (to / "1000").mkdir() or (to / "1000" / "0.npy").write_bytes(b"\x93NUMPY"),
            "an array of numbers",
        ),
        (lambda to: header(to, "__import__('os')"), "must be an array of numbers"),
        (
            lambda to: header(to, "(10**9, 10**9)".replace("10**9", "1000000000")),
            "must be an array of numbers",
        ),
    ],
)
def test_a_damaged_map_fails_its_image(
    make: Callable[[Path], Any], reason: str, tmp_path: Path, predict: Predict
) -> None:
    np.savez(tmp_path / "1001.npz", **{"0": hot(0), "1": hot(1)})
    make(tmp_path)
    choices, failures = chosen(predict, "heat_files", tmp_path)
    assert choices == [None, None, 0, 1]
    assert all(reason in str(failure) for failure in failures[:2])


def test_no_name_leads_out_of_the_folder(tmp_path: Path, clips: dict[str, RegionCLIP]) -> None:
    inside = tmp_path / "maps"
    inside.mkdir()
    np.savez(tmp_path / "secret.npz", **{"0": hot(0)})
    scorer = HeatFiles(clips["vit"], file=inside)
    for image, name in (("../secret", "0"), (str(tmp_path / "secret"), "0"), ("1", "../../secret")):
        with pytest.raises(ValueError, match="outside of the folder"):
            scorer._read(image, [name])
    assert scorer._read("1", ["a " * 300]) is None
