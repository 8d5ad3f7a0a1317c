"""Ranges of settings, said in words."""

from __future__ import annotations

import pytest

from gl_ris.errors import UserError, check_ranges


@pytest.mark.parametrize(
    ("wanted", "inside", "outside"),
    [
        ("at least 1", [1, 2.5, float("inf")], [0.99, -1, float("nan"), None]),
        ("above 0", [1e-9], [0, -1]),
        ("below 1", [-5, 0.99], [1]),
        ("from 0 to 1", [0, 1, 0.5], [-0.1, 1.1, float("nan"), None]),
        ("above 0 and up to 1, or null", [None, 1, 0.1], [0, 1.1]),
        ("from 0 to below 1", [0, 0.5], [1, -0.1]),
        ("at least 12", [12], [11]),
    ],
)
def test_a_range_means_what_its_words_say(
    wanted: str, inside: list[float | None], outside: list[float | None]
) -> None:
    for value in inside:
        check_ranges("Tool: ", {"size": value}, {wanted: "size"})
    for value in outside:
        with pytest.raises(UserError, match=f"^Tool: size is {value}, it must be {wanted}\\.$"):
            check_ranges("Tool: ", {"size": value}, {wanted: "size"})


def test_every_name_is_checked() -> None:
    with pytest.raises(UserError, match=r"post\.top is 0, it must be at least 1"):
        check_ranges("post.", {"nms": 3, "top": 0}, {"at least 1": "nms top"})
