"""Slices of made records, whose places are worked out by hand and whose figures by plain sums."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gl_ris.analysis import bootstrap
from gl_ris.predictions import AnnotatedObject, ImageFacts, Prediction, UnitedObjects
from gl_ris.slices import Slicing

PERSON, DOG, BIG = (AnnotatedObject(*one) for one in (("person", 1023), ("dog", 1024), ("dog", 9216)))
OTHER = AnnotatedObject("person", 500)
UNITED = UnitedObjects((0, 1), 1023, (0,) * 51)  # the two people overlap
IMAGES = {
    1: ImageFacts((9, 9), (4, 5), (PERSON, DOG, BIG), ((0, 0),) * 3),
    2: ImageFacts((9, 9), (1,) * 51, (PERSON, OTHER, DOG), ((0,) * 51,) * 3, (UNITED,)),
}


# image, expression, what was parsed, target
SAID: list[tuple[int, str, dict[str, Any], Any]] = [
    (1, "left man", {"head": "man", "places": ["left"]}, (0,)),
    (1, "dog", {"head": "dog"}, (1,)),
    (
        1,
        "the second biggest green dog from the left",
        {"head": "green dog", "ordinal": ["left", 2], "superlatives": ["biggest"]},
        (2,),
    ),
    (2, "person that is not near Red dogs", {"head": "person", "relations": [{"negated": True}]}, (0, 1)),
    (2, "one two three four five six seven eight nine ten eleven", {"head": "one", "size": "big"}, (2,)),
    (2, "nothing of that, don't", {"head": "nothing of that, don't"}, ()),
]
EXPECTED = {
    "words in the expression": {"1-2": [0, 1], "6-10": [2, 3], "over 10": [4]},
    "kinds of words": {
        "place": [0],
        "relation": [3],
        "ordinal": [2],
        "size": [2, 4],
        "colour": [2, 3],
        "negation": [3],
        "none of these": [1],
    },
    "head": {"a part of the expression": [0, 2, 3, 4], "all of the expression, or none found": [1]},
    "objects of its category": {"1": [0, 4], "2": [1, 2, 3]},
    "size of the target": {"small": [0, 3], "medium": [1, 4], "large": [2]},
    "people": {"people": [0, 3], "other": [1, 2, 4]},
    "proposals": {"1-5": [0, 1, 2], "over 50": [3, 4]},
}
AREAS = {
    "A": [(3, 9), (5, 10), (0, 7), (8, 8), (1, 3), (0, 0)],
    "B": [(9, 9), (4, 10), (1, 7), (0, 9), (1, 3), (0, 3)],
}


def records(**changes: Any) -> list[Prediction]:
    found: list[Prediction] = []
    for i, (image, expression, parsed, target) in enumerate(SAID):
        first = not i or SAID[i - 1][0] != image
        for method, areas in AREAS.items():
            made = Prediction(
                image_id=image,
                ref_id=1,
                sent_id=i,
                expression=expression,
                noun_phrase=None,
                method=method,
                choice=0,
                score=None,
                iou=areas[i][0] / max(1, areas[i][1]),
                intersection=areas[i][0],
                union=areas[i][1],
                segmentation=None,
                parsed=parsed,
                image=IMAGES[image] if first and method == "A" else None,
                target=target,
            )
            found.append(msgspec.structs.replace(made, **changes))
    return found


def test_each_expression_is_in_its_slices_with_its_figures() -> None:
    slicing = Slicing(records())
    found = slicing.compute()
    assert slicing.left_out == {}
    assert list(found) == list(AREAS)
    for method, areas in AREAS.items():
        assert {kind: list(values) for kind, values in found[method].items()} == {
            kind: list(values) for kind, values in EXPECTED.items()
        }
        for kind, values in EXPECTED.items():
            for value, members in values.items():
                one, own = found[method][kind][value], [areas[i] for i in members]
                assert one.n == len(members), (kind, value)
                assert one.n_images == len({SAID[i][0] for i in members})
                union = sum(u for _, u in own)
                assert one.oIoU == pytest.approx(100 * sum(i for i, _ in own) / max(1, union))
                ious = [i / max(1, u) for i, u in own]
                assert one.mIoU == pytest.approx(100 * sum(ious) / len(own))
                assert one.precision == pytest.approx(100 * sum(iou >= 0.5 for iou in ious) / len(own))
                columns = [list(column) for column in zip(*own, strict=True)]
                sure = bootstrap([SAID[i][0] for i in members], columns[0], columns[1], thresholds=[0.5])
                assert one.intervals == {name: pytest.approx(list(ends)) for name, ends in sure.items()}


def test_intervals_can_be_left_out() -> None:
    slices = Slicing(records()).compute(sure=False)["A"]
    assert {tuple(one.intervals) for kind in slices.values() for one in kind.values()} == {()}
    document = msgspec.to_builtins(slices["people"]["people"])
    assert document == {
        **{"n": 2, "n_images": 2, "oIoU": pytest.approx(100 * 11 / 17), "small": True},
        **{"mIoU": pytest.approx(100 * (1 / 3 + 1) / 2), "Pr@0.5": 50.0},
    }


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({"parsed": None}, {"kinds of words": "has parsed", "head": "has parsed"}),
        ({"target": None}, dict.fromkeys(list(EXPECTED)[3:6], "do not say which objects")),
        ({"target": ()}, dict.fromkeys(list(EXPECTED)[3:6], "it is 'no target' for all")),
        ({"image": None}, dict.fromkeys(list(EXPECTED)[3:], "do not say")),
        ({"expression": "a b c"}, {"words in the expression": "it is '3-5' for all", "head": "part of"}),
        ({"iou": None, "intersection": None, "union": None}, {}),
    ],
)
def test_what_the_records_do_not_say_is_left_out_with_the_reason(
    changes: dict[str, Any], left_out: dict[str, str]
) -> None:
    slicing = Slicing(records(**changes))
    found = slicing.compute(sure=False)
    assert list(slicing.left_out) == list(left_out)
    assert all(said in slicing.left_out[kind] for kind, said in left_out.items())
    if changes.get("iou", 1) is None or changes.get("target") == ():
        assert found == {}
    else:
        assert list(found["B"]) == [kind for kind in EXPECTED if kind not in left_out]


def test_single_expressions_of_which_nothing_is_known_have_a_slice_of_their_own() -> None:
    some = records()
    some[2:4] = [msgspec.structs.replace(one, target=None) for one in some[2:4]]
    slices = Slicing(some).compute(sure=False)["A"]
    assert {name: one.n for name, one in slices["people"].items()} == {
        "not known": 1,
        "other": 2,
        "people": 2,
    }


def test_categories_that_data_do_not_name_are_not_guessed() -> None:
    objects = tuple(AnnotatedObject(None, one.area) for one in IMAGES[1].objects)
    nameless = msgspec.structs.replace(IMAGES[1], objects=objects)
    some = [
        msgspec.structs.replace(one, image=nameless if one.image else None)
        for one in records()
        if one.image_id == 1
    ]
    slicing = Slicing(some)
    assert "size of the target" in slicing.compute(sure=False)["A"]
    assert slicing.left_out["people"] == "the data name no categories"


@pytest.mark.parametrize(("images", "times", "small"), [(10, 3, False), (9, 4, True), (29, 1, True)])
def test_small_slices_are_marked(images: int, times: int, small: bool) -> None:
    base = records()[0]
    some = [
        msgspec.structs.replace(base, image_id=image, sent_id=i, expression=text, image=IMAGES[1])
        for image in range(images)
        for i, text in enumerate(["one word or more"] * times + ["few"])
    ]
    assert Slicing(some).compute(sure=False)["A"]["words in the expression"]["3-5"].small is small


def test_nothing_gives_nothing() -> None:
    assert Slicing([]).compute() == {}
