"""Records: written as the run goes, merged to the same bytes for any number of processes, read strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from gl_ris.errors import UserError
from gl_ris.predictions import (
    Prediction,
    PredictionWriter,
    keep_images,
    merge_predictions,
    read_predictions,
    whole_images,
)
from toy_records import RECORD

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
    usual = ("subsets", "parsed", "target", "chosen", "image", "overlaps", "area", "ranked")
    assert first | dict.fromkeys(usual) | {"tied": False, "abstained": False} == asdict(RECORD)
    assert "café" in lines[0]
    assert second["score"] is None
    assert second["failure"] == "no proposals"


def test_what_a_rule_chose_is_in_the_line(tmp_path: Path) -> None:
    records = [
        replace(RECORD, chosen=(3, 1)),
        replace(RECORD, choice=None, segmentation=None, abstained=True, target=()),
    ]
    with PredictionWriter(tmp_path) as writer:
        writer.append(records)
    path = merge_predictions(tmp_path)
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert (first["chosen"], "abstained" in first, "target" in first) == ([3, 1], False, False)
    assert (second["abstained"], second["target"], "chosen" in second) == (True, [], False)
    assert read_predictions(path) == records


def test_what_was_parsed_is_in_the_line_and_older_lines_lack_it(tmp_path: Path) -> None:
    parsed = {"head": "star", "relations": [{"kind": "left", "anchor": 0, "negated": True}]}
    with PredictionWriter(tmp_path) as writer:
        writer.append([RECORD, replace(RECORD, parsed=parsed)])
    path = merge_predictions(tmp_path)
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert "parsed" not in first
    assert second == {**first, "parsed": parsed}
    assert [record.parsed for record in read_predictions(path)] == [None, parsed]


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
            r"Expected `int \| null`, got `float` - at `\$.intersection`",
            id="fraction-of-a-pixel",
        ),
        pytest.param(_line(union=True), r"got `bool` - at `\$.union`", id="bool"),
        pytest.param(_line(iou=None), "either all are null or none is", id="no-iou"),
        pytest.param(_line(score=float("nan")), "NaN is not JSON", id="nan"),
        pytest.param(_line().replace(b"0.1", b"1e999"), r"at `\$.score`", id="beyond-all-numbers"),
        pytest.param(_line(iou=1.5), r"<= 1.0 - at `\$.iou`", id="more-than-all"),
        pytest.param(_line(choice=-1), r">= 0 - at `\$.choice`", id="no-choice"),
        pytest.param(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "recursion", id="deep"),
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


def _key(record: Prediction) -> tuple[Any, ...]:
    return record.image_id, record.ref_id, record.sent_id, record.method


WANTED = {index: [_key(record) for record in _image(index)] for index in range(40)}


def _cut_off(folder: Path, ranks: int, images: int = 40) -> None:
    """A run of so many processes that was cut off, each with a torn record at its end."""
    for rank in range(ranks):
        with PredictionWriter(folder, rank) as writer:
            for index in range(rank, images, ranks):
                writer.append(_image(index))
        path = folder / f"predictions_rank{rank}.jsonl"
        path.write_bytes(path.read_bytes()[: -len(_image(0)[0].line()) - 30 - rank])


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 2), (2, 1), (3, 2), (2, 11)])
def test_a_run_that_was_cut_off_goes_on_with_any_number_of_processes(
    tmp_path: Path, before: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gl_ris.predictions._BLOCK", 3000)
    expected = _run(tmp_path / "whole", 1, images=40)
    _cut_off(tmp_path, before, images=30)
    found = {index: keys for index, keys in whole_images(tmp_path) if keys == WANTED[index]}
    assert len(found) == 30 - before
    keep_images(tmp_path, found, after)
    assert not [rank for rank in range(after) if (tmp_path / f"predictions_rank{rank}.jsonl").exists()]
    rest = [index for index in range(40) if index not in found]
    for rank in range(after):
        with PredictionWriter(tmp_path, rank) as writer:
            for index in rest[rank::after]:
                writer.append(_image(index))
    assert merge_predictions(tmp_path).read_bytes() == expected


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [*lines[:5], b"{}\n", *lines[5:]],
        lambda lines: [*lines[:5], *lines[4:]],
        lambda lines: [*lines[:5], *lines[6:]],
        lambda lines: [*lines[:5], lines[5].replace(b"Cropping", b"Dropping"), *lines[6:]],
        lambda lines: [*lines[:5], b"\x00" * 40 + b"\n", *lines[6:]],
        lambda lines: [*lines[:5], b"[" * 10_000 + b"\n", *lines[6:]],
        lambda lines: [*lines[:4], b"{}\n", *lines[:4], *lines[5:]],
    ],
    ids=["no-record", "twice", "missing", "other-method", "zeros", "deep", "another-twice"],
)
def test_an_image_whose_records_are_not_exactly_its_own_is_dropped(
    tmp_path: Path, spoil: Callable[[list[bytes]], list[bytes]]
) -> None:
    with PredictionWriter(tmp_path) as writer:
        for index in range(3):
            writer.append(_image(index))
    path = tmp_path / "predictions_rank0.jsonl"
    path.write_bytes(b"".join(spoil(path.read_bytes().splitlines(keepends=True))))
    found = {index: keys for index, keys in whole_images(tmp_path) if keys == WANTED[index]}
    assert set(found) == {0, 2}
    keep_images(tmp_path, found, 1)
    assert [record.index for record in read_predictions(tmp_path / "predictions_rank1.jsonl")] == [0] * 4 + [
        2
    ] * 4


class Full(Exception):
    """In place of the end of a process, or of a full disk."""


def test_a_merge_that_is_ended_anywhere_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that reaches the disk is once the last; and never is there more than a block twice."""
    monkeypatch.setattr("gl_ris.predictions._BLOCK", 3000)
    expected, ended, most = _run(tmp_path / "whole", 1, images=18), 0, 0
    for last in range(1000):
        folder, calls = tmp_path / str(last), 0
        for rank in range(3):
            with PredictionWriter(folder, rank) as writer:
                for index in range(rank, 18, 3):
                    writer.append(_image(index))

        def reach(call: Callable[..., Any], folder: Path = folder, last: int = last) -> Callable[..., Any]:
            def counted(*args: Any, **options: Any) -> Any:
                nonlocal calls, most
                calls += 1
                most = max(most, sum(path.stat().st_size for path in folder.iterdir()))
                if calls > last:
                    raise Full
                return call(*args, **options)

            return counted

        with monkeypatch.context() as patch:
            for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
                patch.setattr(owner, name, reach(getattr(owner, name)))
            try:
                merge_predictions(folder)
                break
            except Full:
                ended += 1
        found = dict(whole_images(folder))
        assert found.keys() == set(range(18))
        keep_images(folder, WANTED, 3)
        assert merge_predictions(folder).read_bytes() == expected
    assert ended > 20
    assert most < len(expected) + 2 * 3000 + 2 * len(_image(0)[0].line()) * 4
