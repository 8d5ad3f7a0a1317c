"""What is left of an expression where parts of it are not read."""

from __future__ import annotations

import pytest

from gl_ris.rerank import ablations

TEXT = "the small star second from the left next to a circle in the bottom right corner"
FIELDS = ("relations", "places", "ordinal", "superlatives", "size")


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (ablations.Relations, {"relations"}),
        (ablations.Places, {"places"}),
        (ablations.Ordinals, {"ordinal"}),
        (ablations.Sizes, {"size"}),
        (ablations.Full, {"relations", "places", "ordinal", "size"}),
    ],
)
def test_a_part_reads_its_own_fields(kind: type[ablations.Full], kept: set[str]) -> None:
    (found,) = kind().read([TEXT])
    assert {name for name in FIELDS if getattr(found, name)} == kept
    assert (found.text, found.head, found.anchors[:1]) == (TEXT, "star", ("circle",))


def test_shuffled_words_are_the_same_words_in_an_order_of_their_own() -> None:
    first, again = ablations.Shuffled().read([TEXT, TEXT])
    assert first == again
    assert first.text != TEXT
    assert sorted(first.text.split()) == sorted(TEXT.split())
