"""The map from words to COCO's classes, guarded against slips of the hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import yaml

from datamodules.phrasecut import NAMES_FILE, coco_class, coco_names, plural

# COCO's own list, in its order
_LIST = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, "
    "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, "
    "backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, "
    "baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, "
    "knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, "
    "chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, "
    "cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, "
    "hair drier, toothbrush "
)
COCO = _LIST.strip().split(", ")


@pytest.fixture(scope="module")
def file() -> Any:
    return yaml.safe_load(NAMES_FILE.read_text(encoding="utf-8"))


def test_the_names_are_those_of_coco(file: Any) -> None:
    assert list(file["classes"]) == COCO
    assert coco_names().keys() == set(COCO)


def test_every_word_belongs_to_one_class_alone(file: Any) -> None:
    words = [word for words in file["classes"].values() for word in words]
    assert [word for word, count in Counter(words).items() if count > 1] == []
    assert set(words) & set(COCO) == set(), "a name of COCO stands for itself"
    of_class: dict[str, str] = {}
    for name, synonyms in file["classes"].items():
        for word in (name, *synonyms):
            for form in (word, plural(word)):
                assert of_class.setdefault(form, name) == name, form
                assert coco_class(form) == name


def test_words_are_written_as_they_are_looked_up(file: Any) -> None:
    words = [word for words in file["classes"].values() for word in words] + list(file["left_out"])
    assert all(isinstance(word, str) and word == " ".join(word.lower().split()) for word in words)
    assert [word for word in words if "-" in word or "_" in word] == []


def test_what_is_left_out_is_left_out_in_the_plural_too(file: Any) -> None:
    assert [word for word in file["left_out"] if coco_class(word) or coco_class(plural(word))] == []
    assert all(isinstance(reason, str) and reason for reason in file["left_out"].values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, "person") for name in ("man", "woman", "men", "Women", "children", "players", "policeman")),
        *((name, "dining table") for name in ("table", "tables")),
        *((name, "bicycle") for name in ("bike", "bikes", "mountain  bike")),
        *((name, "tv") for name in ("tv", "television", "tvs", "computer monitor")),
        *((name, "motorcycle") for name in ("motorbike", "motorcycles", "motor-bike")),
        *((name, "mouse") for name in ("mouse", "mice", "computer_mouse")),
        *((name, "baseball bat") for name in ("bat", "baseball bats")),
        *((name, "wine glass") for name in ("wine glasses", "wineglass")),
        *((name, "knife") for name in ("knives", "butter knives")),
        *((name, "skis") for name in ("ski", "skis")),
        *((name, "pizza") for name in ("slice of pizza", "slices of pizza")),
        *(
            (name, None)
            for name in ("glass", "glasses", "sky", "shirt", "building", "", "tableau", "catalogue")
        ),
        *((name, None) for name in ("train car", "hot", "dining", "clock tower", "plants", "human statue")),
    ],
)
def test_words_that_matter(name: str, expected: str | None) -> None:
    assert coco_class(name) == expected
