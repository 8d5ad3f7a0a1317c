"""Ranges of settings, said in words."""

from __future__ import annotations

import pytest

from gl_ris.errors import UserError, check_ranges, did_you_mean, unknown_name


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


CLIPS = [
    "RN50",
    "ViT-B-16",
    "ViT-B-32",
    "ViT-B-32-256",
    "ViT-B-32-quickgelu",
    "ViT-L-14",
    "ViT-S-32",
    "ViT-S-16",
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vit-b-32", "ViT-B-32"),
        ("ViT-B/32", "ViT-B-32"),
        ("ViT-B32", "ViT-B-32"),
        ("vitb16", "ViT-B-16"),
        ("ViT-B-32-quick-gelu", "ViT-B-32-quickgelu"),
        ("rn-50", "RN50"),
        ("Vit-L-41", "ViT-L-14"),
        ("bert", None),
    ],
)
def test_the_name_that_is_suggested_has_the_size_and_patch_of_the_one_given(
    name: str, meant: str | None
) -> None:
    assert did_you_mean(name, CLIPS) == (f" Did you mean '{meant}'?" if meant else "")
    hint = f" Did you mean '{meant}'?" if meant else ""
    assert str(unknown_name("CLIP", name, CLIPS)).startswith(f"Unknown CLIP '{name}'.{hint} Available: RN50,")
