"""What records say of the masks and objects of an image: at its first record, whole, and read strictly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gl_ris.errors import UserError
from gl_ris.predictions import (
    AnnotatedObject,
    ImageFacts,
    PredictionWriter,
    UnitedObjects,
    merge_predictions,
    read_predictions,
)
from toy_records import RECORD

FACTS = ImageFacts(
    size=(2, 3),
    areas=(1, 2, 6),
    objects=(AnnotatedObject("star", 2), AnnotatedObject(None, 3)),
    overlaps=((1, 0, 2), (0, 2, 3)),
    united=(UnitedObjects((0, 1), 5, (1, 2, 5)),),
)
UNITED = msgspec.to_builtins(FACTS.united[0])


def test_what_is_known_of_masks_comes_back_whole_and_at_the_first_record_of_an_image(tmp_path: Path) -> None:
    record = replace(RECORD, choice=2, chosen=(0, 2), target=(0, 1), overlaps=(2, 3), area=6)
    records = [replace(record, image=FACTS), replace(record, choice=None, chosen=None, abstained=True)]
    other = [replace(one, index=1, image_id="other") for one in records]
    for rank, own in enumerate((other, records)):
        with PredictionWriter(tmp_path, rank) as writer:
            writer.append(own)
    path = merge_predictions(tmp_path)
    assert read_predictions(path) == [*records, *other]
    first, second, *_ = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert first["image"] == {
        "size": [2, 3],
        "areas": [1, 2, 6],
        "objects": [{"category": "star", "area": 2}, {"category": None, "area": 3}],
        "overlaps": [[1, 0, 2], [0, 2, 3]],
        "united": [{"objects": [0, 1], "area": 5, "overlaps": [1, 2, 5]}],
    }
    assert (first["chosen"], first["overlaps"], first["area"]) == ([0, 2], [2, 3], 6)
    assert second["abstained"] is True
    assert not {"chosen", "image"} & set(second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": [2]}, "line 2: it speaks of proposals or objects that its image does not have"),
        ({"choice": 3}, "line 2: it speaks of proposals"),
        ({"chosen": [0, 3]}, "line 2: it speaks of proposals"),
        ({"overlaps": [1], "area": 6}, "line 2: it speaks of proposals"),
        ({"overlaps": [1, 1]}, "line 2: of overlaps and area, both are there or none is"),
        ({"overlaps": [1, -1], "area": 6}, "line 2: Expected `int` >= 0"),
        ({"target": 1}, "line 2: Expected `array | null`, got `int`"),
        ({"abstained": 1}, "line 2: Expected `bool`, got `int`"),
        ({"image": {"size": [2, 3], "areas": [], "objects": []}}, "line 2: Object missing required field"),
        (
            {"image": {"size": [2, 3], "areas": [1], "objects": [], "overlaps": [[1]]}},
            "a row for each object",
        ),
        (
            {"image": {"size": [2], "areas": [], "objects": [], "overlaps": []}},
            "line 2: Expected `array` of length 2, got 1",
        ),
        (
            {"image": {**msgspec.to_builtins(FACTS), "overlaps": [[1, 0], [0, 2, 3]]}},
            "in it a number for each proposal",
        ),
        (
            {"image": {**msgspec.to_builtins(FACTS), "united": [{**UNITED, "objects": [2]}]}},
            "united names an object that is not there",
        ),
    ],
)
def test_what_is_known_of_masks_is_read_strictly(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    lines = [json.loads(record.line()) for record in (replace(RECORD, choice=0, image=FACTS), RECORD)]
    path = tmp_path / "predictions.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in (lines[0], {**lines[1], "choice": 0, **change}))
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read_predictions(path)
