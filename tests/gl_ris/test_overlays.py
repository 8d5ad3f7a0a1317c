from __future__ import annotations

import pytest
from msgspec.structs import replace

from gl_ris.predictions import Prediction
from gl_ris.visualize import pick


def records(images: int, sentences: int, methods: tuple[str, ...] = ("A", "B")) -> list[Prediction]:
    blank = Prediction(
        image_id=0,
        ref_id=0,
        sent_id=0,
        expression="x",
        noun_phrase=None,
        method="",
        choice=None,
        score=None,
        iou=0.0,
        intersection=0,
        union=1,
        segmentation=None,
    )
    return [
        replace(blank, image_id=image, index=image, sent_id=sentence, method=method)
        for image in range(images)
        for sentence in range(sentences)
        for method in methods
    ]


@pytest.mark.parametrize(
    ("images", "sentences", "picked", "distinct"),
    [(40, 3, 12, 12), (5, 3, 12, 5), (2, 2, 4, 2), (0, 0, 0, 0)],
    ids=["many-images", "few-images", "few-of-all", "none"],
)
def test_pictures_are_of_different_images_as_far_as_there_are_enough(
    images: int, sentences: int, picked: int, distinct: int
) -> None:
    found = pick(records(images, sentences), 12, 0)
    assert len(found) == picked
    assert len({record.index for record in found}) == distinct
    assert len({(record.index, record.sent_id) for record in found}) == picked
    assert {record.method for record in found} <= {"A"}
    assert found == sorted(found, key=lambda record: record.index)


def test_the_seed_chooses() -> None:
    some = records(40, 3)
    assert pick(some, 12, 1) == pick(some, 12, 1)
    assert pick(some, 12, 1) != pick(some, 12, 2)
