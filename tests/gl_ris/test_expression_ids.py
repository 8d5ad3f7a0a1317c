"""How expressions are found by what files say of them."""

from __future__ import annotations

import pytest

from gl_ris.expression_ids import ExpressionIds, Key, Unknown

# expression 1 is there twice, on two images; ref 8 has two expressions, ref "a" one
KEYS: list[Key] = [(3, 7, 1), (3, 8, 2), (3, 8, 3), (4, 9, 1), (4, "a", "1_1")]
IDS = ExpressionIds(KEYS)


def test_the_name_is_the_shortest_that_is_clear() -> None:
    assert IDS.names == dict(zip(KEYS, ["7_1", "2", "3", "9_1", "1_1"], strict=True))
    assert [IDS.named(name) for name in IDS.names.values()] == KEYS
    assert IDS.named("8_2") == KEYS[1]


@pytest.mark.parametrize(
    ("ids", "place"),
    [
        ({"image_id": 3, "sent_id": 1}, 0),
        ({"image_id": "4", "sent_id": "1"}, 3),
        ({"sent_id": 1, "ref_id": 9}, 3),
        ({"sent_id": 2}, 1),
        ({"ref_id": "a"}, 4),
        ({"image_id": 3, "ref_id": 7, "sent_id": None}, 0),
    ],
)
def test_ids_find_the_one_expression(ids: dict[str, int | str], place: int) -> None:
    assert IDS.find(ids) == KEYS[place]


@pytest.mark.parametrize(
    ("ids", "said", "kind"),
    [
        ({"sent_id": 1}, r"sent_id 1 is the name of 2 expressions; give ref_id and sent_id", ValueError),
        ({"ref_id": 8, "image_id": 3}, r"ref_id 8, image_id 3 is the name of 2 expressions", ValueError),
        ({"sent_id": 2, "image_id": 4}, r"sent_id 2, image_id 4 is no expression of the split", Unknown),
        ({"sent_id": 5}, r"sent_id 5 is no expression", Unknown),
        ({"image_id": 3}, r"has neither sent_id nor ref_id", ValueError),
    ],
)
def test_what_is_not_clear_is_said(ids: dict[str, int], said: str, kind: type[ValueError]) -> None:
    with pytest.raises(kind, match=said):
        IDS.find(ids)


def test_names_that_stand_for_two_are_said() -> None:
    with pytest.raises(ValueError, match="1 is the name of 2 expressions"):
        IDS.named("1")
    with pytest.raises(Unknown, match="7 is no expression of the split"):
        IDS.named("7")
    # "1_1" is an expression, and the long name of another one
    both = ExpressionIds([(3, 1, 1), (4, "a", "1_1")])
    with pytest.raises(ValueError, match="1_1 is the name of 2 expressions"):
        both.named("1_1")
