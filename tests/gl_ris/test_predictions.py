"""Records: written as the run goes, merged to the same bytes for any number of processes, read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from gl_ris.errors import UserError
from gl_ris.predictions import (
    Prediction,
    PredictionWriter,
    merge_predictions,
    read_predictions,
)

KEYS = [
    "image_id",
    "ref_id",
    "sent_id",
    "expression",
    "noun_phrase",
    "method",
    "choice",
    "score",
    "iou",
    "intersection",
    "union",
    "segmentation",
]
RECORD = Prediction(
    image_id=581857,
    ref_id=16,
    sent_id=47,
    expression="the café's \u201cleft\u201d star",
    noun_phrase="star",
    method="Global-Local",
    choice=3,
    score=0.1,
    iou=0.25,
    intersection=1,
    union=4,
    segmentation={"size": [2, 2], "counts": "04"},
    index=0,
)


def _image(index: int) -> list[Prediction]:
    """Two expressions by two methods; ids that sort otherwise than the images do."""
    return [
        replace(RECORD, index=index, image_id=f"image {99 - index}", sent_id=100 - sent, method=method)
        for sent in range(2)
        for method in ("Global-Local", "Cropping")
    ]


def _run(folder: Path, world_size: int, images: int = 11) -> bytes:
    writers = [PredictionWriter(folder, rank) for rank in range(world_size)]
    for index in range(images):
        writers[index % world_size].append(_image(index))
    for writer in writers:
        writer.close()
    return merge_predictions(folder, world_size).read_bytes()


def test_any_number_of_processes_leaves_the_same_bytes_and_nothing_else(tmp_path: Path) -> None:
    one, *others = (_run(tmp_path / str(world_size), world_size) for world_size in (1, 2, 3, 11, 13))
    assert all(other == one for other in others)
    assert [path.name for path in (tmp_path / "3").iterdir()] == ["predictions.jsonl"]
    expected = [record for index in range(11) for record in _image(index)]
    assert read_predictions(tmp_path / "1" / "predictions.jsonl") == expected


def test_subsets_are_in_the_line_where_there_are_any(tmp_path: Path) -> None:
    records = [replace(RECORD, subsets=("unseen_names", "unseen_synonyms")), replace(RECORD, subsets=())]
    with PredictionWriter(tmp_path) as writer:
        writer.append([*records, RECORD])
    path = merge_predictions(tmp_path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line.get("subsets") for line in lines] == [["unseen_names", "unseen_synonyms"], [], None]
    assert "subsets" not in lines[2]
    assert read_predictions(path) == [*records, RECORD]
    path.write_text(json.dumps({**lines[0], "subsets": [1]}) + "\n")
    with pytest.raises(UserError, match=r"line 1: Expected `str`, got `int` - at `\$\.subsets\[0\]`"):
        read_predictions(path)


def test_lines_have_the_contract_keys_and_are_strict_json(tmp_path: Path) -> None:
    miss = replace(RECORD, choice=None, score=float("nan"), segmentation=None, failure="no proposals")
    with PredictionWriter(tmp_path) as writer:
        writer.append([RECORD, miss, replace(RECORD, tied=True)])
    lines = merge_predictions(tmp_path).read_text(encoding="utf-8").splitlines()
    first, second, third = (json.loads(line, parse_constant=pytest.fail) for line in lines)
    assert third == {**first, "tied": True}
    assert list(first) == [*KEYS, "failure", "index"]
    assert first | {"subsets": None, "tied": False} == asdict(RECORD)
    assert "café" in lines[0]
    assert second["score"] is None
    assert second["failure"] == "no proposals"


def test_records_are_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "new" / "folder", rank=2)
    writer.append(_image(0))
    assert read_predictions(tmp_path / "new" / "folder" / "predictions_rank2.jsonl") == _image(0)
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.append(_image(1))


def test_odd_text_survives(tmp_path: Path) -> None:
    odd = replace(RECORD, expression="a\nb\r\u2028\x85 \ud83d lone \U0001f600")
    with PredictionWriter(tmp_path) as writer:
        writer.append([odd])
    assert read_predictions(merge_predictions(tmp_path)) == [odd]


def test_files_of_an_earlier_larger_run_do_not_get_in(tmp_path: Path) -> None:
    for rank in range(4):
        with PredictionWriter(tmp_path, rank) as writer:
            writer.append(_image(90 + rank))
    _run(tmp_path, world_size=2, images=3)
    assert [record.index for record in read_predictions(tmp_path / "predictions.jsonl")[::4]] == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 1


def test_ten_and_more_ranks_are_all_found_without_a_world_size(tmp_path: Path) -> None:
    for rank in range(12):
        with PredictionWriter(tmp_path, rank) as writer:
            writer.append(_image(rank))
    assert len(read_predictions(merge_predictions(tmp_path))) == 48


def _missing(folder: Path) -> None:
    (folder / "predictions_rank1.jsonl").unlink()


def _twice(folder: Path) -> None:
    with PredictionWriter(folder, 1) as writer:
        writer.append(_image(0))


def _damaged(folder: Path) -> None:
    path = folder / "predictions_rank1.jsonl"
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_missing, r"predictions_rank1\.jsonl", id="missing"),
        pytest.param(_twice, r"index 0\) was evaluated twice.*rank0.*rank1", id="twice"),
        pytest.param(_damaged, r"predictions_rank1\.jsonl, line 4: the line is cut off", id="damaged"),
    ],
)
def test_a_merge_that_cannot_be_right_changes_nothing(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    for rank in range(2):
        with PredictionWriter(tmp_path, rank) as writer:
            writer.append(_image(rank))
    (tmp_path / "predictions.jsonl").write_text("earlier")
    spoil(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=message):
        merge_predictions(tmp_path, world_size=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_to_merge_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No predictions to merge"):
        merge_predictions(tmp_path)


def _line(**changes: Any) -> bytes:
    return json.dumps(asdict(RECORD) | changes).encode()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(b"{", "line 2", id="half"),
        pytest.param(b"[1]", "Expected `object`, got `array`", id="no-object"),
        pytest.param(b"", "line 2", id="blank"),
        pytest.param(b'{"image_id": 1}', "missing required field `ref_id`", id="key-missing"),
        pytest.param(
            _line(intersection=1.5),
            r"Expected `int`, got `float` - at `\$.intersection`",
            id="fraction-of-a-pixel",
        ),
        pytest.param(_line(union=True), r"got `bool` - at `\$.union`", id="bool"),
        pytest.param(_line(iou=None), r"Expected `float`, got `null` - at `\$.iou`", id="no-iou"),
        pytest.param(_line(score=float("nan")), "NaN is not JSON", id="nan"),
        pytest.param(b"\xff\xfe", "line 2", id="no-text"),
    ],
)
def test_a_damaged_record_is_named_by_file_and_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(_line() + b"\n" + line + b"\n" + _line() + b"\n")
    with pytest.raises(UserError, match=message) as caught:
        read_predictions(path)
    assert f"{path}, line 2: " in str(caught.value)


def test_records_of_others_may_lack_our_own_keys(tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    theirs = {key: value for key, value in asdict(RECORD).items() if key in KEYS} | {"more": 1}
    path.write_text(json.dumps(theirs) + "\n", encoding="utf-8")
    assert read_predictions(path) == [RECORD]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file of predictions at .*nowhere\.jsonl"):
        read_predictions(tmp_path / "nowhere.jsonl")
