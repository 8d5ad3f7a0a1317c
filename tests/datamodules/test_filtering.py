"""Lists of expressions to keep or to leave out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from datamodules import RefShapes
from datamodules.filtering import Filter, listed
from datamodules.records import ImageRecord, Referent
from gl_ris.errors import UserError
from gl_ris.expression_ids import ExpressionIds, expression_keys

RECORDS = [
    ImageRecord(
        3,
        "3.png",
        4,
        6,
        (
            Referent(7, (), ("a dog", "left"), (70, 71), raw=("A dog!", "left?")),
            Referent(8, (), ("cat",), (80,)),
        ),
    ),
    ImageRecord(4, "4.png", 4, 6, (Referent(9, (), ("bird", "cat"), (90, 80)),)),
]
IDS = ExpressionIds(expression_keys(RECORDS))
KEYS = {(3, 7, 71), (4, 9, 80)}
FILES = {
    "ids.json": '[71, "9_80"]',
    "rows.json": '[{"sent_id": 71, "x": 1}, {"sent_id": 80, "ref_id": 9}, {"sent_id": 5, "split": "test"}]',
    "rows.csv": "sent_id,ref_id,split\n71,,\n80,9,val\n5,5,testA\n",
    "bom.CSV": "\ufeffname,sent_id,ref_id\nx,71,7\ny,80,9\n",
    "ids.txt": "71\n\n 9_80 \n",
    "ids": "7_71\n9_80",
}


@pytest.mark.parametrize("name", FILES)
def test_each_form_of_a_list_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    assert listed(tmp_path / name, IDS, "val") == KEYS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "x.txt",
            "71\n5\n6\n80\n7\n8\n",
            r"5 of 6 ids .*: 5 is .*; 6 is .*; 80 is the name of 2 .*; \.\.\.; take them out, or .* split=\.",
        ),
        ("x.csv", "id,ref_id\n71,7\n", r"cannot be read \(.*sent_id"),
        ("x.json", '{"sent_id": 71}', "is no JSON list of sentence ids"),
        ("x.json", "[[71]]", "is no JSON list of sentence ids"),
        ("x.json", "[" * 5000, "is no JSON list"),
        ("x.txt", b"\xff\xfe\x00", "cannot be read"),
        ("x.csv", "sent_id\n" + "9" * 200_000, "cannot be read"),
        ("x.txt", "9" * 200_000, "1 of 1 ids"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(
    name: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=said) as told:
        listed(path, IDS, "val")
    assert len(str(told.value)) < 1000
    with pytest.raises(UserError, match=r"The list of expressions '.*nowhere' cannot be read"):
        listed(tmp_path / "nowhere", IDS, "val")


def shown(records: list[ImageRecord]) -> list[Any]:
    return [
        (record.image_id, [(r.ref_id, r.sentences, r.sent_ids, r.raw) for r in record.referents])
        for record in records
    ]


def test_expressions_go_with_all_that_is_theirs(tmp_path: Path) -> None:
    (path := tmp_path / "ids.txt").write_text("71\n9_80")
    kept, dropped = Filter(path, None), Filter(None, path)
    assert shown(kept.apply(RECORDS, "val")) == [
        (3, [(7, ("left",), (71,), ("left?",))]),
        (4, [(9, ("cat",), (80,), ())]),
    ]
    assert shown(dropped.apply(RECORDS, "val")) == [
        (3, [(7, ("a dog",), (70,), ("A dog!",)), (8, ("cat",), (80,), ())]),
        (4, [(9, ("bird",), (90,), ())]),
    ]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    said = {"option": "data.sentences", "file": "ids.txt", "sha256": digest, "n_expressions_left_out": 3}
    assert kept.told == [said]
    assert dropped.told == [{**said, "option": "data.without", "n_expressions_left_out": 2}]
    assert Filter(None, None).apply(RECORDS, "val") is RECORDS


def test_both_lists_may_be_given_and_empty_images_go(tmp_path: Path) -> None:
    (tmp_path / "keep.json").write_text(json.dumps([71, 90]))
    (tmp_path / "drop.json").write_text(json.dumps([71, 70]))
    both = Filter(tmp_path / "keep.json", tmp_path / "drop.json")
    assert shown(both.apply(RECORDS, "val")) == [(4, [(9, ("bird",), (90,), ())])]
    assert [one["n_expressions_left_out"] for one in both.told] == [3, 1]


@pytest.mark.usefixtures("drawn_refshapes")
def test_every_data_set_takes_lists_before_its_limit(tmp_path: Path) -> None:
    whole = RefShapes()
    first = [sent for ref in whole.records[0].referents for sent in ref.sent_ids]
    (path := tmp_path / "faulty.json").write_text(json.dumps(first))
    data = RefShapes(without=path, limit=2)
    assert data.image_ids() == whole.image_ids()[1:3]
    assert len(data.whole) == len(whole.records)
    assert [scene.image_id for scene in data.predict_dataloader()] == data.image_ids()
    (path := tmp_path / "none.json").write_text("[]")
    with pytest.raises(UserError, match=r"No expression of split 'val' is left by data\.sentences or"):
        _ = RefShapes(sentences=path).records
